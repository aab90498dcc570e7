/** Builds dist when it is missing or stale. Plain JavaScript: it runs before anything is installed or compiled. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const sources = ['src', 'examples', 'bench'];
const settings = ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'];
const dist = join(root, 'dist');
const stamp = join(dist, '.built-from');

/**
 * Compares a hash of all sources with the one that dist was built from: times of change say nothing after a checkout
 * of another branch. With `tolerateTypeErrors` the compiler's complaints are shown and what it emitted is used: tests
 * of one part then run while another is being written, and `npm run typecheck` still refuses both.
 *
 * @param {{ tolerateTypeErrors?: boolean, say?: (line: string) => void }} [options]
 */
export function buildIfStale({
  tolerateTypeErrors = false,
  say = (line) => process.stderr.write(`${line}\n`),
} = {}) {
  const wanted = hashSources();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  const startedMs = performance.now();
  // Into a draft first, then file by file: a process that runs from dist never meets a half-written module.
  const draft = join(root, 'node_modules', '.cache', `build-${process.pid}`);
  rmSync(draft, { recursive: true, force: true });
  try {
    const isClean = compile(draft);
    if (!isClean && !(tolerateTypeErrors && existsSync(join(draft, 'src')))) {
      throw new Error('the sources do not compile; the compiler says why above');
    }
    for (const folder of sources) copyAssets(join(root, folder), join(draft, folder));
    mirror(draft, dist);
    // A build with faults stays stale, so that the next one shows them again.
    if (isClean) writeFileSync(stamp, wanted);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  say(`built dist in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
}

/** @param {string} draft */
function compile(draft) {
  const compiler = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '-p', 'tsconfig.build.json', '--outDir', draft];
  // The compiler's complaints go to stderr: stdout belongs to what is run afterwards.
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: ['ignore', 2, 2] });
  return status === 0;
}

function hashSources() {
  const hash = createHash('sha256');
  for (const file of [...settings, ...sources.flatMap((folder) => listFiles(join(root, folder)))]) {
    const path = file.startsWith(root) ? file : join(root, file);
    if (!existsSync(path)) continue;
    hash
      .update(`${relative(root, path).replaceAll(sep, '/')}\0`)
      .update(readFileSync(path))
      .update('\0');
  }
  return hash.digest('hex');
}

/** @param {string} folder @returns {string[]} */
function listFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** What is not compiled (pages, styles, JSONL) is copied beside the modules that read it. */
/** @param {string} from @param {string} to */
function copyAssets(from, to) {
  for (const file of listFiles(from).filter((name) => !name.endsWith('.ts'))) {
    const copy = join(to, relative(from, file));
    mkdirSync(dirname(copy), { recursive: true });
    cpSync(file, copy);
  }
}

/** Makes `to` equal to `from`: each changed file is replaced at once, and what is no longer made is removed. */
/** @param {string} from @param {string} to */
function mirror(from, to) {
  const kept = new Set(['.built-from']);
  for (const file of listFiles(from)) {
    const name = relative(from, file);
    const target = join(to, name);
    kept.add(name);
    if (existsSync(target) && readFileSync(target).equals(readFileSync(file))) continue;
    mkdirSync(dirname(target), { recursive: true });
    cpSync(file, `${target}.${process.pid}`);
    renameSync(`${target}.${process.pid}`, target);
  }
  for (const file of listFiles(to)) {
    const name = relative(to, file);
    // A name that ends in a process id is another build's file on its way.
    if (!kept.has(name) && !/\.\d+$/.test(name)) rmSync(file, { force: true });
  }
}
