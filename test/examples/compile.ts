import { transformFile } from '@swc/core';
import { mkdir, mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Compiles a folder of TypeScript into a new temporary folder and returns its path.
 * The example is started as its users start it, as a process of its own, and a build that may be older than the
 * sources would be the wrong thing to test.
 */
export async function compileFolder(folder: string): Promise<string> {
  const out = await mkdtemp(join(tmpdir(), 'compiled-'));
  await writeFile(join(out, 'package.json'), '{"type":"module"}');
  for (const name of await readdir(folder, { recursive: true })) {
    if (!name.endsWith('.ts')) continue;
    const { code } = await transformFile(join(folder, name), {
      jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
      module: { type: 'es6' },
    });
    const target = join(out, name.replace(/\.ts$/, '.js'));
    await mkdir(join(target, '..'), { recursive: true });
    await writeFile(target, code);
  }
  return out;
}
