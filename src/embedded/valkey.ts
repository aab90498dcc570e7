import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { HostRequest } from './messages.js';
import { findFreePort, startServerProcess, type ServerProcess } from './server-process.js';
import { findValkeyBinary, type ValkeyBinary } from './valkey-binary.js';

const startLimitMs = 30_000;

export type InstalledValkey = {
  readonly binary: ValkeyBinary;
  readonly directory: string;
  readonly logFile: string;
  readonly password: string;
};

export type RunningValkey = {
  readonly url: string;
  readonly version: string;
  readonly server: ServerProcess;
};

/** Finds or fetches the server; the password is new for each start of the host, for nothing needs the old one. */
export async function installValkey(
  request: Omit<HostRequest, 'want'>,
  progress: (text: string) => void,
): Promise<InstalledValkey> {
  const { dataDir, valkeyServer } = request;
  const packageDir = request.packageDir ?? join(dataDir, 'valkey-package');
  const binary = await findValkeyBinary(valkeyServer, packageDir, progress);
  const directory = join(dataDir, 'valkey');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const password = randomBytes(24).toString('base64url');
  return { binary, directory, logFile: join(dataDir, 'logs', 'valkey.log'), password };
}

/** Starts the server on a free loopback port, or on `port`, and waits until its data are loaded. */
export async function startValkey(installed: InstalledValkey, port?: number): Promise<RunningValkey> {
  const deadline = performance.now() + startLimitMs;
  for (;;) {
    const chosen = port ?? (await findFreePort());
    const server = await spawnValkey(installed, chosen);
    const url = `redis://:${installed.password}@127.0.0.1:${chosen}/0`;
    const version = await waitUntilAnswering(server, url, deadline);
    if (version !== null) return { url, version, server };
    const output = server.output();
    await server.stop('SIGTERM', 5_000);
    const isPassing = /Address already in use|Could not create server TCP/i.test(output);
    if (!isPassing || performance.now() > deadline) throw new Error(`Valkey did not start: ${output}`);
    await wait(100);
  }
}

async function spawnValkey(installed: InstalledValkey, port: number): Promise<ServerProcess> {
  const { binary, directory, logFile, password } = installed;
  const settings = [
    'bind 127.0.0.1',
    `port ${port}`,
    'protected-mode yes',
    `requirepass ${password}`,
    `dir ${JSON.stringify(resolve(directory))}`,
    // The append-only file is the durability; snapshots beside it would only cost writes.
    'appendonly yes',
    'appendfsync everysec',
    'save ""',
    // BullMQ's keys are not a cache: evicting one loses a ring without a word.
    'maxmemory-policy noeviction',
    'daemonize no',
    'pidfile ""',
  ];
  const file = join(directory, 'valkey.conf');
  // The password stands in this file and not on the command line, which every account may read.
  rmSync(file, { force: true });
  writeFileSync(file, `${settings.join('\n')}\n`, { mode: 0o600 });
  const argv = [...binary.prefix, binary.command, file];
  const server = await startServerProcess({ argv, cwd: directory, logFile });
  return server;
}

async function waitUntilAnswering(
  server: ServerProcess,
  url: string,
  deadline: number,
): Promise<string | null> {
  while (server.isRunning() && performance.now() < deadline) {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, enableReadyCheck: false });
    client.on('error', () => undefined);
    try {
      await client.connect();
      // INFO answers while the file is still being loaded; a PING does not.
      await client.ping();
      const info = await client.info('server');
      return /valkey_version:(\S+)/.exec(info)?.[1] ?? /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown';
    } catch {
      await wait(20);
    } finally {
      client.disconnect();
    }
  }
  return null;
}

/** Stops the server that a killed host left behind in this directory; the caller holds the directory's lock. */
export async function stopOrphanedValkey(dataDir: string): Promise<void> {
  const directory = join(dataDir, 'valkey');
  const configuration = readIfPresent(join(directory, 'valkey.conf'));
  const port = /^port (\d+)$/m.exec(configuration)?.[1];
  const password = /^requirepass (\S+)$/m.exec(configuration)?.[1];
  if (port === undefined || password === undefined) return;
  // Only the server itself knows this password: a stranger who got the port or the pid since is not stopped.
  const client = new Redis(`redis://:${password}@127.0.0.1:${port}/0`, {
    lazyConnect: true,
    retryStrategy: () => null,
    connectTimeout: 1_000,
    commandTimeout: 5_000,
    maxRetriesPerRequest: 0,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.shutdown();
  } catch {
    // It is not running, or it went away while it was being asked: both are what was wanted.
  } finally {
    client.disconnect();
  }
}

const readIfPresent = (file: string): string => (existsSync(file) ? readFileSync(file, 'utf8') : '');
