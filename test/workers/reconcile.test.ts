import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** What became of tasks that have been silent, and of those whose backend is gone. */
describe('asking backends', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario({ silenceMs: 500, giveUpAfterMs: 400 });
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  async function dispatched(request: Parameters<Scenario['create']>[0] = {}): Promise<string> {
    const id = await scene.create(request);
    await scene.drive(id);
    return id;
  }

  test.each([
    [
      'running',
      { status: 'running', progress: { percent: 30 } },
      { state: 'RUNNING', progress: { percent: 30 } },
    ],
    ['completed', { status: 'completed', result: [1] }, { state: 'COMPLETED' }],
    [
      'failed',
      { status: 'failed', error: { code: 'BAD', message: 'bad' } },
      { state: 'FAILED', error: { code: 'BAD', message: 'bad' } },
    ],
    ['killed', { status: 'killed' }, { state: 'CANCELLED' }],
  ])('a lost %s callback is healed by asking', async (_name, session, end) => {
    const { stub } = await scene.open();
    const id = await dispatched();
    Object.assign(stub.sessions[0] ?? {}, session);
    await scene.reconcile();
    expect(await scene.task(id)).toMatchObject(end);
  });

  test('who was heard lately is not asked', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    await scene.tell(id, 1, { status: 'running' });
    await scene.fold([id]);
    await scene.rows('UPDATE attempts SET ask_at = now()');
    await scene.run(scene.duties.reconcile);
    expect(stub.requests).toEqual([]);
  });

  test('a retryable failure that is healed begins a new attempt', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    const error = { code: 'BAD', message: 'bad', retryable: true };
    Object.assign(stub.sessions[0] ?? {}, { status: 'failed', error });
    await scene.reconcile();
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 2 });
  });

  test('an agent that its backend does not know twice is lost: a new attempt follows, and none after the last', async () => {
    const { stub } = await scene.open();
    const id = await dispatched({ retry: { maxAttempts: 2 } });
    (stub.sessions as unknown[]).length = 0;
    await scene.reconcile();
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
    await scene.reconcile();
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 2, spent: 1 });
    (stub.sessions as unknown[]).length = 0;
    await scene.reconcile(2);
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'LOST_BY_BACKEND' } });
    expect(await scene.attempts(id)).toMatchObject([{ outcome: 'lost' }, { outcome: 'lost' }]);
  });

  test('a sign of life between two answers that it is unknown begins the count anew', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    const sessions = stub.sessions as unknown[];
    const [agent] = sessions.splice(0);
    await scene.reconcile();
    await scene.tell(id, 1, { status: 'running' });
    await scene.fold([id]);
    await scene.reconcile();
    expect(await scene.task(id)).toMatchObject({ state: 'RUNNING', attempt: 1 });
    sessions.push(agent);
  });

  test.each([404, 405, 501, 500])(
    'a status route that answers %i fails no task by itself',
    async (status) => {
      const { stub } = await scene.open();
      const id = await dispatched();
      stub.setRoutes({ status: status === 404 ? 500 : status, list: false });
      await scene.reconcile(3);
      expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
    },
  );

  test('a backend that is away is asked again, and loses no agent by that', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    await stub.stop();
    await scene.reconcile(3);
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED' });
    await stub.start();
    stub.sessions[0]!.status = 'completed';
    await scene.reconcile();
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
  });

  test.each(['fail', 'failover'] as const)(
    'an unknown outcome on a removed backend is settled as the task chose: %s',
    async (onUnknownOutcome) => {
      const { id: removed } = await scene.open({ behave: 'broken', routes: { list: false } });
      const id = await scene.create({
        retry: { onUnknownOutcome, backoffBaseMs: 60_000, backoffMaxMs: 60_000 },
      });
      await scene.send(id);
      expect(await scene.task(id)).toMatchObject({ waiting: { reason: 'confirming_outcome' } });
      await scene.open();
      await scene.rows('UPDATE backends SET deleted_at = now() WHERE id = $1', [removed]);
      await scene.run(scene.duties.removed);
      if (onUnknownOutcome === 'fail') {
        expect(await scene.task(id)).toMatchObject({ error: { code: 'DISPATCH_OUTCOME_UNKNOWN' } });
      } else {
        expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 2 });
      }
    },
  );

  test('an unconfirmed kill on a removed backend is tried for its time and ends KILL_UNCONFIRMED', async () => {
    const { stub, id: removed } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await dispatched();
    await scene.rows('UPDATE backends SET deleted_at = now() WHERE id = $1', [removed]);
    await scene.cancel(id);
    await scene.kill();
    expect(stub.kills).toHaveLength(1);
    await scene.run(scene.duties.removed);
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED' });
    await eventually(async () => {
      await scene.run(scene.duties.removed);
      expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'KILL_UNCONFIRMED' } });
    });
    expect(await scene.inFlight(removed)).toBe(0);
  });

  test('a kill on a removed backend that is confirmed ends CANCELLED', async () => {
    const { id: removed } = await scene.open();
    const id = await dispatched();
    await scene.rows('UPDATE backends SET deleted_at = now() WHERE id = $1', [removed]);
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });
});
