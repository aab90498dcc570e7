import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const author = [
  '-c',
  'user.name=Mosaic demo',
  '-c',
  'user.email=demo@example.invalid',
  '-c',
  'commit.gpgSign=false',
];

/** What of the project is copied; what is not there is left out. */
const folders = ['src', 'examples', 'test', 'docs', 'bench', 'scripts'];
const texts = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'SECURITY.md'];
const manifests = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'Procfile'];
const copied = [...folders, ...texts, ...manifests];

export const makeGit =
  (repository: string) =>
  async (...args: string[]): Promise<string> => {
    const { stdout } = await run('git', ['-C', repository, ...args], { maxBuffer: 16 * 1024 * 1024 });
    return stdout.trimEnd();
  };

/**
 * Makes the repository that the demo's tasks work on, from the project's own sources; or, if an earlier run has
 * made it, brings its main branch to what the sources are now. The branches of earlier tasks stay.
 */
export async function prepareRepository(projectRoot: string, repository: string): Promise<void> {
  const git = makeGit(repository);
  await mkdir(repository, { recursive: true });
  if (!existsSync(join(repository, '.git'))) {
    await git('init', '--quiet', '--initial-branch=main');
    // Agents push while others clone: a clean-up started by one of them would get in the way of all.
    await git('config', 'gc.auto', '0');
    await git('config', 'receive.autogc', 'false');
  }
  // Left by a run that was killed while git was writing; nobody else writes here.
  await rm(join(repository, '.git/index.lock'), { force: true });
  const old = (await readdir(repository)).filter((name) => name !== '.git');
  await Promise.all(old.map((name) => rm(join(repository, name), { recursive: true, force: true })));
  for (const name of copied) {
    const from = join(projectRoot, name);
    if (existsSync(from)) await cp(from, join(repository, name), { recursive: true });
  }
  await git('add', '--all');
  const changed = await git('status', '--porcelain');
  if (changed !== '')
    await git(...author, 'commit', '--quiet', '--no-verify', '-m', 'Copy the sources of the project');
}
