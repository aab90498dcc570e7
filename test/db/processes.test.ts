import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import knexPackage from 'knex';
import { Client } from 'pg';
import { findUnrung } from '../../src/db/due.js';
import { countFenced, finishFence, listFenced, listOpenFences, raiseFence } from '../../src/db/fences.js';
import { openLeadership } from '../../src/db/leadership.js';
import { migrate, schemaState } from '../../src/db/migrate.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { leaseMs, openLease, type Lease } from '../../src/db/processes.js';
import type { Logger } from '../../src/logger.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { addProcess, addTasks, anId } from '../support/rows.js';

const logger: Logger = { info() {}, warn() {}, error() {}, debug() {} };

let database: TestDatabase;
let db: Db;
const closers: (() => Promise<void>)[] = [];
beforeAll(async () => {
  database = await openTestDatabase();
  db = openDb({ url: database.url, name: 'test', max: 4 });
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await run('TRUNCATE tasks, task_payloads, task_events, processes, fences');
});
afterAll(async () => {
  await db.close();
  await database.close();
});

const run = <R extends Record<string, unknown>>(text: string, values: unknown[] = []) =>
  db.query<R>({ text }, values);

async function lease(name: 'web' | 'dispatch' = 'dispatch'): Promise<Lease> {
  const opened = await openLease({ url: database.url, name, id: anId('proc'), logger });
  closers.push(() => opened.close());
  return opened;
}

describe('a lease', () => {
  test('is one row of the process, good for six seconds from database time', async () => {
    const mine = await lease();
    expect(mine.holds()).toBe(true);
    const [row] = await run<{ ms: number }>(
      'SELECT extract(epoch FROM lease_until - clock_timestamp())::float8 * 1000 AS ms FROM processes WHERE id = $1',
      [mine.id],
    );
    expect(row?.ms).toBeGreaterThan(leaseMs - 1500);
    expect(row?.ms).toBeLessThanOrEqual(leaseMs);
  });

  test('that is not renewed lets its tasks go, and one that is renewed has them again', async () => {
    const mine = await lease();
    const [id] = (await addTasks(db)) as [string];
    await run('UPDATE tasks SET leased_by = $1', [mine.id]);
    expect(await findUnrung(db, 0, 10)).toEqual([]);
    await run(`UPDATE processes SET lease_until = clock_timestamp() - interval '1 millisecond'`);
    expect(await findUnrung(db, 0, 10)).toEqual([id]);
    await mine.renew();
    expect(await findUnrung(db, 0, 10)).toEqual([]);
  });

  test('is given back when its process closes', async () => {
    const mine = await lease();
    await addTasks(db);
    await run('UPDATE tasks SET leased_by = $1', [mine.id]);
    await mine.close();
    expect(mine.holds()).toBe(false);
    expect(await findUnrung(db, 0, 10)).toHaveLength(1);
    expect(await run('SELECT 1 FROM processes')).toEqual([]);
  });

  test('outlives the connection that it is renewed on', async () => {
    const mine = await lease();
    await run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE application_name = 'mosaic-dispatch lease dispatch' AND datname = current_database()`);
    await run(`UPDATE processes SET lease_until = clock_timestamp() - interval '1 second' WHERE id = $1`, [
      mine.id,
    ]);
    await eventually(async () => {
      await mine.renew();
      expect(
        await run('SELECT 1 FROM processes WHERE id = $1 AND lease_until > clock_timestamp()', [mine.id]),
      ).toHaveLength(1);
    });
  });

  test('of a web process keeps the door open, and the end of a gap is remembered', async () => {
    await run(`UPDATE intake SET open_until = clock_timestamp() - interval '1 hour', resumed_at = NULL`);
    await lease('dispatch');
    expect(await run('SELECT resumed_at FROM intake')).toEqual([{ resumed_at: null }]);
    const web = await lease('web');
    const [gap] = await run<{ resumed_at: Date }>(
      'SELECT resumed_at, open_until > now() AS open FROM intake',
    );
    expect(gap).toMatchObject({ open: true });
    await web.renew();
    expect(await run('SELECT resumed_at FROM intake')).toEqual([{ resumed_at: gap?.resumed_at }]);
  });

  test('cannot be had without a database', async () => {
    const url = new URL(database.url);
    url.pathname = '/no_such_database';
    await expect(openLease({ url: url.href, name: 'web', id: 'proc_x', logger })).rejects.toThrow();
  });
});

describe('a fence', () => {
  const stop = (workspaceId: string | null) => ({ workspaceId, actor: 'admin', reason: 'enough' });

  test('counts what it matches, binds every living process, and is raised before it is answered', async () => {
    const mine = await lease();
    await addTasks(db, 2, { workspaceId: 'w1' });
    await addTasks(db, 1, { workspaceId: 'w2' });
    expect([await countFenced(db, 'w1'), await countFenced(db, null)]).toEqual([2, 3]);
    const before = new Date(Date.now() - 60_000);
    const raised = raiseFence(db, stop('w1'));
    // The bell that a process hears: here it is rung by hand until the stop is answered.
    let answered = false;
    void raised.then(() => (answered = true));
    while (!answered) await mine.renew();
    expect(await raised).toMatchObject({ matched: 2 });
    expect(mine.isFenced({ createdAt: before, workspaceId: 'w1' })).toBe(true);
    expect(mine.isFenced({ createdAt: before, workspaceId: 'w2' })).toBe(false);
    expect(mine.isFenced({ createdAt: new Date(Date.now() + 60_000), workspaceId: 'w1' })).toBe(false);
  });

  test('does not wait for a process whose lease ran out', async () => {
    await addProcess(db, -1);
    const startedAt = performance.now();
    await raiseFence(db, stop(null));
    expect(performance.now() - startedAt).toBeLessThan(1000);
  });

  test('lists its tasks until they are cancelled, and is open until it is finished', async () => {
    const ids = await addTasks(db, 3);
    const { id } = await raiseFence(db, stop(null));
    const [fence] = await listOpenFences(db);
    expect(fence).toMatchObject({ id, workspaceId: null, isSettled: false });
    expect([...(await listFenced(db, fence!, 10))].sort()).toEqual(ids.toSorted());
    await run('UPDATE tasks SET cancel_requested_at = now()');
    expect(await listFenced(db, fence!, 10)).toEqual([]);
    await run(`UPDATE fences SET at = now() - interval '11 seconds'`);
    expect(await listOpenFences(db)).toMatchObject([{ isSettled: true }]);
    await finishFence(db, id);
    expect(await listOpenFences(db)).toEqual([]);
  });
});

describe('leadership', () => {
  const contend = () => {
    const one = openLeadership({ url: database.url, logger });
    closers.push(() => one.close());
    return one;
  };

  test('is had by one of two, and passes on when the leader closes or its connection is killed', async () => {
    const both = [contend(), contend()];
    const leaders = () => both.filter((one) => one.isLeader());
    const [first] = await eventually(() => {
      expect(leaders()).toHaveLength(1);
      return leaders();
    });
    await first?.close();
    expect(first?.isLeader()).toBe(false);
    const heir = both.find((one) => one !== first);
    await eventually(() => expect(heir?.isLeader()).toBe(true));

    const third = contend();
    const rivals = [heir, third];
    let most = 0;
    await run(`SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
      WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()`);
    await eventually(() => expect(heir?.isLeader()).toBe(false));
    await eventually(() => {
      const now = rivals.filter((one) => one?.isLeader()).length;
      most = Math.max(most, now);
      expect(now).toBe(1);
    });
    expect(most).toBe(1);
  });
});

describe('migrations', () => {
  const emptyDatabase = async (): Promise<string> => {
    const name = `fresh_${Math.random().toString(36).slice(2)}`;
    const onServer = async (text: string): Promise<void> => {
      const client = new Client({ connectionString: database.url });
      await client.connect();
      try {
        await client.query(text);
      } finally {
        await client.end();
      }
    };
    await onServer(`CREATE DATABASE ${name}`);
    closers.push(() => onServer(`DROP DATABASE ${name} WITH (FORCE)`));
    const url = new URL(database.url);
    url.pathname = `/${name}`;
    return url.href;
  };

  test('run once, however many processes start at the same time on a fresh database', async () => {
    const url = await emptyDatabase();
    const knex = knexPackage.knex({ client: 'pg', connection: url, pool: { min: 0, max: 1 } });
    expect(await schemaState(knex)).toBe('older');
    const applied = await Promise.all([1, 2, 3, 4].map(() => migrate(url)));
    expect(applied.filter((count) => count > 0)).toHaveLength(1);
    expect(await schemaState(knex)).toBe('current');
    expect(await migrate(url)).toBe(0);
    await knex('schema_migrations').insert({
      name: '999-of-the-future',
      batch: 9,
      migration_time: new Date(),
    });
    expect(await schemaState(knex)).toBe('newer');
    await knex('schema_migrations').delete();
    expect(await schemaState(knex)).toBe('older');
    await knex.destroy();
  });

  test('a database that is away is no older schema', async () => {
    const url = new URL(database.url);
    url.pathname = '/no_such_database';
    const away = openDb({ url: url.href, name: 'away', max: 1 });
    await expect(schemaState(away.knex)).rejects.toMatchObject({ code: 'database_unavailable' });
    await away.close();
  });
});
