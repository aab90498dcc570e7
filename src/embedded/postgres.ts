import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Client } from 'pg';
import { findClosedDirectory, findPostgresAccount, giveDirectory } from './postgres-account.js';
import type { PostgresAccount } from './postgres-account.js';
import { findPostgresBinaries, type PostgresBinaries } from './postgres-binaries.js';
import { keepPostgresPassword } from './secrets.js';
import { findFreePort, runCommand, startServerProcess, type ServerProcess } from './server-process.js';

const role = 'mosaic';
const database = 'mosaic';
const startLimitMs = 60_000;
const refusalLimitMs = 15_000;

export type InstalledPostgres = {
  readonly binaries: PostgresBinaries;
  readonly account: PostgresAccount;
  readonly clusterDir: string;
  readonly logFile: string;
  readonly password: string;
};

export type RunningPostgres = {
  readonly url: string;
  readonly version: string;
  readonly server: ServerProcess;
};

/** Makes the cluster at the first start (about half a second); a later start finds it. Throws with the cure. */
export async function installPostgres(
  dataDir: string,
  progress: (text: string) => void,
): Promise<InstalledPostgres> {
  const account = await findPostgresAccount();
  const closed = account.account === undefined ? null : findClosedDirectory(dataDir);
  if (closed !== null) {
    throw new Error(
      `Postgres refuses to run as root, and the account nobody cannot reach ${closed}. ` +
        'Fix: start as an ordinary user, or set DATA_DIR to a directory that everyone may enter, for example DATA_DIR=/var/lib/mosaic-dispatch',
    );
  }
  const installed = {
    binaries: findPostgresBinaries(dataDir, account.account),
    account,
    clusterDir: join(dataDir, 'postgres'),
    logFile: join(dataDir, 'logs', 'postgres.log'),
    password: keepPostgresPassword(dataDir).value,
  };
  if (existsSync(join(installed.clusterDir, 'PG_VERSION'))) {
    giveDirectory(installed.clusterDir, account.account);
  } else {
    progress('Postgres: making a new cluster');
    await makeCluster(installed, dataDir);
  }
  return installed;
}

async function makeCluster(installed: InstalledPostgres, dataDir: string): Promise<void> {
  const { account, clusterDir } = installed;
  // What an interrupted initdb left has no data in it: PG_VERSION is missing, and initdb wants an empty directory.
  const draft = `${clusterDir}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  giveDirectory(draft, account.account);
  // initdb reads the password from a file alone; it lies where the account may read it, and only for this run.
  const secretDir = join(dataDir, 'postgres.setup');
  rmSync(secretDir, { recursive: true, force: true });
  mkdirSync(secretDir, { mode: 0o700 });
  const secretFile = join(secretDir, 'password');
  writeFileSync(secretFile, installed.password, { mode: 0o600 });
  giveDirectory(secretDir, account.account);
  const argv = [
    ...account.prefix,
    installed.binaries.initdb,
    `--pgdata=${draft}`,
    `--username=${role}`,
    `--pwfile=${secretFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-instructions',
  ];
  const made = await runCommand(argv, {
    timeoutMs: startLimitMs,
    account: account.account,
    cwd: '/',
  });
  rmSync(secretDir, { recursive: true, force: true });
  if (made.code !== 0) throw new Error(explain('initdb failed', made.output));
  rmSync(clusterDir, { recursive: true, force: true });
  renameSync(draft, clusterDir);
}

/**
 * Starts the server on a free loopback port, or on `port`, and waits until it answers.
 * After a kill -9 the old lock file and shared memory refuse a new postmaster for about two seconds: it is tried again.
 */
export async function startPostgres(installed: InstalledPostgres, port?: number): Promise<RunningPostgres> {
  const startedMs = performance.now();
  const deadline = startedMs + startLimitMs;
  for (;;) {
    const chosen = port ?? (await findFreePort());
    const server = await spawnPostgres(installed, chosen);
    const version = await waitUntilAnswering(server, urlOf(installed, chosen, 'postgres'), deadline);
    if (version !== null) {
      await makeDatabase(urlOf(installed, chosen, 'postgres'));
      return { url: urlOf(installed, chosen, database), version, server };
    }
    const output = server.output();
    await server.stop('SIGINT', 5_000);
    const isPassing = /lock file|shared memory block|could not bind|Address already in use/i.test(output);
    if (!isPassing || performance.now() > startedMs + refusalLimitMs)
      throw new Error(explain('Postgres did not start', output));
    await wait(200);
  }
}

async function spawnPostgres(installed: InstalledPostgres, port: number): Promise<ServerProcess> {
  const { account, binaries, clusterDir, logFile } = installed;
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    port: String(port),
    max_connections: '200',
    // Durability is what this server is for: these are the defaults, written down so that no file changes them.
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    log_timezone: 'UTC',
    timezone: 'UTC',
    lc_messages: 'C',
  };
  const argv = [
    ...account.prefix,
    binaries.postgres,
    '-D',
    clusterDir,
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ];
  return startServerProcess({ argv, account: account.account, cwd: '/', logFile });
}

const urlOf = (installed: InstalledPostgres, port: number, name: string) =>
  `postgres://${role}:${installed.password}@127.0.0.1:${port}/${name}`;

/** The server's version once it answers; null when the process ended instead. */
async function waitUntilAnswering(
  server: ServerProcess,
  url: string,
  deadline: number,
): Promise<string | null> {
  while (server.isRunning() && performance.now() < deadline) {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rows } = await client.query<{ server_version: string }>('SHOW server_version');
      return rows[0]?.server_version ?? 'unknown';
    } catch {
      await wait(25);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  return null;
}

async function makeDatabase(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    const known = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [database]);
    if (known.rowCount === 0) await client.query(`CREATE DATABASE ${database}`);
  } finally {
    await client.end();
  }
}

/** Stops the postmaster that a killed host left behind on this cluster; what is not running is no error. */
export async function stopOrphanedPostgres(installed: InstalledPostgres): Promise<void> {
  if (!existsSync(join(installed.clusterDir, 'postmaster.pid'))) return;
  const argv = [
    ...installed.account.prefix,
    installed.binaries.pgCtl,
    'stop',
    '--silent',
    '--mode=fast',
    `--pgdata=${installed.clusterDir}`,
  ];
  await runCommand(argv, { timeoutMs: 20_000, account: installed.account.account, cwd: '/' });
}

function explain(what: string, output: string): string {
  const musl = /not found|ld-linux|error while loading shared libraries/i.test(output)
    ? ' Fix: this platform cannot run the shipped binaries; set DATABASE_URL to a Postgres of your own.'
    : '';
  return `${what}: ${output === '' ? 'it said nothing' : output}${musl}`;
}
