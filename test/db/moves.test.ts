import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { insertCallbacks, noteSpoilt } from '../../src/db/callbacks.js';
import { claim } from '../../src/db/claim.js';
import { advanceTasks, type Advanced } from '../../src/db/moves.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { listEvents } from '../../src/db/task-reads.js';
import type { TaskEvent } from '../../src/domain/event.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { aClaim, addBackend, addProcess, addTasks, aNewCallback, limits } from '../support/rows.js';

describe('advanceTasks', () => {
  let database: TestDatabase;
  let db: Db;
  let backendId: string;
  let processId: string;
  beforeAll(async () => {
    database = await openTestDatabase();
    db = openDb({ url: database.url, name: 'test', max: 6 });
    backendId = await addBackend(db);
    processId = await addProcess(db);
  });
  afterAll(async () => {
    await db.close();
    await database.close();
  });

  const run = <R extends Record<string, unknown>>(text: string, values: unknown[] = []) =>
    db.query<R>({ text }, values);
  const move = async (taskId: string, event: TaskEvent | null): Promise<Advanced | undefined> =>
    (await advanceTasks(db, [{ taskId, event }], limits))[0];
  const accepted: TaskEvent = { type: 'accepted', attempt: 1, externalId: 's1', httpStatus: 201 };
  const walkOf = async (id: string): Promise<string[]> => {
    const events = await listEvents(db, id, 0, 100);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
    return events.map(({ type, from, to }) => (from === to ? type : `${type} >${to}`));
  };

  async function sending(count = 1): Promise<string[]> {
    const ids = await addTasks(db, count);
    const claimed = await claim(
      db,
      ids.map((id) => aClaim(id, backendId)),
      { processId, limited: false },
    );
    expect(claimed).toHaveLength(count);
    return ids;
  }

  test('saves a walk of several steps in waves, with a contiguous timeline', async () => {
    const ids = await sending(3);
    await insertCallbacks(db, [
      aNewCallback(ids[0]!, { status: 'completed', result: '{"a": 1e400}' }),
      aNewCallback(ids[1]!, { status: 'running' }),
    ]);
    const results = await advanceTasks(
      db,
      [
        { taskId: ids[0]!, event: null },
        { taskId: ids[1]!, event: null },
        { taskId: ids[2]!, event: accepted },
      ],
      limits,
    );
    expect(results.map(({ kind }) => kind)).toEqual(['won', 'won', 'won']);
    expect(await walkOf(ids[0]!)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'task.completed >COMPLETED',
    ]);
    expect(
      await run('SELECT state, version FROM tasks WHERE id = ANY($1) ORDER BY array_position($1, id)', [ids]),
    ).toEqual([
      { state: 'COMPLETED', version: 4 },
      { state: 'RUNNING', version: 3 },
      { state: 'DISPATCHED', version: 2 },
    ]);
    expect(await run('SELECT result FROM task_results WHERE task_id = $1', [ids[0]])).toEqual([
      { result: '{"a": 1e400}' },
    ]);
  });

  test('skips a row that another holds, and harms no other', async () => {
    const ids = await sending(3);
    await db.transaction(async (tx) => {
      await tx.query({ text: 'SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE' }, [ids[1]]);
      const results = await advanceTasks(
        db,
        ids.map((taskId) => ({ taskId, event: accepted })),
        limits,
      );
      expect(results.map(({ kind }) => kind)).toEqual(['won', 'skipped', 'won']);
    });
    expect((await move(ids[1]!, accepted))?.kind).toBe('won');
  });

  test('leaves the callbacks of a skipped row unapplied', async () => {
    const [id] = (await sending()) as [string];
    await insertCallbacks(db, [aNewCallback(id, { status: 'running' })]);
    await db.transaction(async (tx) => {
      await tx.query({ text: 'SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE' }, [id]);
      expect((await move(id, null))?.kind).toBe('skipped');
    });
    expect(await run('SELECT applied_at FROM callbacks WHERE task_id = $1', [id])).toEqual([
      { applied_at: null },
    ]);
  });

  test('tells a task that does not exist from one that is locked', async () => {
    expect((await move('task_none', null))?.kind).toBe('absent');
    expect(await advanceTasks(db, [], limits)).toEqual([]);
  });

  test('lets a callback that was received before a deadline beat it (P3)', async () => {
    const [id] = (await sending()) as [string];
    await move(id, accepted);
    await run(`UPDATE tasks SET deadline_at = now() - interval '1 second' WHERE id = $1`, [id]);
    await insertCallbacks(db, [aNewCallback(id, { status: 'completed', result: '1' })]);
    const result = await move(id, { type: 'clockRanOut', graceUntil: null });
    expect(result).toMatchObject({ kind: 'refused', reason: 'over', after: { state: 'COMPLETED' } });
    expect((await walkOf(id)).at(-1)).toBe('task.completed >COMPLETED');
  });

  test('applies several events of one task in one batch, each on what the last one made', async () => {
    const [id] = (await sending()) as [string];
    const cancel: TaskEvent = { type: 'cancelRequested', reason: 'r', actor: 'a' };
    const results = await advanceTasks(
      db,
      [accepted, cancel, cancel].map((event) => ({ taskId: id, event })),
      limits,
    );
    expect(results.map(({ kind }) => kind)).toEqual(['won', 'won', 'refused']);
    expect(await walkOf(id)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.cancelRequested',
    ]);
  });

  test('decides a race of two ends for one of them, and notes the other', async () => {
    let completed = 0;
    const ids = await sending(40);
    await Promise.all(
      ids.map(async (id, index) => {
        const tell = () =>
          insertCallbacks(db, [aNewCallback(id, { status: 'completed' })]).then(() => move(id, null));
        const end = () => move(id, { type: 'quarantined', reason: 'r' });
        if (index % 3 === 0) await tell().then(end);
        else if (index % 3 === 1) await end().then(tell);
        else await Promise.all([end(), tell()]);
        // Whoever was skipped asks again.
        await move(id, null);
      }),
    );
    const rows = await run<{ state: string; open: number }>(
      `SELECT state, (SELECT count(*)::integer FROM callbacks c WHERE c.task_id = t.id AND applied_at IS NULL) AS open
       FROM tasks t WHERE id = ANY($1)`,
      [ids],
    );
    for (const { state, open } of rows) {
      completed += state === 'COMPLETED' ? 1 : 0;
      expect(['COMPLETED', 'FAILED']).toContain(state);
      expect(open).toBe(0);
    }
    expect(completed).toBeGreaterThan(0);
    expect(completed).toBeLessThan(40);
    for (const id of ids) await walkOf(id);
  });

  test('folds progress that came together into one entry, and keeps the number of the last', async () => {
    const [id] = (await sending()) as [string];
    for (const progressPercent of [10, 20, 30])
      await insertCallbacks(db, [aNewCallback(id, { status: 'progress', progressPercent })]);
    await move(id, accepted);
    expect(await walkOf(id)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'task.progress',
    ]);
    expect(await run('SELECT progress_percent FROM tasks WHERE id = $1', [id])).toEqual([
      { progress_percent: 30 },
    ]);
  });

  test('notes a duplicate, once, and moves nothing by it', async () => {
    const [id] = (await sending()) as [string];
    const running = aNewCallback(id, { status: 'running', dedupeKey: 'r', eventId: 'e1' });
    await insertCallbacks(db, [running]);
    await move(id, null);
    await insertCallbacks(db, [running, running]);
    await move(id, null);
    await move(id, null);
    expect((await walkOf(id)).slice(2)).toEqual([
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'callback.duplicate',
    ]);
  });

  test('leaves a repetition that came during its fold for the next one', async () => {
    const [id] = (await sending()) as [string];
    const running = aNewCallback(id, { status: 'running', dedupeKey: 'r' });
    await insertCallbacks(db, [running]);
    let waiting = true;
    await Promise.all([
      db.transaction(async (tx) => {
        // The duplicate is written, but not committed, while the fold reads.
        await insertCallbacks(tx, [running]);
        while (waiting) {
          const [row] = await db.query<{ n: number }>({
            text: `SELECT count(*)::integer AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
          });
          waiting = row?.n === 0;
        }
      }),
      move(id, null),
    ]);
    expect(await run('SELECT applied_at, verdict, repeats FROM callbacks WHERE task_id = $1', [id])).toEqual([
      { applied_at: null, verdict: 'applied', repeats: 1 },
    ]);
    await move(id, null);
    expect((await walkOf(id)).at(-1)).toBe('callback.duplicate');
  });

  test('a poisoned callback is parked after five folds, and then stops nobody (P15)', async () => {
    const [id] = (await sending()) as [string];
    // No door lets such a number in; whatever is stored one day must not stop the task for ever.
    await insertCallbacks(db, [aNewCallback(id, { status: 'progress', progressPercent: 5 })]);
    await run(`UPDATE callbacks SET sequence = 9223372036854775807 WHERE task_id = $1`, [id]);
    for (let fold = 1; fold <= 5; fold += 1) {
      await expect(move(id, null)).rejects.toMatchObject({ code: expect.stringMatching(/^22/) });
      expect(await noteSpoilt(db, id)).toEqual({ parked: fold === 5 ? 1 : 0 });
    }
    expect(await move(id, accepted)).toMatchObject({ kind: 'won', after: { state: 'DISPATCHED' } });
    expect(await run('SELECT verdict FROM callbacks WHERE task_id = $1', [id])).toEqual([
      { verdict: 'parked' },
    ]);
  });

  test('a stale value never overwrites a newer one: each save adds to the version', async () => {
    const [id] = (await sending()) as [string];
    const events: TaskEvent[] = [accepted, { type: 'cancelRequested', reason: 'r', actor: 'a' }];
    await Promise.all(
      events.map(async (event) => {
        while ((await move(id, event))?.kind === 'skipped');
      }),
    );
    const [row] = await run(
      `SELECT version, seq, cancel_requested_at IS NOT NULL AS cancelling FROM tasks WHERE id = $1`,
      [id],
    );
    expect(row).toEqual({ version: 3, seq: 4, cancelling: true });
    expect(await walkOf(id)).toHaveLength(4);
  });
});
