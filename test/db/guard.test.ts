import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openDb, sqlStateOf, type Db } from '../../src/db/pool.js';
import { legalMoves } from '../../src/domain/lifecycle.js';
import { isTerminal, taskStates, type TaskState } from '../../src/domain/task.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { addTasks } from '../support/rows.js';

describe('what the database refuses, whoever asks (P4)', () => {
  let database: TestDatabase;
  let db: Db;
  beforeAll(async () => {
    database = await openTestDatabase();
    db = openDb({ url: database.url, name: 'test', max: 2 });
  });
  afterAll(async () => {
    await db.close();
    await database.close();
  });

  const run = (text: string, values: unknown[] = []) => db.query<Record<string, unknown>>({ text }, values);
  const stateAfter = (text: string, values: unknown[]): Promise<string | null> =>
    run(text, values).then(
      () => null,
      (error: unknown) => sqlStateOf(error),
    );
  const finished = (state: TaskState): string => (isTerminal(state) ? 'now()' : 'NULL');

  /** A task in a state, however it came there: by legal steps only. */
  async function taskIn(state: TaskState): Promise<string> {
    const [id] = (await addTasks(db)) as [string];
    const ways: Record<TaskState, TaskState[]> = {
      PENDING: [],
      DISPATCHED: ['DISPATCHED'],
      RUNNING: ['DISPATCHED', 'RUNNING'],
      COMPLETED: ['DISPATCHED', 'RUNNING', 'COMPLETED'],
      FAILED: ['FAILED'],
      CANCELLED: ['CANCELLED'],
    };
    for (const step of ways[state])
      await run(`UPDATE tasks SET state = $2, finished_at = ${finished(step)} WHERE id = $1`, [id, step]);
    return id;
  }

  test.each(taskStates.flatMap((from) => taskStates.map((to) => [from, to] as const)))(
    'a move from %s to %s is judged as the domain judges it',
    async (from, to) => {
      const id = await taskIn(from);
      const text = `UPDATE tasks SET state = $2, finished_at = ${from === to ? 'finished_at' : finished(to)} WHERE id = $1`;
      const isLegal = from === to || (legalMoves[from] as readonly TaskState[]).includes(to);
      expect(await stateAfter(text, [id, to])).toBe(isLegal ? null : '23514');
    },
  );

  test.each(taskStates)('a task is born PENDING, and not %s otherwise', async (state) => {
    const text = `INSERT INTO tasks (id, type, priority, wish, timeouts, retry, order_at, state, finished_at)
      VALUES ($1, 't', 3, '{}', '{}', '{}', now(), $2, ${finished(state)})`;
    expect(await stateAfter(text, [`task_born_${state}`, state])).toBe(state === 'PENDING' ? null : '23514');
  });

  test('a state that nobody knows is no state, and an end has its time', async () => {
    const id = await taskIn('RUNNING');
    expect(await stateAfter(`UPDATE tasks SET state = 'DONE' WHERE id = $1`, [id])).toBe('23514');
    expect(await stateAfter(`UPDATE tasks SET state = 'FAILED' WHERE id = $1`, [id])).toBe('23514');
    expect(await stateAfter(`UPDATE tasks SET finished_at = now() WHERE id = $1`, [id])).toBe('23514');
  });

  test.each(['COMPLETED', 'FAILED', 'CANCELLED'] as const)(
    'a %s row keeps its error and its times, while what is learnt late stays writable',
    async (state) => {
      const id = await taskIn(state);
      for (const column of ['error_code', 'error_message'])
        expect(await stateAfter(`UPDATE tasks SET ${column} = 'x' WHERE id = $1`, [id])).toBe('23514');
      expect(await stateAfter('UPDATE tasks SET error_retryable = true WHERE id = $1', [id])).toBe('23514');
      for (const column of ['dispatched_at', 'started_at', 'finished_at'])
        expect(await stateAfter(`UPDATE tasks SET ${column} = 'epoch' WHERE id = $1`, [id])).toBe('23514');
      const late = `UPDATE tasks SET seq = seq + 1, version = version + 1, external_id = 's', progress_percent = 9,
        progress_sequence = 4, updated_at = now() WHERE id = $1`;
      expect(await stateAfter(late, [id])).toBeNull();
    },
  );

  test('the kill of an ended task is kept on its attempt', async () => {
    const id = await taskIn('FAILED');
    await run(
      `INSERT INTO attempts (task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent)
       VALUES ($1, 1, 'b', $2, 'u', '00', 't')`,
      [id, `key_${id}`],
    );
    const text =
      'UPDATE attempts SET kill_due_at = now(), kill_tries = 3, ended_at = now() WHERE task_id = $1';
    expect(await stateAfter(text, [id])).toBeNull();
  });

  test('the timeline only grows, one entry a number, and a result is written once', async () => {
    const [id] = (await addTasks(db)) as [string];
    expect(await stateAfter(`UPDATE task_events SET type = 'x' WHERE task_id = $1`, [id])).toBe('23514');
    const again = `INSERT INTO task_events (task_id, seq, type, to_state, at, actor) VALUES ($1, 1, 't', 'PENDING', now(), 'a')`;
    expect(await stateAfter(again, [id])).toBe('23505');
    await run(`INSERT INTO task_results (task_id, result) VALUES ($1, '1')`, [id]);
    expect(await stateAfter(`UPDATE task_results SET result = '2' WHERE task_id = $1`, [id])).toBe('23514');
    expect(await stateAfter(`INSERT INTO task_results (task_id, result) VALUES ($1, '2')`, [id])).toBe(
      '23505',
    );
  });

  test('no two attempts share a key (P5)', async () => {
    const text = `INSERT INTO attempts (task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent)
       VALUES ($1, 1, 'b', 'key_shared', 'u', '00', 't')`;
    expect(await stateAfter(text, ['task_x'])).toBeNull();
    expect(await stateAfter(text, ['task_y'])).toBe('23505');
  });
});
