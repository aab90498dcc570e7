import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { openEmbedded, type Embedded } from '../../src/embedded/open.js';
import { keepAdminApiKey, keepEncryptionKey } from '../../src/embedded/secrets.js';
import { eventually } from '../support/eventually.js';

const hostFile = join(process.cwd(), 'dist/src/embedded/host.main.js');
const packageDir = join(process.cwd(), 'node_modules/.cache/valkey-package');

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'mosaic-dispatch-embedded-'));
});
afterEach(() => {
  for (const holder of holders.splice(0)) holder.kill('SIGKILL');
  rmSync(dataDir, { recursive: true, force: true });
});

const holders: ChildProcess[] = [];
const forkHolder = (): ChildProcess => {
  const file = join(process.cwd(), 'test/embedded/holder.mjs');
  const holder = fork(file, [dataDir, packageDir], { execArgv: [] });
  holders.push(holder);
  return holder;
};

const open = (): Promise<Embedded> =>
  openEmbedded({
    dataDir,
    hostFile,
    packageDir,
    valkeyServer: null,
    want: { postgres: true, valkey: true },
    log: () => undefined,
  });

async function query(url: string | null, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url ?? '', connectionTimeoutMillis: 2_000 });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function ask<T>(url: string | null, use: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url ?? '', { lazyConnect: true, retryStrategy: () => null });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return await use(redis);
  } finally {
    redis.disconnect();
  }
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const postmasterPid = () =>
  Number(readFileSync(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0]);

async function valkeyPid(url: string | null): Promise<number> {
  const info = await ask(url, (redis) => redis.info('server'));
  return Number(/process_id:(\d+)/.exec(info)?.[1]);
}

describe('the embedded servers', () => {
  test('keep their data over a restart, which takes under five seconds', async () => {
    const first = await open();
    await query(first.databaseUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await ask(first.valkeyUrl, (redis) => redis.set('kept', '42'));
    await first.close();
    const startedMs = performance.now();
    const second = await open();
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    expect(await query(second.databaseUrl, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    expect(await ask(second.valkeyUrl, (redis) => redis.get('kept'))).toBe('42');
    await second.close();
  });

  test('are durable, evict nothing, and let nobody in without the password', async () => {
    const servers = await open();
    const [settings] = await query(
      servers.databaseUrl,
      "SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit, current_setting('listen_addresses') AS listen",
    );
    expect(settings).toEqual({ fsync: 'on', commit: 'on', listen: '127.0.0.1' });
    const config = await ask(servers.valkeyUrl, (redis) =>
      redis.config('GET', 'maxmemory-policy', 'appendonly', 'appendfsync', 'bind'),
    );
    const pairs = config as string[];
    expect(
      Object.fromEntries(pairs.flatMap((name, i) => (i % 2 === 0 ? [[name, pairs[i + 1]]] : []))),
    ).toEqual({
      'maxmemory-policy': 'noeviction',
      appendonly: 'yes',
      appendfsync: 'everysec',
      bind: '127.0.0.1',
    });
    const stranger = (url: string | null) => Object.assign(new URL(url ?? ''), { password: 'wrong' }).href;
    await expect(query(stranger(servers.databaseUrl), 'SELECT 1')).rejects.toThrow(
      'password authentication failed',
    );
    await expect(ask(stranger(servers.valkeyUrl), (redis) => redis.ping())).rejects.toThrow();
    expect(statSync(join(dataDir, 'valkey', 'valkey.conf')).mode & 0o777).toBe(0o600);
    await servers.close();
  });

  test('are stopped when the program that opened them is killed with -9', async () => {
    const holder = forkHolder();
    const [said] = (await once(holder, 'message')) as [{ hostPid: number; valkeyUrl: string }];
    const pids = [said.hostPid, postmasterPid(), await valkeyPid(said.valkeyUrl)];
    expect(pids.map(isAlive)).toEqual([true, true, true]);
    holder.kill('SIGKILL');
    await eventually(() => expect(pids.map(isAlive)).toEqual([false, false, false]));
  });

  test('are taken over by the next start when their host itself was killed with -9', async () => {
    const holder = forkHolder();
    const [said] = (await once(holder, 'message')) as [
      { hostPid: number; databaseUrl: string; valkeyUrl: string },
    ];
    await query(said.databaseUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const orphans = [postmasterPid(), await valkeyPid(said.valkeyUrl)];
    process.kill(said.hostPid, 'SIGKILL');
    await eventually(() => expect(isAlive(said.hostPid)).toBe(false));
    expect(orphans.map(isAlive)).toEqual([true, true]);
    const next = await open();
    // Ended they are; whoever adopted them may take a moment to notice.
    await eventually(() => expect(orphans.map(isAlive)).toEqual([false, false]));
    expect(await query(next.databaseUrl, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    await next.close();
  });

  test('are started again on the same address when they die, with what was committed', async () => {
    const servers = await open();
    await query(servers.databaseUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const killed = [postmasterPid(), await valkeyPid(servers.valkeyUrl)];
    for (const pid of killed) process.kill(pid, 'SIGKILL');
    await eventually(() => expect(killed.map(isAlive)).toEqual([false, false]));
    await eventually(async () => {
      expect(await query(servers.databaseUrl, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
      expect(await ask(servers.valkeyUrl, (redis) => redis.ping())).toBe('PONG');
    });
    await servers.close();
  });

  test('refuse a second start on the same directory, in a sentence that says what to do', async () => {
    const servers = await open();
    await expect(open()).rejects.toThrow(/DATA_DIR .* is in use by another start .* Fix: /);
    expect(await query(servers.databaseUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await servers.close();
  });

  test('say which setting is at fault when VALKEY_SERVER is no server', async () => {
    const refused = openEmbedded({
      dataDir,
      hostFile,
      valkeyServer: join(dataDir, 'nothing-here'),
      want: { postgres: false, valkey: true },
      log: () => undefined,
    });
    await expect(refused).rejects.toThrow(/VALKEY_SERVER names .*nothing-here, which cannot be used/);
  });
});

describe('a kept secret', () => {
  test('is made once, readable by its owner alone, and the same ever after', () => {
    const first = keepAdminApiKey(dataDir);
    expect(first).toEqual({ value: expect.stringMatching(/^mdk_[A-Za-z0-9_-]{43}$/), made: true });
    expect(keepAdminApiKey(dataDir)).toEqual({ value: first.value, made: false });
    expect(statSync(join(dataDir, 'admin-api-key')).mode & 0o777).toBe(0o600);
    expect(Buffer.from(keepEncryptionKey(dataDir).value, 'base64')).toHaveLength(32);
  });
});
