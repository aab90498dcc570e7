import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** Nobody is shown as cancelled while an agent of it may live (P11). */
describe('cancel and kill', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario({ silenceMs: 200, giveUpAfterMs: 300 });
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  const cancelling = { state: 'DISPATCHED', cancelRequestedAt: expect.any(Date) };
  /** A task that its backend has accepted. */
  async function dispatched(request: Parameters<Scenario['create']>[0] = {}): Promise<string> {
    const id = await scene.create(request);
    await scene.send(id);
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED' });
    return id;
  }

  test('what was never sent is CANCELLED at once and is never sent later', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    expect(await scene.cancel(id)).toMatchObject({ kind: 'won', after: { state: 'CANCELLED' } });
    await scene.send(id);
    await scene.crank();
    expect(stub.spawns).toHaveLength(0);
    expect(await scene.timeline(id)).toEqual(['task.created >PENDING', 'task.cancelled >CANCELLED']);
    expect(await scene.cancel(id)).toMatchObject({ kind: 'refused', reason: 'over' });
  });

  test('what is held is CANCELLED at once and is not released', async () => {
    const id = await scene.create();
    await scene.send(id);
    await scene.cancel(id);
    const { stub } = await scene.open();
    await scene.crank();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED', lane: null, waiting: null });
    expect(stub.spawns).toHaveLength(0);
  });

  test('what was provably not received is CANCELLED at once', async () => {
    const { stub } = await scene.open({ behave: 'tooMany' });
    const id = await scene.create();
    await scene.send(id);
    expect(await scene.cancel(id)).toMatchObject({ after: { state: 'CANCELLED' } });
    expect(stub.kills).toHaveLength(0);
  });

  test('while its send is under way it waits for the outcome, is killed on acceptance, and ends when that is confirmed', async () => {
    const { stub } = await scene.open({ behave: { status: 201, delayMs: 400 } });
    const id = await scene.create();
    const sending = scene.send(id);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    expect(await scene.cancel(id)).toMatchObject({ after: { state: 'PENDING' } });
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'PENDING' });
    expect(stub.kills).toHaveLength(0);
    await sending;
    expect(await scene.task(id)).toMatchObject(cancelling);
    await scene.kill();
    expect(stub.kills).toMatchObject([{ reason: 'not needed' }]);
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
    expect(stub.spawns).toHaveLength(1);
  });

  test.each([
    ['refused by a full backend', { status: 429, delayMs: 300 }],
    ['rejected', { status: 422, delayMs: 300 }],
    ['told to come later', { status: 425, delayMs: 300 }],
  ])('a send under way that is then %s ends CANCELLED by itself', async (_name, behave) => {
    const { stub } = await scene.open({ behave });
    const id = await scene.create();
    const sending = scene.send(id);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    await scene.cancel(id);
    await sending;
    await scene.crank();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
    expect(stub.spawns).toHaveLength(1);
  });

  test('a task that waits for its place in the rate and is cancelled meanwhile is not sent', async () => {
    const { stub } = await scene.open({}, { maxDispatchesPerMinute: 100 });
    const [first, second] = [await scene.create(), await scene.create()];
    const sending = scene.send(first, second);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    const waiting = stub.spawns[0]?.taskId === first ? second : first;
    await scene.cancel(waiting);
    await sending;
    expect(stub.spawns).toHaveLength(1);
    expect(await scene.task(waiting)).toMatchObject({ state: 'CANCELLED' });
  });

  test('killed in the answer to the kill confirms', async () => {
    const { stub } = await scene.open({ routes: { status: false } });
    stub.setKillAnswer({ status: 200, body: { status: 'killed' } });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED', cancelReason: 'not needed' });
  });

  test('a bare 2xx confirms nothing where there is a status route, and killed on that route does', async () => {
    const { stub } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill(3);
    expect(await scene.task(id)).toMatchObject(cancelling);
    expect(stub.kills.length).toBe(3);
    stub.sessions[0]!.status = 'killed';
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('a bare 2xx is all there can be where there is no status route', async () => {
    const { stub } = await scene.open({ routes: { status: 501 } });
    stub.setKillAnswer({ status: 202, body: {} });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('where a missing status route answers 404, a bare 2xx counts when it came twice', async () => {
    const { stub } = await scene.open({ routes: { status: false } });
    stub.setKillAnswer({ status: 202, body: {} });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject(cancelling);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('a killed callback confirms', async () => {
    const { stub } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill();
    await scene.tell(id, 1, { status: 'killed' });
    await scene.fold([id]);
    expect(await scene.timeline(id)).toEqual(
      expect.arrayContaining(['task.killConfirmed', 'task.cancelled >CANCELLED']),
    );
  });

  test('404 from both routes confirms when it comes twice, not when it comes once', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    (stub.sessions as unknown[]).length = 0;
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject(cancelling);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('a result that arrives first wins', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    await scene.cancel(id);
    await scene.tell(id, 1, { status: 'completed', result: '{"done":true}' });
    await scene.fold([id]);
    await scene.kill(2);
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
    expect(stub.kills).toHaveLength(0);
  });

  test('a result that the backend reports when asked after the kill wins too', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    stub.sessions[0]!.status = 'completed';
    stub.sessions[0]!.result = 42;
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'COMPLETED' });
  });

  test('failed while cancelling stays FAILED and is not tried again', async () => {
    await scene.open();
    const id = await dispatched();
    await scene.cancel(id);
    const error = { errorCode: 'BROKE', errorMessage: 'it broke', errorRetryable: true };
    await scene.tell(id, 1, { status: 'failed', ...error });
    await scene.fold([id]);
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'BROKE' } });
  });

  test('an agent of unknown outcome is never sent again: it is found by the list and killed', async () => {
    const { stub } = await scene.open({ behave: { status: 201, fault: 'reset' } });
    const id = await scene.create();
    await scene.send(id);
    expect(await scene.cancel(id)).toMatchObject({ after: { state: 'PENDING' } });
    await scene.crank();
    expect(stub.spawns).toHaveLength(1);
    await scene.kill();
    expect(stub.kills).toMatchObject([{ sessionId: stub.sessions[0]?.id }]);
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
    await scene.crank();
    expect(stub.spawns).toHaveLength(1);
  });

  test('an agent that shows up in the list late is killed, and its task was not shown as cancelled before', async () => {
    const { stub } = await scene.open({ behave: { fault: 'reset' } });
    const id = await scene.create();
    await scene.send(id);
    await scene.cancel(id);
    await scene.kill(2);
    expect(await scene.task(id)).toMatchObject({ state: 'PENDING', cancelRequestedAt: expect.any(Date) });
    const late = { id: 'late', taskId: id, attempt: 1, status: 'running' };
    (stub.sessions as unknown[]).push(late);
    await scene.kill(2);
    expect(late.status).toBe('killed');
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('an agent of unknown outcome that no list shows for long enough is taken for never started', async () => {
    await scene.open({ behave: { fault: 'reset' } });
    const id = await scene.create();
    await scene.send(id);
    await scene.cancel(id);
    await scene.rows(`UPDATE attempts SET kill_since = kill_since - interval '1 second'`);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'PENDING' });
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('a backend that is away is told again until it is back', async () => {
    const { stub } = await scene.open();
    const id = await dispatched();
    await stub.stop();
    await scene.cancel(id);
    await scene.kill(2);
    expect(await scene.task(id)).toMatchObject(cancelling);
    await stub.start();
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('giving up ends it KILL_UNCONFIRMED and frees its slot', async () => {
    const { stub, id: backendId } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await dispatched();
    const gaveUp = { type: 'gaveUp', reason: 'nobody answers', actor: 'key_admin' } as const;
    expect(await scene.mover.move({ taskId: id, event: gaveUp })).toMatchObject({ reason: 'stale' });
    await scene.cancel(id);
    await scene.kill();
    await scene.mover.move({ taskId: id, event: gaveUp });
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'KILL_UNCONFIRMED' } });
    expect(await scene.inFlight(backendId)).toBe(0);
    expect(await scene.mover.move({ taskId: id, event: gaveUp })).toMatchObject({ reason: 'over' });
  });

  test('an agent that is accepted after an admin gave it up is told to die all the same', async () => {
    const { stub, id: backendId } = await scene.open({ behave: { status: 201, delayMs: 300 } });
    const id = await scene.create();
    const sending = scene.send(id);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    await scene.cancel(id);
    await scene.mover.move({ taskId: id, event: { type: 'gaveUp', reason: 'now', actor: 'key_admin' } });
    await sending;
    await scene.kill();
    expect(stub.sessions[0]?.status).toBe('killed');
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'KILL_UNCONFIRMED' } });
    expect(await scene.inFlight(backendId)).toBe(0);
  });

  test('a kill on a backend that stays away is given up after its time', async () => {
    const { stub, id: backendId } = await scene.open();
    const id = await dispatched();
    await stub.stop();
    await scene.cancel(id);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject(cancelling);
    await eventually(async () => {
      await scene.kill();
      expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'KILL_UNCONFIRMED' } });
    });
    expect(await scene.inFlight(backendId)).toBe(0);
  });

  test('a kill that nobody confirms for a day is given up, and the timeline says so', async () => {
    const { stub, id: backendId } = await scene.open();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await dispatched();
    await scene.cancel(id);
    await scene.kill();
    await scene.rows(`UPDATE attempts SET kill_since = kill_since - interval '23 hours 59 minutes'`);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject(cancelling);
    await scene.rows(`UPDATE attempts SET kill_since = kill_since - interval '2 minutes'`);
    await scene.kill();
    expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'KILL_UNCONFIRMED' } });
    expect(await scene.timeline(id)).toContain('task.killGivenUp');
    expect(await scene.inFlight(backendId)).toBe(0);
  });

  test('a failed connection while cancelling ends CANCELLED, for nothing was received', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    await stub.stop();
    await scene.send(id);
    expect(await scene.cancel(id)).toMatchObject({ after: { state: 'CANCELLED' } });
    await stub.start();
    await scene.crank();
    expect(stub.spawns).toHaveLength(0);
  });
});
