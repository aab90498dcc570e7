import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { insertCallbacks } from '../../src/db/callbacks.js';
import { claim, disown, type ClaimRequest } from '../../src/db/claim.js';
import { findDue, findUnrung } from '../../src/db/due.js';
import { advanceTasks } from '../../src/db/moves.js';
import { openDb, type Db } from '../../src/db/pool.js';
import type { TaskEvent } from '../../src/domain/event.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { aClaim, addBackend, addProcess, addTasks, aNewCallback, limits } from '../support/rows.js';

describe('claim', () => {
  let database: TestDatabase;
  let db: Db;
  let processId: string;
  let backendId: string;
  beforeAll(async () => {
    database = await openTestDatabase();
    db = openDb({
      url: database.url,
      name: 'test',
      max: 8,
      acquireTimeoutMs: 20_000,
      statementTimeoutMs: 20_000,
    });
    processId = await addProcess(db);
    backendId = await addBackend(db);
  });
  afterEach(async () => {
    await run('TRUNCATE tasks, task_payloads, task_events, attempts, callbacks, fences');
  });
  afterAll(async () => {
    await db.close();
    await database.close();
  });

  const run = <R extends Record<string, unknown>>(text: string, values: unknown[] = []) =>
    db.query<R>({ text }, values);
  const take = (requests: readonly ClaimRequest[], by = processId, limited = true) =>
    claim(db, requests, { processId: by, limited });
  const takeOne = (id: string, fields: Partial<ClaimRequest> = {}, by = processId) =>
    take([aClaim(id, fields.backendId ?? backendId, fields)], by);
  const addOne = async (): Promise<string> => (await addTasks(db))[0] ?? '';
  const rowOf = async (id: string) => (await run('SELECT * FROM tasks WHERE id = $1', [id]))[0];
  const attemptsOf = (id: string) => run('SELECT * FROM attempts WHERE task_id = $1 ORDER BY number', [id]);
  const settle = (taskId: string, event: TaskEvent) => advanceTasks(db, [{ taskId, event }], limits);

  test('takes lease, attempt and entry in one statement', async () => {
    const id = await addOne();
    const [claimed] = await takeOne(id, { idempotencyKey: 'key_first' });
    expect(claimed).toMatchObject({ taskId: id, idempotencyKey: 'key_first', context: '{"n":1}', waitMs: 0 });
    expect(await rowOf(id)).toMatchObject({
      leased_by: processId,
      attempt: 1,
      backend_id: backendId,
      claims: 1,
      version: 1,
      seq: 2,
    });
    expect(await attemptsOf(id)).toMatchObject([{ number: 1, sends: 1, outcome: null, ended_at: null }]);
  });

  test('answers with nothing to nothing', async () => {
    expect(await take([])).toEqual([]);
  });

  test('is won by one of many claimers', async () => {
    const ids = await addTasks(db, 20);
    const others = await Promise.all([1, 2, 3].map(() => addProcess(db)));
    const won = await Promise.all(
      [processId, ...others].map((by) =>
        take(
          ids.map((id) => aClaim(id, backendId)),
          by,
          false,
        ),
      ),
    );
    const taken = won.flat().map(({ taskId }) => taskId);
    expect(taken).toHaveLength(20);
    expect(new Set(taken).size).toBe(20);
  });

  test('goes by the lease of the process: a living one keeps its task, a dead one loses it', async () => {
    const first = await addProcess(db);
    const id = await addOne();
    await takeOne(id, { idempotencyKey: 'key_kept' }, first);
    expect(await takeOne(id, { version: 1 })).toEqual([]);
    expect(await findDue(db, [id])).toEqual([]);
    expect(await findUnrung(db, 0, 10)).toEqual([]);
    // It has not renewed for longer than a lease.
    await run(
      `UPDATE processes SET lease_until = clock_timestamp() - interval '1 millisecond' WHERE id = $1`,
      [first],
    );
    expect(await findUnrung(db, 1000, 10)).toEqual([id]);
    expect(await findDue(db, [id])).toMatchObject([{ id, attempts: [{ number: 1, endedAt: null }] }]);
    const [again] = await takeOne(id, { version: 1, idempotencyKey: 'key_other' });
    // The open attempt is taken up with its own key, and the send that left no outcome is a doubt (I7, I8).
    expect(again).toMatchObject({ idempotencyKey: 'key_kept', attempt: { sends: 2, unknown_sends: 1 } });
    expect(await rowOf(id)).toMatchObject({ leased_by: processId, claims: 2 });
  });

  test('is refused to a process whose own lease ran out, or who has none', async () => {
    const id = await addOne();
    expect(await takeOne(id, {}, await addProcess(db, -1))).toEqual([]);
    expect(await takeOne(id, {}, 'proc_none')).toEqual([]);
    expect(await takeOne(id)).toHaveLength(1);
  });

  test('keeps the key of an attempt that was not received, and counts no doubt', async () => {
    const id = await addOne();
    await takeOne(id, { idempotencyKey: 'key_once' });
    await settle(id, { type: 'notSent', attempt: 1, reason: 'stopping' });
    const [again] = await takeOne(id, { version: 2, idempotencyKey: 'key_never' });
    expect(again).toMatchObject({ idempotencyKey: 'key_once', attempt: { sends: 1, unknown_sends: 0 } });
    expect(await attemptsOf(id)).toMatchObject([{ ended_at: null, outcome: null }]);
  });

  test.each([
    ['moved on since it was read', `UPDATE tasks SET version = 9`],
    ['is not due', `UPDATE tasks SET due_at = now() + interval '1 hour'`],
    ['is held', `UPDATE tasks SET due_at = NULL, lane = 'l'`],
    ['was cancelled', `UPDATE tasks SET cancel_requested_at = now()`],
    ['has ended', `UPDATE tasks SET state = 'FAILED', finished_at = now()`],
  ])('leaves alone a task that %s', async (_, text) => {
    const id = await addOne();
    await run(text);
    expect(await takeOne(id)).toEqual([]);
    expect(await attemptsOf(id)).toEqual([]);
  });

  test('waits for the fold of callbacks that nobody has applied', async () => {
    const id = await addOne();
    await insertCallbacks(db, [aNewCallback(id, { status: 'running' })]);
    expect(await takeOne(id)).toEqual([]);
    await run('UPDATE callbacks SET applied_at = now()');
    expect(await takeOne(id)).toHaveLength(1);
  });

  test('skips a task that another transaction holds, and takes its neighbour', async () => {
    const [held, free] = (await addTasks(db, 2)) as [string, string];
    await db.transaction(async (tx) => {
      await tx.query({ text: 'SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE' }, [held]);
      const claimed = await take([held, free].map((id) => aClaim(id, backendId)));
      expect(claimed.map(({ taskId }) => taskId)).toEqual([free]);
    });
  });

  test('is forbidden by a stop to every task made before it, and to none made after', async () => {
    const [mine] = (await addTasks(db, 1, { workspaceId: 'w1' })) as [string];
    const [other] = (await addTasks(db, 1, { workspaceId: 'w2' })) as [string];
    await run(
      `INSERT INTO fences (workspace_id, actor, reason, at) VALUES ('w1', 'a', 'r', clock_timestamp())`,
    );
    const [later] = (await addTasks(db, 1, { workspaceId: 'w1' })) as [string];
    await run(`UPDATE tasks SET created_at = now() + interval '1 second' WHERE id = $1`, [later]);
    const claimed = await take([mine, other, later].map((id) => aClaim(id, backendId)));
    expect(claimed.map(({ taskId }) => taskId).sort()).toEqual([other, later].sort());
    await run(`INSERT INTO fences (actor, reason) VALUES ('a', 'everything')`);
    const [fresh] = (await addTasks(db)) as [string];
    await run(`UPDATE tasks SET created_at = now() - interval '1 second' WHERE id = $1`, [fresh]);
    expect(await takeOne(fresh)).toEqual([]);
  });

  test.each([
    ['draining', { mode: 'draining' }],
    ['disabled', { mode: 'disabled' }],
    ['down', { health_status: 'down', health_reason: 'unreachable' }],
    ['new', { health_status: 'unknown' }],
    ['blocked by its Retry-After', { blocked_until: '2999-01-01' }],
    ['removed', { deleted_at: '2020-01-01' }],
  ])('gives nothing new to a backend that is %s', async (_, columns) => {
    const id = await addOne();
    const backend = await addBackend(db, columns);
    expect(await takeOne(id, { backendId: backend })).toEqual([]);
  });

  test('follows an open attempt to its end on a draining backend', async () => {
    const id = await addOne();
    const backend = await addBackend(db);
    await takeOne(id, { backendId: backend });
    await settle(id, {
      type: 'outcomeUnknown',
      attempt: 1,
      httpStatus: 502,
      reason: 'cut',
      dueAt: new Date(0),
      spends: true,
      awaySince: null,
    });
    await run(`UPDATE backends SET mode = 'draining', max_concurrency = 1 WHERE id = $1`, [backend]);
    const [again] = await takeOne(id, { backendId: backend, version: 2 });
    expect(again?.attempt).toMatchObject({ sends: 2, unknown_sends: 1 });
  });

  test('never exceeds maxConcurrency with four claimers over two hundred tasks (P12)', async () => {
    const backend = await addBackend(db, { max_concurrency: 7 });
    const ids = await addTasks(db, 200);
    const claimers = await Promise.all([1, 2, 3, 4].map(() => addProcess(db)));
    const open = async (): Promise<number> =>
      (
        await run<{ n: number }>(
          'SELECT count(*)::integer AS n FROM attempts WHERE backend_id = $1 AND ended_at IS NULL',
          [backend],
        )
      )[0]?.n ?? -1;
    let done = 0;
    let rounds = 0;
    while (done < 200) {
      rounds += 1;
      const left = await run<{ id: string; version: number; attempt: number }>(
        `SELECT id, version, attempt FROM tasks WHERE id = ANY($1) AND state = 'PENDING' AND leased_by IS NULL ORDER BY random() LIMIT 60`,
        [ids],
      );
      const requests = left.map(({ id, version }) => aClaim(id, backend, { version }));
      const won = (
        await Promise.all(
          claimers.map((by) =>
            take(
              requests.map((one) => ({ ...one, idempotencyKey: `${one.idempotencyKey}${by}` })),
              by,
            ),
          ),
        )
      ).flat();
      expect(await open()).toBeLessThanOrEqual(7);
      expect(won.length).toBeGreaterThan(0);
      await run(`UPDATE attempts SET ended_at = now(), outcome = 'completed' WHERE backend_id = $1`, [
        backend,
      ]);
      await run(`UPDATE tasks SET state = 'CANCELLED', finished_at = now() WHERE id = ANY($1)`, [
        won.map(({ taskId }) => taskId),
      ]);
      done += won.length;
    }
    expect(rounds).toBeGreaterThanOrEqual(Math.floor(200 / 7));
  });

  test('spaces what a rate lets through evenly, whoever claims, and refuses what is too far ahead', async () => {
    const backend = await addBackend(db, { max_dispatches_per_minute: 240 });
    const ids = await addTasks(db, 40);
    const claimers = await Promise.all([1, 2, 3, 4].map(() => addProcess(db)));
    const won = (
      await Promise.all(
        claimers.map((by, turn) =>
          take(
            ids.slice(turn * 10, turn * 10 + 10).map((id) => aClaim(id, backend)),
            by,
          ),
        ),
      )
    ).flat();
    // A quarter of a second a send, one second ahead: five places, whoever asks.
    expect(won.length).toBeGreaterThanOrEqual(5);
    expect(won.length).toBeLessThanOrEqual(7);
    const [row] = await run<{ ahead: number }>(
      `SELECT extract(epoch FROM next_send_at - clock_timestamp())::float8 AS ahead FROM backends WHERE id = $1`,
      [backend],
    );
    expect(row?.ahead).toBeGreaterThan(0.5);
    expect(row?.ahead).toBeLessThanOrEqual(1.25);
    const waits = won.map(({ waitMs }) => waitMs).sort((a, b) => a - b);
    expect(waits.at(-1)! - waits[0]!).toBeGreaterThan(700);
  });

  test('gives a misconfigured backend exactly one trial, whoever asks', async () => {
    const backend = await addBackend(db, {
      health_status: 'down',
      health_reason: 'misconfigured',
      trial_at: '2020-01-01',
    });
    const ids = await addTasks(db, 12);
    const claimers = await Promise.all([1, 2, 3, 4].map(() => addProcess(db)));
    const won = await Promise.all(
      claimers.map((by, turn) =>
        take(
          ids.slice(turn * 3, turn * 3 + 3).map((id) => aClaim(id, backend)),
          by,
        ),
      ),
    );
    expect(won.flat()).toHaveLength(1);
    expect(await run('SELECT trial_at > now() AS later FROM backends WHERE id = $1', [backend])).toEqual([
      { later: true },
    ]);
  });

  test('that may have been lost is given back by its own process only', async () => {
    const id = await addOne();
    await takeOne(id);
    await disown(db, [id], 'proc_other');
    expect(await rowOf(id)).toMatchObject({ leased_by: processId });
    await disown(db, [id], processId);
    expect(await rowOf(id)).toMatchObject({ leased_by: null, version: 2 });
    const [again] = await takeOne(id, { version: 2 });
    expect(again?.attempt).toMatchObject({ unknown_sends: 1 });
  });
});
