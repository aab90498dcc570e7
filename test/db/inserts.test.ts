import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { insertCallbacks, storedOf, unappliedJson, type CallbackJson } from '../../src/db/callbacks.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { insertTasks } from '../../src/db/tasks.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { aNewCallback, aNewTask } from '../support/rows.js';

let database: TestDatabase;
let db: Db;
beforeAll(async () => {
  database = await openTestDatabase();
  db = openDb({
    url: database.url,
    name: 'test',
    max: 8,
    acquireTimeoutMs: 20_000,
    statementTimeoutMs: 20_000,
  });
});
afterEach(async () => {
  await db.query({ text: 'TRUNCATE tasks, task_payloads, task_events, callbacks' });
});
afterAll(async () => {
  await db.close();
  await database.close();
});

const count = async (table: string): Promise<number> => {
  const [row] = await db.query<{ n: number }>({ text: `SELECT count(*)::integer AS n FROM ${table}` });
  return row?.n ?? -1;
};

describe('insertTasks', () => {
  const keyed = (key: string, hash = 'h', scope = 's') => aNewTask({}, { scope, key, hash });

  test('writes task, payload and first entry, or none of them', async () => {
    const task = aNewTask({ scheduledFor: new Date(Date.now() + 60_000) });
    expect(await insertTasks(db, [task])).toMatchObject([{ kind: 'created', id: task.id }]);
    expect(await Promise.all(['tasks', 'task_payloads', 'task_events'].map(count))).toEqual([1, 1, 1]);
    const [row] = await db.query({
      text: 'SELECT waiting_reason, due_at = scheduled_for AS waits, state FROM tasks',
    });
    expect(row).toEqual({ waiting_reason: 'scheduled', waits: true, state: 'PENDING' });
    await expect(insertTasks(db, [aNewTask(), { ...aNewTask(), priority: 1e9 }])).rejects.toMatchObject({
      code: '22003',
    });
    expect(await Promise.all(['tasks', 'task_payloads', 'task_events'].map(count))).toEqual([1, 1, 1]);
  });

  test('makes one row of a hundred identical creates at once (P2)', async () => {
    const results = (
      await Promise.all(Array.from({ length: 100 }, () => insertTasks(db, [keyed('same')])))
    ).flat();
    expect(results.filter(({ kind }) => kind === 'created')).toHaveLength(1);
    expect(results.filter(({ kind }) => kind === 'replayed')).toHaveLength(99);
    expect(new Set(results.map(({ id }) => id)).size).toBe(1);
    expect(await Promise.all(['tasks', 'task_payloads', 'task_events'].map(count))).toEqual([1, 1, 1]);
  });

  test('tells a key that comes again with another body, and keeps scopes apart', async () => {
    const [first] = await insertTasks(db, [keyed('k', 'one')]);
    expect(await insertTasks(db, [keyed('k', 'two')])).toMatchObject([{ kind: 'keyReused', id: first?.id }]);
    expect(await insertTasks(db, [keyed('k', 'one')])).toEqual([{ kind: 'replayed', id: first?.id }]);
    expect(await insertTasks(db, [keyed('k', 'two', 'other')])).toMatchObject([{ kind: 'created' }]);
  });

  test('folds doubled keys within one batch, each item with its own answer, in order', async () => {
    const batch = [
      keyed('b', 'x'),
      aNewTask(),
      keyed('a', 'x'),
      keyed('b', 'x'),
      keyed('b', 'y'),
      aNewTask(),
    ];
    const results = await insertTasks(db, batch);
    expect(results.map(({ kind }) => kind)).toEqual([
      'created',
      'created',
      'created',
      'replayed',
      'keyReused',
      'created',
    ]);
    expect(results.map(({ id }) => id)).toEqual([0, 1, 2, 0, 0, 5].map((index) => batch[index]?.id));
    expect(await count('tasks')).toBe(4);
  });

  test('does not block two batches with crossing keys', async () => {
    for (let round = 0; round < 20; round += 1) {
      const keys = Array.from({ length: 30 }, (_, index) => `${round}-${index}`);
      const [up, down] = await Promise.all([
        insertTasks(
          db,
          keys.map((key) => keyed(key)),
        ),
        insertTasks(
          db,
          keys.toReversed().map((key) => keyed(key)),
        ),
      ]);
      const made = [...up, ...down].filter(({ kind }) => kind === 'created');
      expect(made).toHaveLength(30);
    }
    expect(await count('tasks')).toBe(600);
  });
});

describe('insertCallbacks', () => {
  const stored = async (id: string) => {
    const [row] = await db.query<{ said: CallbackJson[] | null }>(
      { text: `SELECT (${unappliedJson('$1')}) AS said` },
      [id],
    );
    return (row?.said ?? []).map(storedOf);
  };

  test('keeps callbacks in the order in which they came, with what they said', async () => {
    const said = ['running', 'progress', 'failed'] as const;
    for (const status of said)
      await insertCallbacks(db, [
        aNewCallback('task_1', {
          status,
          sequence: 7,
          progressPercent: 12.5,
          errorMessage: 'm',
          errorRetryable: true,
        }),
      ]);
    const kept = await stored('task_1');
    expect(kept.map(({ report }) => report.status)).toEqual(said);
    expect(kept[1]).toMatchObject({
      attempt: 1,
      verdict: null,
      repeats: 0,
      report: { sequence: 7, progress: { percent: 12.5 }, error: { retryable: true }, hasResult: false },
    });
  });

  test('stores a duplicate once, counts it, and opens it again', async () => {
    const done = aNewCallback('task_2', { status: 'completed', dedupeKey: 'd', result: '1' });
    await insertCallbacks(db, [done, done, { ...done, attempt: 2 }]);
    await db.query({ text: `UPDATE callbacks SET applied_at = now(), verdict = 'applied', repeats = 0` });
    expect(await stored('task_2')).toEqual([]);
    await insertCallbacks(db, [{ ...done, result: '2' }, done]);
    expect(await stored('task_2')).toMatchObject([{ verdict: 'applied', repeats: 2, attempt: 1 }]);
    const rows = await db.query({ text: `SELECT attempt, result FROM callbacks ORDER BY attempt` });
    expect(rows).toEqual([
      { attempt: 1, result: '1' },
      { attempt: 2, result: '1' },
    ]);
  });

  test('does not block two batches with the same duplicates in other orders', async () => {
    const some = Array.from({ length: 40 }, (_, index) =>
      aNewCallback(`task_${index}`, { status: 'running', dedupeKey: 'same' }),
    );
    for (let round = 0; round < 10; round += 1)
      await Promise.all([insertCallbacks(db, some), insertCallbacks(db, some.toReversed())]);
    expect(await count('callbacks')).toBe(40);
    const [sum] = await db.query({ text: 'SELECT sum(repeats)::integer AS repeats FROM callbacks' });
    expect(sum).toEqual({ repeats: 20 * 40 - 40 });
  });

  test('refuses a text with a NUL as a fault of the data, and stores nothing of that batch', async () => {
    const bad = aNewCallback('task_3', { status: 'running', progressMessage: 'a\0b', progressPercent: 1 });
    await expect(
      insertCallbacks(db, [bad, aNewCallback('task_3', { status: 'running' })]),
    ).rejects.toMatchObject({
      code: expect.stringMatching(/^22/),
    });
    expect(await stored('task_3')).toEqual([]);
  });
});
