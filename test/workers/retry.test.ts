import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openScenario, type Scenario } from '../support/scenario.js';

/** An agent that failed and may be tried again: a new attempt, never the old one once more. */
describe('a retryable failure', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  const broke = {
    status: 'failed',
    errorCode: 'BROKE',
    errorMessage: 'it broke',
    errorRetryable: true,
  } as const;
  async function fail(id: string, attempt: number, said: Partial<typeof broke> | object = {}): Promise<void> {
    await scene.tell(id, attempt, { ...broke, ...said });
    await scene.fold([id]);
  }

  test('goes to another backend with a new number, key and token, and both attempts are listed', async () => {
    const one = await scene.open();
    const two = await scene.open();
    const id = await scene.create();
    await scene.drive(id);
    const first = await scene.task(id);
    await scene.tell(id, 1, { status: 'progress', progressPercent: 80 });
    await fail(id, 1);
    expect(await scene.task(id)).toMatchObject({
      state: 'PENDING',
      waiting: { reason: 'backing_off' },
      progress: null,
      externalId: null,
      startedAt: null,
    });
    const second = await scene.drive(id);
    expect(second).toMatchObject({ state: 'DISPATCHED', attempt: 2, spent: 1 });
    expect(second.backendId).not.toBe(first.backendId);
    const sends = [...one.stub.spawns, ...two.stub.spawns];
    expect(sends.map(({ attempt }) => attempt).sort((a, b) => (a ?? 0) - (b ?? 0))).toEqual([1, 2]);
    expect(new Set(sends.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(2);
    expect(new Set(sends.map(({ callbackToken }) => callbackToken)).size).toBe(2);
    expect(new Set(sends.map(({ callbackUrl }) => callbackUrl)).size).toBe(2);
    expect(await scene.attempts(id)).toMatchObject([
      { number: 1, backend_id: first.backendId, outcome: 'failed', external_id: 'session_1' },
      { number: 2, backend_id: second.backendId, outcome: 'accepted', external_id: 'session_1' },
    ]);
    expect(await scene.timeline(id)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'task.progress',
      'task.retryScheduled >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
    ]);
  });

  test('returns to the only backend there is, with a new key all the same', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    await scene.drive(id);
    await fail(id, 1);
    await scene.drive(id);
    expect(stub.spawns.map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect(new Set(stub.spawns.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(2);
    expect(await scene.attempts(id)).toMatchObject([
      { external_id: 'session_1' },
      { external_id: 'session_2' },
    ]);
  });

  test('after the last attempt the error is the agent’s own', async () => {
    await scene.open();
    const id = await scene.create({ retry: { maxAttempts: 2 } });
    await scene.drive(id);
    await fail(id, 1);
    await scene.drive(id);
    await fail(id, 2, { errorMessage: 'again' });
    expect(await scene.task(id)).toMatchObject({
      state: 'FAILED',
      attempt: 2,
      error: { code: 'BROKE', message: 'again', retryable: true },
    });
  });

  test('ATTEMPTS_EXHAUSTED is said only where no agent gave an error', async () => {
    await scene.open();
    const id = await scene.create({ retry: { maxAttempts: 2 } });
    await scene.drive(id);
    await fail(id, 1);
    await scene.drive(id);
    await scene.tell(id, 2, { status: 'failed' });
    await scene.fold([id]);
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'ATTEMPTS_EXHAUSTED' } });
  });

  test('a failure that is not retryable ends it at the first attempt', async () => {
    await scene.open();
    const id = await scene.create();
    await scene.drive(id);
    await fail(id, 1, { errorRetryable: false });
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', attempt: 1, error: { code: 'BROKE' } });
  });

  test.each(['running', 'progress', 'completed', 'failed', 'killed'] as const)(
    'what the superseded agent still says (%s) is noted and changes nothing',
    async (status) => {
      await scene.open();
      const id = await scene.create();
      await scene.drive(id);
      await fail(id, 1);
      await scene.drive(id);
      const before = await scene.task(id);
      await scene.tell(id, 1, { status, result: '"old"', progressPercent: 99, sessionId: 'old' });
      await scene.fold([id]);
      const { version: _, seq, updatedAt: __, attempts: ___, ...same } = before;
      const after = await scene.task(id);
      expect(after).toMatchObject(same);
      expect(after.seq).toBe(seq + 1);
      expect((await scene.timeline(id)).at(-1)).toBe('callback.superseded');
      expect(await scene.rows('SELECT 1 FROM task_results WHERE task_id = $1', [id])).toEqual([]);
      await scene.tell(id, 2, { status: 'completed', result: '"new"' });
      await scene.fold([id]);
      const [stored] = await scene.rows('SELECT result FROM task_results WHERE task_id = $1', [id]);
      expect(stored).toEqual({ result: '"new"' });
    },
  );

  test('an agent that may still live is told to die before another backend gets the task', async () => {
    const one = await scene.open({ behave: { status: 201, fault: 'reset' }, routes: { list: true } });
    const id = await scene.create({ retry: { maxSends: 1, onUnknownOutcome: 'failover' } });
    await scene.send(id);
    expect(await scene.task(id)).toMatchObject({ state: 'PENDING', waiting: { reason: 'backing_off' } });
    const two = await scene.open();
    await scene.crank();
    expect(two.stub.spawns).toHaveLength(0);
    await scene.kill();
    expect(one.stub.sessions[0]?.status).toBe('killed');
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 2, backendId: two.id });
    expect(await scene.inFlight(one.id)).toBe(0);
  });
});
