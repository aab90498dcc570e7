import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { NewCallback } from '../../src/db/callbacks.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** What agents say: early, doubled, out of order or too late, it converges to one end (P7, P8, P9). */
describe('callbacks', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  type Said = Partial<NewCallback> & Pick<NewCallback, 'status'>;
  async function dispatched(request: Parameters<Scenario['create']>[0] = {}): Promise<string> {
    const id = await scene.create(request);
    await scene.drive(id);
    return id;
  }
  async function tell(id: string, ...all: Said[]): Promise<void> {
    for (const said of all) await scene.tell(id, 1, said);
    await scene.fold([id]);
  }
  const resultOf = async (id: string) =>
    (await scene.rows<{ result: string }>('SELECT result FROM task_results WHERE task_id = $1', [id]))[0]
      ?.result;

  test.each(['running', 'completed', 'failed', 'killed'] as const)(
    '%s that comes before the spawn’s answer is applied, and the answer only adds what it knows',
    async (status) => {
      let id = '';
      await scene.open({
        behave: async () => {
          await scene.tell(id, 1, { status, result: '1', errorMessage: 'no', errorCode: 'NO' });
          await scene.fold([id]);
          return { status: 201 };
        },
      });
      id = await scene.create();
      await scene.send(id);
      const ends = { running: 'RUNNING', completed: 'COMPLETED', failed: 'FAILED', killed: 'CANCELLED' };
      expect(await scene.task(id)).toMatchObject({
        state: ends[status],
        externalId: 'session_1',
        leasedBy: null,
        dueAt: null,
      });
      expect((await scene.timeline(id)).slice(0, 3)).toEqual([
        'task.created >PENDING',
        'task.claimed',
        'task.dispatched >DISPATCHED',
      ]);
      expect(await scene.attempts(id)).toHaveLength(1);
    },
  );

  test('a callback that is stored but not folded yet is folded by the answer of the send', async () => {
    let id = '';
    await scene.open({
      behave: async () => {
        await scene.tell(id, 1, { status: 'completed', result: '7' });
        return { status: 500 };
      },
    });
    id = await scene.create();
    await scene.send(id);
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
    expect(await resultOf(id)).toBe('7');
  });

  test('every order and repetition of one set of callbacks ends the same', async () => {
    const { stub } = await scene.open();
    const said: Said[] = [
      { status: 'running', dedupeKey: 'a' },
      { status: 'progress', dedupeKey: 'b', progressPercent: 10, sequence: 1 },
      { status: 'progress', dedupeKey: 'c', progressPercent: 60, sequence: 2 },
      { status: 'completed', dedupeKey: 'd', result: '{"n": 1.0}' },
    ];
    const ends = new Set<string>();
    for (const order of permutations(said)) {
      const id = await dispatched();
      for (const one of order) {
        await scene.tell(id, 1, one);
        if (order[0] !== said[0]) await scene.fold([id]);
        await scene.tell(id, 1, one);
      }
      await scene.fold([id]);
      const { state, error, progress } = await scene.task(id);
      ends.add(JSON.stringify({ state, error, progress, result: await resultOf(id) }));
    }
    expect([...ends]).toEqual([
      JSON.stringify({
        state: 'COMPLETED',
        error: null,
        progress: { percent: 60, message: null, sequence: 2 },
        result: '{"n": 1.0}',
      }),
    ]);
    expect(stub.spawns).toHaveLength(24);
  });

  test('of two conflicting ends the first wins and the other is kept', async () => {
    await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'completed', result: '1' });
    await tell(id, { status: 'failed', errorCode: 'NO', errorMessage: 'no' });
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED', error: null });
    expect((await scene.timeline(id)).at(-1)).toBe('callback.late');
    expect(await resultOf(id)).toBe('1');
    expect(await scene.rows('SELECT status, verdict FROM callbacks ORDER BY id')).toEqual([
      { status: 'completed', verdict: 'applied' },
      { status: 'failed', verdict: 'late' },
    ]);
  });

  test('of two progress reports the higher sequence wins; without one progress only grows', async () => {
    await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'progress', progressPercent: 70, sequence: 5 });
    await tell(id, { status: 'progress', progressPercent: 90, sequence: 4 });
    expect(await scene.task(id)).toMatchObject({ progress: { percent: 70, sequence: 5 } });
    await tell(id, { status: 'progress', progressPercent: 20, sequence: 6 });
    expect(await scene.task(id)).toMatchObject({ state: 'RUNNING', progress: { percent: 20, sequence: 6 } });
    const other = await dispatched();
    await tell(other, { status: 'progress', progressPercent: 50 });
    await tell(other, { status: 'progress', progressPercent: 30 });
    expect(await scene.task(other)).toMatchObject({ progress: { percent: 50 } });
  });

  test('a duplicate moves nothing, is noted, and is a sign of life', async () => {
    await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'running', dedupeKey: 'id:1:running', eventId: '1' });
    await scene.rows(`UPDATE tasks SET last_heard_at = now() - interval '1 hour' WHERE id = $1`, [id]);
    await tell(id, { status: 'running', dedupeKey: 'id:1:running', eventId: '1' });
    const task = await scene.task(id);
    expect(task.state).toBe('RUNNING');
    expect(Date.now() - (task.lastHeardAt?.getTime() ?? 0)).toBeLessThan(60_000);
    expect((await scene.timeline(id)).at(-1)).toBe('callback.duplicate');
    expect(await scene.rows('SELECT 1 FROM callbacks')).toHaveLength(1);
  });

  test('running that is said again without an id is a sign of life too', async () => {
    await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'running' });
    await scene.rows(`UPDATE tasks SET last_heard_at = now() - interval '1 hour' WHERE id = $1`, [id]);
    await tell(id, { status: 'running' });
    const { lastHeardAt } = await scene.task(id);
    expect(Date.now() - (lastHeardAt?.getTime() ?? 0)).toBeLessThan(60_000);
  });

  test('killed without a cancel ends as CANCELLED, and the backend is the actor', async () => {
    const { id: backendId } = await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'killed' });
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED', cancelRequestedAt: null, error: null });
    expect(
      await scene.rows(`SELECT actor FROM task_events WHERE task_id = $1 AND type = 'task.cancelled'`, [id]),
    ).toEqual([{ actor: backendId }]);
  });

  test('what comes after the end is noted as late and changes nothing that has ended', async () => {
    await scene.open();
    const id = await dispatched();
    await tell(id, { status: 'completed', result: '"first"' });
    const before = await scene.task(id);
    await tell(id, { status: 'running' }, { status: 'killed' }, { status: 'completed', result: '"second"' });
    const { state, finishedAt, startedAt, error } = before;
    expect(await scene.task(id)).toMatchObject({ state, finishedAt, startedAt, error });
    expect(await resultOf(id)).toBe('"first"');
    expect((await scene.timeline(id)).slice(-3)).toEqual(['callback.late', 'callback.late', 'callback.late']);
  });

  test('the result is kept exactly as it was sent', async () => {
    await scene.open();
    const exact = '{"b": 9007199254740993, "a":\t1.10, "é": "\\u00e9\\ud800", "__proto__": {"x": 1e400}}';
    const id = await dispatched();
    await tell(id, { status: 'completed', result: exact });
    expect(await resultOf(id)).toBe(exact);
  });

  test('one spoilt callback is parked after five tries and stops no other task', async () => {
    await scene.open();
    const [spoilt, fine] = [await dispatched(), await dispatched()];
    await scene.tell(spoilt, 1, { status: 'completed' });
    await scene.tell(fine, 1, { status: 'completed' });
    // A row that the guard refuses: its timeline has the next number already.
    await scene.rows(
      `INSERT INTO task_events (task_id, seq, type, to_state, at, actor)
       SELECT id, seq + 1, 'task.progress', 'DISPATCHED', now(), 'x' FROM tasks WHERE id = $1`,
      [spoilt],
    );
    for (let tries = 0; tries < 5; tries += 1) await scene.fold([spoilt, fine]);
    expect(await scene.task(fine)).toMatchObject({ state: 'COMPLETED' });
    expect(await scene.task(spoilt)).toMatchObject({ state: 'DISPATCHED' });
    expect(await scene.rows(`SELECT verdict FROM callbacks WHERE task_id = $1`, [spoilt])).toEqual([
      { verdict: 'parked' },
    ]);
  });
});

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]];
  return items.flatMap((item, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]),
  );
}
