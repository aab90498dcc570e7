import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openScenario, type Scenario } from '../support/scenario.js';

/** Every clock ends a task by its own code, after its backend was asked, and never because we were deaf (P10). */
describe('clocks', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  beforeEach(() => intake({ openForMs: 3_600_000, resumedMsAgo: null }));
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  const intake = (door: { openForMs: number; resumedMsAgo: number | null }) =>
    scene.rows(
      `UPDATE intake SET open_until = now() + $1 * interval '1 millisecond',
         resumed_at = now() - $2::float8 * interval '1 millisecond'`,
      [door.openForMs, door.resumedMsAgo],
    );
  /** Lets so much time pass for a task, and its clocks be looked at. */
  async function pass(id: string, ms: number): Promise<void> {
    const back = ['dispatched_at', 'started_at', 'last_heard_at', 'deadline_at', 'clock_at'];
    await scene.rows(
      `UPDATE tasks SET ${back.map((column) => `${column} = ${column} - $2 * interval '1 millisecond'`).join(', ')}
       WHERE id = $1`,
      [id, ms],
    );
    await scene.run(scene.duties.deadlines);
  }
  const timeouts = { startMs: 60_000, heartbeatMs: 30_000, runMs: 100_000 };

  /** A task in the state in which the clock runs, and how long it runs. */
  const clocks = {
    START_TIMEOUT: 60_000,
    HEARTBEAT_TIMEOUT: 30_000,
    RUN_TIMEOUT: 100_000,
    DEADLINE_EXCEEDED: 600_000,
  } as const;
  type Code = keyof typeof clocks;
  async function clocked(code: Code): Promise<string> {
    const request = {
      START_TIMEOUT: { timeouts },
      HEARTBEAT_TIMEOUT: { timeouts },
      RUN_TIMEOUT: { timeouts: { ...timeouts, heartbeatMs: 0 } },
      DEADLINE_EXCEEDED: { deadlineAt: new Date(Date.now() + clocks.DEADLINE_EXCEEDED) },
    }[code];
    const id = await scene.create(request);
    await scene.drive(id);
    if (code === 'HEARTBEAT_TIMEOUT' || code === 'RUN_TIMEOUT') {
      await scene.tell(id, 1, { status: 'running' });
      await scene.fold([id]);
    }
    return id;
  }
  const codes = Object.keys(clocks) as Code[];

  test.each(codes)(
    '%s ends the task by that code, asks the backend once and has the agent killed',
    async (code) => {
      const { stub } = await scene.open();
      const id = await clocked(code);
      await pass(id, clocks[code] - 5_000);
      expect(await scene.task(id)).toMatchObject({ finishedAt: null });
      expect(stub.requests).toEqual([]);
      await pass(id, 5_500);
      expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code, retryable: false } });
      expect(stub.requests).toEqual(['GET /orchestrator/sessions/session_1/status']);
      await scene.kill();
      expect(stub.sessions[0]?.status).toBe('killed');
      expect(await scene.attempts(id)).toMatchObject([{ outcome: 'killed', kill_due_at: null }]);
    },
  );

  test.each(codes)(
    'an end that the backend reports when it is asked is taken instead of %s',
    async (code) => {
      const { stub } = await scene.open();
      const id = await clocked(code);
      Object.assign(stub.sessions[0] ?? {}, { status: 'completed', result: { done: 1 } });
      await pass(id, clocks[code] + 500);
      expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
      expect(await scene.rows('SELECT result FROM task_results')).toEqual([{ result: '{"done":1}' }]);
    },
  );

  test('a callback received before the deadline beats it, though nobody has folded it yet', async () => {
    await scene.open();
    const id = await clocked('DEADLINE_EXCEEDED');
    await scene.tell(id, 1, { status: 'completed' });
    await pass(id, clocks.DEADLINE_EXCEEDED + 500);
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
  });

  test('a running agent that is asked does not move the heartbeat clock', async () => {
    const { stub } = await scene.open();
    const id = await clocked('HEARTBEAT_TIMEOUT');
    stub.sessions[0]!.status = 'running';
    await pass(id, 30_500);
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'HEARTBEAT_TIMEOUT' } });
  });

  test('an agent that was running all along has started in time, if its word of it was lost', async () => {
    const { stub } = await scene.open();
    const id = await clocked('START_TIMEOUT');
    stub.sessions[0]!.status = 'running';
    await pass(id, 60_500);
    expect(await scene.task(id)).toMatchObject({ state: 'RUNNING' });
  });

  test('a deadline ends what is held, what is scheduled and what is of unknown outcome', async () => {
    const deadlineAt = new Date(Date.now() + 60_000);
    const held = await scene.create({ deadlineAt, backend: { labels: { zone: 'none' } } });
    const scheduled = await scene.create({ deadlineAt, scheduledFor: new Date(Date.now() + 3_600_000) });
    const unknown = await scene.create({ deadlineAt });
    const { stub } = await scene.open({ behave: 'broken', routes: { list: false } });
    await scene.send(held, unknown);
    expect(await scene.task(held)).toMatchObject({ waiting: { reason: 'no_backend' } });
    expect(await scene.task(unknown)).toMatchObject({ waiting: { reason: 'confirming_outcome' } });
    for (const id of [held, scheduled, unknown]) {
      await pass(id, 61_000);
      expect(await scene.task(id)).toMatchObject({
        state: 'FAILED',
        error: { code: 'DEADLINE_EXCEEDED' },
        dueAt: null,
        lane: null,
      });
    }
    const sent = stub.spawns.length;
    await scene.crank();
    expect(stub.spawns).toHaveLength(sent);
  });

  test('a task without any clock never runs out', async () => {
    await scene.open();
    const id = await scene.create({ timeouts: { startMs: 0, heartbeatMs: 0, runMs: 0 } });
    await scene.drive(id);
    await pass(id, 365 * 86_400_000);
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED', clockAt: null });
  });

  test('nothing runs out while no callback door is open', async () => {
    const { stub } = await scene.open();
    const ids = [];
    for (const code of codes) ids.push(await clocked(code));
    await intake({ openForMs: -1, resumedMsAgo: null });
    for (const id of ids) {
      await pass(id, 10_000_000);
      expect(await scene.task(id)).toMatchObject({ finishedAt: null });
    }
    expect(stub.requests).toEqual([]);
  });

  test.each(['START_TIMEOUT', 'HEARTBEAT_TIMEOUT', 'RUN_TIMEOUT'] as const)(
    'after a gap %s has one full window, also when it would have run out soon after',
    async (code) => {
      await scene.open();
      for (const lapsedMs of [500, -2_000]) {
        const id = await clocked(code);
        await intake({ openForMs: 60_000, resumedMsAgo: 1_000 });
        await pass(id, clocks[code] + lapsedMs);
        await pass(id, 2_500);
        expect(await scene.task(id)).toMatchObject({ finishedAt: null });
        await intake({ openForMs: 60_000, resumedMsAgo: clocks[code] - 1_000 });
        await scene.rows('UPDATE tasks SET clock_at = now() WHERE finished_at IS NULL');
        await scene.run(scene.duties.deadlines);
        expect(await scene.task(id)).toMatchObject({ finishedAt: null });
        await intake({ openForMs: 60_000, resumedMsAgo: clocks[code] + 500 });
        await scene.rows('UPDATE tasks SET clock_at = now() WHERE finished_at IS NULL');
        await scene.run(scene.duties.deadlines);
        expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code } });
      }
    },
  );

  test('while it is being cancelled a clock still ends it, and the kill goes on', async () => {
    const { stub } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await clocked('DEADLINE_EXCEEDED');
    await scene.cancel(id);
    await scene.kill();
    await pass(id, clocks.DEADLINE_EXCEEDED + 500);
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'DEADLINE_EXCEEDED' } });
    stub.setKillAnswer(null);
    await scene.kill();
    expect(await scene.attempts(id)).toMatchObject([{ outcome: 'killed' }]);
  });
});
