import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openStubOrchestrator, type Behaviour, type StubOrchestrator } from '../support/orchestrator.js';
import { openPipeline, type Pipeline } from '../support/pipeline.js';

/** The outcome table, row by row, over real sockets. */
describe('the outcome of a send', () => {
  let pipeline: Pipeline;
  const stubs: StubOrchestrator[] = [];
  beforeAll(async () => {
    pipeline = await openPipeline({ silenceMs: 300, giveUpAfterMs: 700 });
  });
  afterEach(async () => {
    await pipeline.rows('TRUNCATE tasks, task_payloads, task_events, attempts, callbacks, backends');
    for (const stub of stubs.splice(0)) await stub.close();
  });
  afterAll(() => pipeline.close());

  async function openStub(
    behave: Behaviour | ((nth: number) => Behaviour),
    options: { name?: string; list?: boolean } = {},
  ) {
    const stub = await openStubOrchestrator({
      behave: (spawn) => (typeof behave === 'function' ? behave(spawn.nth) : behave),
      routes: { list: options.list ?? true },
    });
    stubs.push(stub);
    const id = await pipeline.backend(stub.url, { name: options.name ?? `b${Math.random()}` });
    return { stub, id };
  }
  const attempts = (id: string) =>
    pipeline.rows<{
      number: number;
      backend_id: string;
      external_id: string | null;
      outcome: string;
      sends: number;
    }>(
      'SELECT number, backend_id, external_id, outcome, sends FROM attempts WHERE task_id = $1 ORDER BY number',
      [id],
    );
  /** Sends until the task leaves PENDING, as the sweep would. */
  async function drive(id: string, until: (state: string) => boolean = (state) => state !== 'PENDING') {
    await eventually(async () => {
      await pipeline.duties.release.runOnce(new AbortController().signal);
      await pipeline.send(id);
      expect(until((await pipeline.task(id)).state)).toBe(true);
    });
    return pipeline.task(id);
  }

  test.each([400, 413, 415, 422])('%i fails the task at once and spends no second send', async (status) => {
    const { stub } = await openStub({ status });
    const id = await pipeline.create();
    await pipeline.send(id);
    const task = await pipeline.task(id);
    expect(task).toMatchObject({ state: 'FAILED', error: { code: 'BACKEND_REJECTED' } });
    expect(stub.spawns).toHaveLength(1);
    expect(await attempts(id)).toMatchObject([{ outcome: 'rejected', sends: 1 }]);
  });

  test.each([401, 403, 404, 405, 410, 418, 301, 307])(
    '%i marks the backend misconfigured, holds the task and spends nothing',
    async (status) => {
      const { stub, id: backendId } = await openStub({
        status,
        headers: { location: 'http://127.0.0.1:9/' },
      });
      const id = await pipeline.create();
      await pipeline.send(id);
      await eventually(async () => expect((await pipeline.task(id)).lane).not.toBeNull());
      const [row] = await pipeline.rows(`SELECT health_status, health_reason FROM backends WHERE id = $1`, [
        backendId,
      ]);
      expect(row).toEqual({ health_status: 'down', health_reason: 'misconfigured' });
      expect(await pipeline.task(id)).toMatchObject({
        state: 'PENDING',
        spent: 0,
        waiting: { reason: 'backend_down' },
      });
      // Pings are answered well and raise nothing.
      await pipeline.ping(backendId);
      await pipeline.ping(backendId);
      expect(
        await pipeline.rows(`SELECT 1 FROM backends WHERE id = $1 AND health_status = 'up'`, [backendId]),
      ).toEqual([]);
      // One trial after its time, and a good answer raises the backend; the attempt is the same.
      stub.behave({ status: 201 });
      await pipeline.rows(`UPDATE backends SET trial_at = now() WHERE id = $1`, [backendId]);
      await drive(id);
      expect(await pipeline.task(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
      expect(
        await pipeline.rows(`SELECT health_status AS s FROM backends WHERE id = $1`, [backendId]),
      ).toEqual([{ s: 'up' }]);
    },
  );

  test.each([429, 503])('%i with Retry-After holds the whole backend and keeps the key', async (status) => {
    const { stub, id: backendId } = await openStub((nth) =>
      nth === 1 ? { status, headers: { 'retry-after': '1' } } : { status: 201 },
    );
    const [first, second] = [await pipeline.create(), await pipeline.create()];
    await pipeline.send(first);
    await pipeline.send(second);
    await eventually(async () => expect((await pipeline.task(first)).waiting?.reason).toBe('rate_limited'));
    expect(stub.spawns).toHaveLength(1);
    const [row] = await pipeline.rows<{ ms: number }>(
      `SELECT extract(epoch FROM blocked_until - now())::float * 1000 AS ms FROM backends WHERE id = $1`,
      [backendId],
    );
    expect(row?.ms).toBeGreaterThan(0);
    await drive(first);
    const sent = stub.spawns.filter(({ taskId }) => taskId === first);
    expect(new Set(sent.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
    expect(new Set(sent.map(({ bodyText }) => bodyText)).size).toBe(1);
    expect(await attempts(first)).toMatchObject([{ number: 1, sends: 2, outcome: 'accepted' }]);
  });

  test.each([408, 425])('%i holds that task alone', async (status) => {
    await openStub((nth) => (nth === 1 ? { status, headers: { 'retry-after': '2' } } : { status: 201 }));
    const [first, second] = [await pipeline.create(), await pipeline.create()];
    await pipeline.send(first);
    expect(await pipeline.task(first)).toMatchObject({
      state: 'PENDING',
      waiting: { reason: 'backing_off' },
    });
    await pipeline.send(second);
    expect((await pipeline.task(second)).state).toBe('DISPATCHED');
  });

  test('a refused connection tries another backend at once, and spends nothing', async () => {
    const { stub: dead } = await openStub({ status: 201 }, { name: 'dead' });
    await dead.stop();
    const { stub: alive } = await openStub({ status: 201 }, { name: 'alive' });
    const id = await pipeline.create({ retry: { maxAttempts: 1 } });
    const task = await drive(id);
    expect(task).toMatchObject({ state: 'DISPATCHED', spent: 0 });
    expect(alive.spawns).toHaveLength(1);
  });

  test('sends in a row that were not received mark the backend down, and the task is held', async () => {
    const { stub, id: backendId } = await openStub({ status: 201 });
    await stub.stop();
    const id = await pipeline.create({ retry: { maxAttempts: 1 } });
    await eventually(async () => {
      await pipeline.send(id);
      expect((await pipeline.task(id)).waiting?.reason).toBe('backend_down');
    });
    expect(await pipeline.rows(`SELECT health_reason AS r FROM backends WHERE id = $1`, [backendId])).toEqual(
      [{ r: 'unreachable' }],
    );
    await stub.start();
    await pipeline.ping(backendId);
    await pipeline.ping(backendId);
    await drive(id);
    expect(await attempts(id)).toMatchObject([{ number: 1, outcome: 'accepted' }]);
  });

  const unclear: [string, Behaviour][] = [
    ['500', { status: 500 }],
    ['502', { status: 502 }],
    ['409 without an id', { status: 409, body: {} }],
    ['a reset after the request was read', { fault: 'reset' }],
  ];
  test.each(unclear)(
    '%s is unknown: the same backend is asked and sent the same bytes again',
    async (_name, behaviour) => {
      const { stub } = await openStub((nth) => (nth === 1 ? behaviour : { status: 201 }));
      const { stub: other } = await openStub({ status: 201 });
      await pipeline.rows('UPDATE backends SET weight = 0.001 WHERE url = $1', [other.url]);
      const id = await pipeline.create();
      await pipeline.send(id);
      expect(await pipeline.task(id)).toMatchObject({
        state: 'PENDING',
        waiting: { reason: 'confirming_outcome' },
      });
      await drive(id);
      const sent = stub.spawns.filter(({ taskId }) => taskId === id);
      expect(sent.length).toBe(2);
      expect(new Set(sent.map(({ idempotencyKey, bodyText }) => `${idempotencyKey} ${bodyText}`)).size).toBe(
        1,
      );
      expect(other.spawns).toHaveLength(0);
    },
  );

  test('an acceptance whose answer was lost is found by asking, and not sent again', async () => {
    const { stub } = await openStub({ status: 201, fault: 'reset' });
    const id = await pipeline.create();
    await pipeline.send(id);
    const task = await drive(id);
    expect(task.externalId).toBe(stub.sessions[0]?.id);
    expect(stub.spawns).toHaveLength(1);
  });

  test('a 409 that carries an id has accepted', async () => {
    await openStub({ status: 409, body: { sessionId: 's-9' } });
    const id = await pipeline.create();
    await pipeline.send(id);
    expect(await pipeline.task(id)).toMatchObject({ state: 'DISPATCHED', externalId: 's-9' });
  });

  test.each([400, 401, 429])('%i after an unknown send settles nothing and frees nothing', async (status) => {
    const { stub } = await openStub(
      (nth) => (nth === 1 ? { status: 500 } : nth === 2 ? { status } : { status: 201 }),
      {
        list: false,
      },
    );
    const { stub: other } = await openStub({ status: 201 });
    await pipeline.rows('UPDATE backends SET weight = 0.001 WHERE url = $1', [other.url]);
    const id = await pipeline.create();
    const task = await drive(id);
    expect(task.state).toBe('DISPATCHED');
    expect(stub.spawns.length).toBeGreaterThanOrEqual(3);
    expect(other.spawns).toHaveLength(0);
  });

  test('when the sends are over the task fails as unknown, and its agent is looked for', async () => {
    const { stub } = await openStub({ status: 500 }, { list: false });
    const id = await pipeline.create({ retry: { maxSends: 3 } });
    const task = await drive(id);
    expect(task).toMatchObject({ state: 'FAILED', error: { code: 'DISPATCH_OUTCOME_UNKNOWN' } });
    expect(stub.spawns).toHaveLength(3);
    expect(
      await pipeline.rows('SELECT 1 FROM attempts WHERE task_id = $1 AND kill_due_at IS NOT NULL', [id]),
    ).toHaveLength(1);
  });

  test('a task that chose failover goes to another backend once the old one was told to kill long enough', async () => {
    const { stub } = await openStub({ status: 500 }, { list: false });
    const { stub: other } = await openStub({ status: 201 });
    await pipeline.rows('UPDATE backends SET weight = 0.001 WHERE url = $1', [other.url]);
    const id = await pipeline.create({ retry: { maxSends: 2, onUnknownOutcome: 'failover' } });
    const task = await drive(id);
    expect(task).toMatchObject({ state: 'DISPATCHED', attempt: 2 });
    expect(other.spawns).toHaveLength(1);
    const keys = [...stub.spawns, ...other.spawns].map(({ idempotencyKey }) => idempotencyKey);
    expect(new Set(keys).size).toBe(2);
  });

  test('an unknown outcome on a backend that stays away is given up after its time', async () => {
    const { stub } = await openStub({ status: 500 });
    const id = await pipeline.create();
    await pipeline.send(id);
    await stub.stop();
    const task = await drive(id);
    expect(task).toMatchObject({ state: 'FAILED', error: { code: 'DISPATCH_OUTCOME_UNKNOWN' } });
  });

  test('a credential that no key opens marks the backend misconfigured and poisons no task', async () => {
    const { stub, id: backendId } = await openStub({ status: 201 });
    await pipeline.rows(`UPDATE backends SET auth_type = 'bearer', auth_secret = 'sealed by nobody'`);
    const ids = [await pipeline.create(), await pipeline.create()];
    for (const id of ids) await pipeline.send(id);
    for (const id of ids) {
      await pipeline.send(id);
      expect(await pipeline.task(id)).toMatchObject({
        ...{ state: 'PENDING', claims: 0, spent: 0 },
        waiting: { reason: 'backend_down', detail: expect.stringContaining('not configured any more') },
      });
    }
    expect(stub.spawns).toHaveLength(0);
    await pipeline.rows(
      `UPDATE backends SET auth_type = 'none', auth_secret = NULL, trial_at = now(),
      config_version = config_version + 1 WHERE id = $1`,
      [backendId],
    );
    for (const id of ids) expect(await drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
  });

  test('2xx with an unreadable body accepts', async () => {
    await openStub({ status: 204 });
    const id = await pipeline.create();
    await pipeline.send(id);
    expect(await pipeline.task(id)).toMatchObject({ state: 'DISPATCHED', externalId: null });
  });
});
