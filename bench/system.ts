import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openEmbedded } from '../src/embedded/open.js';
import { findFreePort } from '../src/embedded/server-process.js';

/** The whole service as it is deployed: every process of the Procfile, its own Postgres and Valkey, and the stub. */
export type BenchSystem = {
  readonly url: string;
  readonly key: string;
  readonly databaseUrl: string;
  readonly stub: ChildProcess;
  /** Process ids by name; the servers' too. */
  readonly pids: Readonly<Record<string, number>>;
  close(): Promise<void>;
};

const mains = {
  web: 'src/api/web.main.js',
  dispatch: 'src/workers/dispatch.main.js',
  transitions: 'src/workers/transitions.main.js',
  scheduler: 'src/workers/scheduler.main.js',
};

const built = fileURLToPath(new URL('..', import.meta.url));

export async function openBenchSystem(): Promise<BenchSystem> {
  const dataDir = mkdtempSync(join(tmpdir(), 'mosaic-bench-'));
  const servers = await openEmbedded({
    dataDir,
    valkeyServer: process.env['VALKEY_SERVER'] ?? null,
    want: { postgres: true, valkey: true },
    log: () => undefined,
  });
  const key = `mdk_${randomBytes(24).toString('hex')}`;
  const port = await findFreePort();
  const env = {
    ...process.env,
    PORT: String(port),
    DATABASE_URL: servers.databaseUrl ?? '',
    VALKEY_URL: servers.valkeyUrl ?? '',
    ADMIN_API_KEY: key,
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    BACKEND_ALLOW_CIDRS: '127.0.0.0/8',
  };
  const log = openSync(join(dataDir, 'processes.log'), 'a');
  const start = (file: string): ChildProcess =>
    fork(join(built, file), {
      env,

      stdio: ['ignore', log, log, 'ipc'],
    });
  await ended(start('src/db/release.main.js'));
  const children = Object.entries(mains).map(([name, file]) => [name, start(file)] as const);
  const stub = fork(join(built, 'bench/stub.main.js'), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const stubPort = await new Promise<number>((resolve) => {
    stub.once('message', (message) => resolve((message as { port: number }).port));
  });
  const url = `http://127.0.0.1:${port}`;
  await untilOk(async () => (await fetch(`${url}/readyz`)).ok);
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ name: 'stub', protocol: 'gateway', url: `http://127.0.0.1:${stubPort}` });
  const made = await fetch(`${url}/v1/backends`, { method: 'POST', headers, body });
  if (made.status !== 201) throw new Error(`the backend was refused: ${await made.text()}`);
  const { id } = (await made.json()) as { id: string };
  await untilOk(async () => {
    const seen = (await (await fetch(`${url}/v1/backends/${id}`, { headers })).json()) as {
      health: { status: string };
    };
    return seen.health.status === 'up';
  });
  return {
    url,
    key,
    databaseUrl: servers.databaseUrl ?? '',
    stub,
    pids: Object.fromEntries(children.map(([name, child]) => [name, child.pid ?? 0])),
    async close() {
      for (const [, child] of children) child.kill('SIGTERM');
      await Promise.all(children.map(([, child]) => ended(child)));
      stub.disconnect();
      await servers.close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => {
    child.once('exit', () => resolve());
  });
}

async function untilOk(look: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await look().catch(() => false))) {
    if (performance.now() > deadline) throw new Error('the system did not get ready within 30 s');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
