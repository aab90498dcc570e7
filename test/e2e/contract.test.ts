import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import got from 'got';
import { eventually } from '../support/eventually.js';
import { openStubOrchestrator, type StubOptions, type StubOrchestrator } from '../support/orchestrator.js';
import { openSystem, type System } from '../support/system.js';

/** What the contract promises to those outside, seen through all the real processes at once. */
let system: System;
const stubs: StubOrchestrator[] = [];
const backendIds: string[] = [];
let names = 0;

beforeAll(async () => {
  system = await openSystem({ env: { GIVE_UP_AFTER_MS: '5000' }, processes: { dispatch: 2, web: 2 } });
}, 60_000);
afterEach(async () => {
  for (const id of backendIds.splice(0)) await system.api('DELETE', `/v1/backends/${id}?force=true`);
});
afterAll(async () => {
  for (const stub of stubs) await stub.close();
  await system.stop();
}, 60_000);

async function place(options: StubOptions = {}, backend: Record<string, unknown> = {}) {
  const stub = await openStubOrchestrator(options);
  stubs.push(stub);
  const made = await system.api('POST', '/v1/backends', {
    ...{ name: `contract-${(names += 1)}`, protocol: 'gateway', url: stub.url },
    ...backend,
  });
  expect(made.status).toBe(201);
  const id: string = made.body.id;
  backendIds.push(id);
  await eventually(async () => {
    expect((await system.api('GET', `/v1/backends/${id}`)).body.health.status).toBe('up');
  });
  return { stub, id };
}

async function create(body: Record<string, unknown>): Promise<string> {
  const made = await system.api('POST', '/v1/tasks', { type: 'demo', context: {}, ...body });
  expect(made.status).toBe(201);
  return made.body.id as string;
}

const read = async (id: string) => (await system.api('GET', `/v1/tasks/${id}`)).body;
const ended = async (id: string) => (await system.api('GET', `/v1/tasks/${id}?wait=20`)).body;
const events = async (id: string) => (await system.api('GET', `/v1/tasks/${id}/events?limit=200`)).body.data;

async function spawned(stub: StubOrchestrator, count: number) {
  return eventually(() => {
    expect(stub.spawns.length).toBeGreaterThanOrEqual(count);
    expect(stub.spawns[count - 1]?.complete).toBe(true);
    return stub.spawns[count - 1]!;
  });
}

const moves = (timeline: { from: string | null; to: string }[]) =>
  timeline.filter(({ from, to }) => from !== to).map(({ to }) => to);

describe('a task from end to end', () => {
  test('it is sent, runs, ends, and its stream told everything once', async () => {
    const { stub, id: backendId } = await place({ agents: 'auto', paceMs: 60 });
    const id = await create({ backend: { id: backendId } });
    const stream = await got(`${system.baseUrl}/v1/tasks/${id}/stream`, {
      headers: { authorization: `Bearer ${system.adminKey}` },
      timeout: { request: 20_000 },
    });
    expect(await read(id)).toMatchObject({ state: 'COMPLETED', attempt: 1, backendId, error: null });
    const timeline = await events(id);
    expect(moves(timeline)).toEqual(['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED']);
    const told = [...stream.body.matchAll(/^id: (\d+)$/gm)].map(([, seq]) => Number(seq));
    expect(told).toEqual(timeline.map(({ seq }: { seq: number }) => seq));
    expect(stub.spawns).toHaveLength(1);
  });

  test('payloads reach the Orchestrator, and come back from it, as the same bytes', async () => {
    const odd =
      '{"huge":1e400,"long":9007199254740993,"nul":"\\u0000","half":"\\ud800","twice":1,"twice":2,"__proto__":{"a":1}, "s" : [ 1 ]}';
    const { stub, id: backendId } = await place();
    const made = await got.post(`${system.baseUrl}/v1/tasks`, {
      headers: { authorization: `Bearer ${system.adminKey}`, 'content-type': 'application/json' },
      body: `{"type":"demo","backend":{"id":"${backendId}"},"context":${odd},"metadata":${odd}}`,
    });
    const { id } = JSON.parse(made.body) as { id: string };
    const spawn = await spawned(stub, 1);
    expect(spawn.bodyText).toContain(`"context":${odd},"callback_url":`);
    expect(spawn.bodyText).toContain(`"metadata":${odd},`);
    const answer = await got.post(spawn.callbackUrl ?? '', {
      headers: { authorization: `Bearer ${spawn.callbackToken}`, 'content-type': 'application/json' },
      body: `{"status":"COMPLETED","result":${odd}}`,
    });
    expect([answer.statusCode, answer.body]).toEqual([202, '{"accepted":true}']);
    await ended(id);
    const whole = await got(`${system.baseUrl}/v1/tasks/${id}`, {
      headers: { authorization: `Bearer ${system.adminKey}` },
    });
    for (const name of ['context', 'metadata', 'result']) expect(whole.body).toContain(`"${name}":${odd}`);
  });

  test('a retryable failure is a new attempt with its own key and token; the old one changes nothing', async () => {
    const { stub, id: backendId } = await place();
    const id = await create({ backend: { id: backendId } });
    const first = await spawned(stub, 1);
    await stub.send(first, { status: 'failed', error: { message: 'again', retryable: true } });
    const second = await spawned(stub, 2);
    expect(second.idempotencyKey).not.toBe(first.idempotencyKey);
    expect(second.callbackToken).not.toBe(first.callbackToken);
    expect((await stub.send(first, { status: 'completed', result: 'old' })).status).toBe(202);
    await stub.send(second, { status: 'completed', result: 'new' });
    expect(await ended(id)).toMatchObject({ state: 'COMPLETED', result: 'new', attempt: 2 });
    expect(moves(await events(id))).toEqual([
      ...['PENDING', 'DISPATCHED', 'PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED'],
    ]);
  });
});

describe('where tasks go, with two dispatch processes', () => {
  test('a burst is spread by weight, also faster than the picture of the fleet is renewed', async () => {
    const labels = { contract: 'burst' };
    const { stub: light } = await place({}, { labels, weight: 1 });
    const { stub: heavy } = await place({}, { labels, weight: 3 });
    for (let n = 0; n < 32; n += 1) await create({ backend: { labels } });
    await eventually(() => expect(light.spawns.length + heavy.spawns.length).toBe(32));
    // Exactly 8 for one process; two of them count apart for as long as a picture lasts.
    expect(light.spawns.length).toBeGreaterThanOrEqual(5);
    expect(light.spawns.length).toBeLessThanOrEqual(12);
  });

  test('maxConcurrency holds for all of them together', async () => {
    let most = 0;
    const { stub, id: backendId } = await place(
      {
        behave: () => {
          const living = stub.sessions.filter(({ status }) => status !== 'completed').length;
          most = Math.max(most, living + 1);
          return {};
        },
        agents: 'auto',
        paceMs: 20,
      },
      { maxConcurrency: 3 },
    );
    const tasks = Array.from({ length: 24 }, () => ({
      type: 'demo',
      context: 1,
      backend: { id: backendId },
    }));
    const made = await system.api('POST', '/v1/tasks/batch', { tasks });
    for (const { task } of made.body.data) expect((await ended(task.id)).state).toBe('COMPLETED');
    expect(most).toBe(3);
  });

  test('draining is in force everywhere within 2 s, and what waits goes out when it is over', async () => {
    const { stub, id: backendId } = await place();
    await system.api('PATCH', `/v1/backends/${backendId}`, { mode: 'draining' });
    // The promise itself is a time: before it is over either is right.
    await wait(2000);
    const ids = [await create({ backend: { id: backendId } }), await create({ backend: { id: backendId } })];
    for (const id of ids) {
      await eventually(async () => {
        expect((await read(id)).waiting).toMatchObject({ reason: 'no_backend' });
      });
    }
    expect((await read(ids[0]!)).waiting.detail).toContain('draining');
    expect(stub.spawns).toHaveLength(0);
    await system.api('PATCH', `/v1/backends/${backendId}`, { mode: 'active' });
    await spawned(stub, 2);
  });

  test('a wrong credential holds the task, pings do not help, and the right one sends it at once', async () => {
    const { stub, id: backendId } = await place(
      { agents: 'auto', requireHeader: { name: 'authorization', value: 'Bearer right-credential' } },
      { auth: { type: 'bearer', secret: 'wrong-credential' } },
    );
    const id = await create({ backend: { id: backendId }, retry: { maxAttempts: 1 } });
    await eventually(async () => expect((await read(id)).waiting?.reason).toBe('backend_down'));
    const { health } = (await system.api('GET', `/v1/backends/${backendId}`)).body;
    expect(health).toMatchObject({ status: 'down', reason: 'misconfigured' });
    expect(stub.sessions).toHaveLength(0);
    await system.api('PATCH', `/v1/backends/${backendId}`, {
      auth: { type: 'bearer', secret: 'right-credential' },
    });
    expect((await ended(id)).state).toBe('COMPLETED');
  });
});

describe('stopping', () => {
  test('an emergency stop is past every sender before it is answered', async () => {
    const { stub, id: backendId } = await place({}, { maxConcurrency: 2 });
    const tasks = Array.from({ length: 60 }, () => ({
      type: 'demo',
      context: 1,
      backend: { id: backendId },
    }));
    const made = await system.api('POST', '/v1/tasks/batch', { tasks });
    await spawned(stub, 2);
    const dry = await system.api('POST', '/v1/emergency-stop?dryRun=true', { reason: 'drill' });
    expect(dry.body).toEqual({ matched: 60, requested: 0 });
    const real = await system.api('POST', '/v1/emergency-stop', { reason: 'everything' });
    const sent = stub.spawns.length;
    expect(real.status).toBe(202);
    expect(real.body).toEqual({ matched: 60, requested: 60 });
    for (const { task } of made.body.data) {
      await eventually(async () => expect((await read(task.id)).state).toBe('CANCELLED'));
    }
    expect(stub.spawns).toHaveLength(sent);
    const next = await create({ backend: { id: backendId } });
    await eventually(async () => expect((await read(next)).state).toBe('DISPATCHED'));
    await eventually(async () => {
      const { body } = await system.api('GET', '/v1/audit?limit=200');
      const rows = body.data.filter(({ reason }: { reason: string }) => reason === 'everything');
      const targets = new Set(rows.map(({ target }: { target: string }) => target));
      for (const { task } of made.body.data) expect(targets).toContain(task.id);
      const times: number[] = body.data.map(({ at }: { at: string }) => Date.parse(at));
      expect(times).toEqual(times.toSorted((a, b) => b - a));
    });
  }, 40_000);

  test('a cancelled task is never shown as such while its backend has not confirmed', async () => {
    const { stub, id: backendId } = await place();
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await create({ backend: { id: backendId }, workspaceId: 'stubborn' });
    await eventually(async () => expect((await read(id)).state).toBe('DISPATCHED'));
    const answer = await system.api('POST', `/v1/tasks/${id}/cancel`, { reason: 'not needed' });
    expect([answer.status, answer.body.state]).toEqual([202, 'DISPATCHED']);
    await eventually(() => expect(stub.kills.length).toBeGreaterThanOrEqual(3));
    const list = await system.api('GET', '/v1/tasks?cancelling=true&workspaceId=stubborn');
    expect(list.body.data.map((task: { id: string }) => task.id)).toEqual([id]);
    stub.setKillAnswer(null);
    await eventually(async () => expect((await read(id)).state).toBe('CANCELLED'));
  });

  test('a clock that runs out fails the task by its own code and has the agent killed', async () => {
    const { stub, id: backendId } = await place();
    const id = await create({ backend: { id: backendId }, timeouts: { startMs: 500 } });
    expect(await ended(id)).toMatchObject({ state: 'FAILED', error: { code: 'START_TIMEOUT' } });
    await eventually(() => expect(stub.kills.length).toBeGreaterThan(0));
  });
});

test('a key that one web revokes is in force at the other for 5 s at most', async () => {
  const made = await system.api('POST', '/v1/api-keys', { name: 'short', scopes: ['tasks:read'] });
  const headers = { authorization: `Bearer ${made.body.secret}` };
  const other = system.children.filter(({ name }) => name === 'web')[1]!.baseUrl!;
  const status = async () => (await got(`${other}/v1/tasks`, { headers, throwHttpErrors: false })).statusCode;
  expect(await status()).toBe(200);
  expect((await system.api('DELETE', `/v1/api-keys/${made.body.id}`)).status).toBe(204);
  await eventually(async () => expect(await status()).toBe(401), { timeoutMs: 5000 });
});
