/**
 * `npm start`, `npm run demo` and `npm test` on a fresh clone: installs what is missing, builds what is stale, then
 * becomes the wanted program. It needs nothing but Node and npm.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildIfStale, root } from './build.mjs';

/** Each program: what Node is given, and what is added to the environment. @type {Record<string, (args: string[]) => string[]>} */
const programs = {
  start: (args) => ['--enable-source-maps', join(root, 'dist/src/start.main.js'), ...args],
  demo: (args) => ['--enable-source-maps', join(root, 'dist/examples/demo.main.js'), ...args],
  bench: (args) => [join(root, 'dist/bench/run.main.js'), ...args],
  build: () => [],
  test: (args) => [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    join(root, 'node_modules/jest/bin/jest.js'),
    ...args,
  ],
};

const [name = '', ...args] = process.argv.slice(2);
const program = programs[name];
if (program === undefined)
  stop(64, `unknown program "${name}"; there are ${Object.keys(programs).join(', ')}`);

refuseOldNode();
try {
  installIfStale();
  buildIfStale({ tolerateTypeErrors: name === 'test' });
} catch (error) {
  stop(1, /** @type {Error} */ (error).message);
}
const argv = program(args);
if (argv.length > 0) become(argv);

function refuseOldNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const wanted = /(\d+)\.(\d+)/.exec(engines.node) ?? [];
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [wantedMajor, wantedMinor] = [Number(wanted[1]), Number(wanted[2])];
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return;
  stop(
    1,
    `Node ${engines.node} is needed, and this is ${process.versions.node}. Fix: nvm install ${wantedMajor}, or https://nodejs.org`,
  );
}

/** The lock file's own bytes are kept beside what was installed from them: times of change lie after a checkout. */
function installIfStale() {
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const installed = join(root, 'node_modules', '.installed-from');
  if (existsSync(installed) && readFileSync(installed, 'utf8') === lock) return;
  if (isInstalledByNpm()) {
    writeFileSync(installed, lock);
    return;
  }
  const startedMs = performance.now();
  process.stderr.write('installing what package-lock.json names (npm ci --ignore-scripts) …\n');
  // npm itself says where it lives; without it, a shell finds it, also where it is npm.cmd.
  const npm = process.env['npm_execpath'];
  const flags = ['ci', '--ignore-scripts', '--no-fund', '--no-audit', '--loglevel=error'];
  const options = { cwd: root, stdio: /** @type {const} */ (['ignore', 2, 2]) };
  const { status } =
    npm !== undefined && /\.c?js$/.test(npm)
      ? spawnSync(process.execPath, [npm, ...flags], options)
      : spawnSync(['npm', ...flags].join(' '), { ...options, shell: true });
  if (status !== 0) throw new Error('npm ci failed; npm says why above');
  writeFileSync(installed, lock);
  process.stderr.write(`installed in ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`);
}

/** True when someone ran `npm ci` by hand after the lock file was last changed. */
function isInstalledByNpm() {
  const record = join(root, 'node_modules', '.package-lock.json');
  return existsSync(record) && statSync(record).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
}

/** Node cannot replace itself by another program, so signals are handed on and the exit code is handed back. */
/** @param {string[]} argv */
function become(argv) {
  const child = spawn(process.execPath, argv, { cwd: root, stdio: 'inherit' });
  const signals = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);
  for (const signal of signals) {
    process.on(signal, () => {
      // A terminal sends Ctrl+C to the whole group: the child has it already, and a second one means "at once".
      if (!(signal === 'SIGINT' && process.stdin.isTTY)) child.kill(signal);
    });
  }
  child.on('exit', (code, signal) => {
    if (signal === null) return process.exit(code ?? 1);
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

/** @param {number} code @param {string} sentence @returns {never} */
function stop(code, sentence) {
  process.stderr.write(`${sentence}\n`);
  process.exit(code);
}
