/** The programs that are walked through, started as anybody would start them. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { root } from '../build.mjs';
import { send } from './http.mjs';
import { pause } from './orchestrator.mjs';

export const temporary = () => mkdtempSync(join(tmpdir(), 'mosaic-walk-'));

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject).listen(0, '127.0.0.1', () => {
      const { port } = /** @type {any} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

/**
 * Runs a program of dist to its end, or until `stop`; its environment is what is given and a PATH.
 *
 * @param {string} file below dist @param {Record<string, string>} env @param {{ cwd?: string, args?: string[] }} [options]
 */
export function run(file, env, { cwd = root, args = [] } = {}) {
  const child = spawn(process.execPath, [join(root, 'dist', file), ...args], {
    cwd,
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => (out += chunk));
  child.stderr.on('data', (chunk) => (err += chunk));
  const ended = new Promise((resolve) =>
    child.once('close', (code, signal) => resolve({ code, signal, out, err })),
  );
  return {
    pid: child.pid ?? 0,
    ended,
    out: () => out,
    err: () => err,
    logged: () => out.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : [])),
    async within(timeoutMs) {
      const end = await Promise.race([ended, pause(timeoutMs).then(() => null)]);
      if (end === null) child.kill('SIGKILL');
      return end ?? { code: 'it did not end', signal: null, out, err };
    },
    kill: (signal) => child.kill(signal),
  };
}

/** @param {Record<string, string>} env @param {{ cwd?: string }} [options] */
export async function startSystem(env, { cwd } = {}) {
  const program = run('src/start.main.js', env, cwd === undefined ? {} : { cwd });
  const url = `http://127.0.0.1:${env['PORT']}`;
  for (const startedMs = performance.now(); ; await pause(100)) {
    const status = await send(`${url}/readyz`).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 200 && program.err().includes('ready after')) break;
    const end = await Promise.race([program.ended, pause(0).then(() => null)]);
    if (end !== null || performance.now() - startedMs > 180_000) {
      program.kill('SIGKILL');
      throw new Error(`the system did not start:\n${program.out().slice(-2000)}\n${program.err()}`);
    }
  }
  const dataDir = env['DATA_DIR'] ?? '';
  const text = (name) => readFileSync(join(dataDir, name), 'utf8').trim();
  return {
    ...program,
    url,
    dataDir,
    adminKey: env['ADMIN_API_KEY'] ?? text('admin-api-key'),
    encryptionKey: text('encryption-key'),
    databaseUrl: () =>
      `postgres://mosaic:${text('postgres-password')}@127.0.0.1:${text('postgres/postmaster.pid').split('\n')[3]}/mosaic`,
    valkeyUrl: () => valkeyUrlOf(text('valkey/valkey.conf')),
    valkeyPid: () => findValkeyPid(valkeyUrlOf(text('valkey/valkey.conf'))),
  };
}

function valkeyUrlOf(settings) {
  const [, port] = /^port (\d+)$/m.exec(settings) ?? [];
  const [, password] = /^requirepass (\S+)$/m.exec(settings) ?? [];
  return `redis://:${password}@127.0.0.1:${port}/0`;
}

async function findValkeyPid(url) {
  const client = new Redis(url);
  try {
    return Number(/process_id:(\d+)/.exec(await client.info('server'))?.[1]);
  } finally {
    client.disconnect();
  }
}
