import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { adminKey, openTestApi, type TestApi } from '../support/api.js';
import { acceptTask, backendBody, insertUpBackend, taskBody } from '../support/builders.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
let orchestrator: Server;
let url: string;
const seen: { path: string; authorization: string | undefined; apiKey: string | string[] | undefined }[] = [];

beforeAll(async () => {
  orchestrator = createServer((req, res) => {
    seen.push({
      path: req.url ?? '',
      authorization: req.headers.authorization,
      apiKey: req.headers['x-api-key'],
    });
    res.statusCode = req.url === '/ill' ? 500 : 200;
    res.end('{}');
  });
  await new Promise<void>((resolve) => orchestrator.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(orchestrator.address() as AddressInfo).port}`;
  api = await openTestApi();
});
afterAll(async () => {
  await api.close();
  orchestrator.close();
});

const add = (given: Record<string, unknown> = {}) =>
  api.call('POST', '/v1/backends', { body: backendBody(given) });
const read = async (id: string) => (await api.call('GET', `/v1/backends/${id}`)).json;
const patch = (id: string, body: unknown) => api.call('PATCH', `/v1/backends/${id}`, { body });
async function running(backendId: string, state: 'DISPATCHED' | 'RUNNING' = 'RUNNING'): Promise<string> {
  const { json } = await api.call('POST', '/v1/tasks', { body: taskBody() });
  await acceptTask(api.db, json.id, backendId, state);
  return json.id as string;
}

describe('POST /v1/backends', () => {
  test('saves, hides the secret, and pings at once', async () => {
    const { status, headers, json, text } = await add({
      name: 'first',
      url,
      auth: { type: 'bearer', secret: 'top secret 123' },
      labels: { region: 'eu' },
      weight: 0.5,
      maxConcurrency: 3,
      maxDispatchesPerMinute: 60,
    });
    expect([status, headers.get('location')]).toEqual([201, `/v1/backends/${json.id}`]);
    expect(json).toEqual({
      id: expect.stringMatching(/^bknd_[0-9a-z]{26}$/),
      name: 'first',
      protocol: 'gateway',
      url,
      auth: { type: 'bearer' },
      health: {
        path: '/health',
        expect: '2xx',
        status: 'unknown',
        reason: null,
        checkedAt: null,
        latencyMs: null,
        consecutiveFailures: 0,
        lastError: null,
      },
      labels: { region: 'eu' },
      weight: 0.5,
      maxConcurrency: 3,
      maxDispatchesPerMinute: 60,
      mode: 'active',
      inFlight: 0,
      createdAt: expect.any(String),
      updatedAt: expect.any(String),
    });
    expect(text).not.toContain('top secret');
    await eventually(async () => expect((await read(json.id)).health.status).toBe('up'));
    expect(seen.at(-1)).toMatchObject({ path: '/health', authorization: 'Bearer top secret 123' });
    const rows = await api.db.query<{ auth_secret: string }>(
      { text: 'SELECT auth_secret FROM backends WHERE id = $1' },
      [json.id],
    );
    expect(rows[0]?.auth_secret).toMatch(/^v1\./);
    const { json: audit } = await api.call('GET', '/v1/audit?limit=1');
    expect(audit.data[0]).toMatchObject({ actor: 'admin', action: 'backend.create', target: json.id });
  });

  test('a name that is taken is 409, until it is free', async () => {
    const { json } = await add({ name: 'taken' });
    const again = await add({ name: 'taken' });
    expect([again.status, again.json.code]).toEqual([409, 'backend_name_taken']);
    expect((await api.call('DELETE', `/v1/backends/${json.id}`)).status).toBe(204);
    expect((await add({ name: 'taken' })).status).toBe(201);
  });

  test.each([
    [{ url: 'ftp://x' }, '/url'],
    [{ url: 'file:///etc/passwd' }, '/url'],
    [{ url: 'http://user:pass@host' }, '/url'],
    [{ url: 'http://@host' }, '/url'],
    [{ url: 'http:///x' }, '/url'],
    [{ url: 'http://host:0' }, '/url'],
    [{ url: 'http://host/#a' }, '/url'],
    [{ url: 'http://host/?a=1' }, '/url'],
    [{ url: 'http://host:99999' }, '/url'],
    [{ url: 'http://169.254.169.254' }, '/url'],
    [{ url: 'http://10.0.0.1' }, '/url'],
    [{ url: 'http://0xa.1' }, '/url'],
    [{ url: 'http://[fd00::1]' }, '/url'],
    [{ url: 'http://１０.0.0.1' }, '/url'],
    [{ name: 'a\nb' }, '/name'],
    [{ name: '' }, '/name'],
    [{ auth: { type: 'bearer', secret: 'a\r\nb' } }, '/auth/secret'],
    [{ auth: { type: 'bearer' } }, '/auth/secret'],
    [{ auth: { type: 'none', secret: 'x' } }, '/auth/secret'],
    [{ auth: { type: 'basic', secret: 'x' } }, '/auth/type'],
    [{ protocol: 'smtp' }, '/protocol'],
    [{ protocol: 'a2a' }, '/protocol'],
    [{ weight: 0 }, '/weight'],
    [{ maxConcurrency: 0 }, '/maxConcurrency'],
    [{ maxDispatchesPerMinute: 1.5 }, '/maxDispatchesPerMinute'],
    [{ health: { path: 'x' } }, '/health/path'],
    [{ mode: 'off' }, '/mode'],
    [{ labels: { a: 1 } }, '/labels/a'],
    [{ inFlight: 1 }, '/inFlight'],
  ])('refuses a faulty member, case %#', async (given, pointer) => {
    const { status, json } = await add(given);
    expect([given, status, json.errors?.[0]?.pointer]).toEqual([given, 422, pointer]);
  });

  test('loopback is refused where it is not allowed, and the reason names the setting', async () => {
    const strict = await openTestApi({ loopback: false }, api.databaseUrl);
    for (const host of ['127.1', '0x7f.1', '１２７.0.0.1', '[::1]', '2130706433', '[::ffff:127.0.0.1]']) {
      const { status, json } = await strict.call('POST', '/v1/backends', {
        body: backendBody({ url: `http://${host}:9` }),
      });
      expect([host, status]).toEqual([host, 422]);
      expect(json.errors[0].detail).toContain('BACKEND_ALLOW_CIDRS');
    }
    await strict.close();
  });
});

describe('GET /v1/backends', () => {
  test('pages newest first, by name, and counts what is in flight', async () => {
    const { json: one } = await add({ name: 'listed' });
    await running(one.id);
    const named = await api.call('GET', '/v1/backends?name=listed');
    expect(named.json.data).toMatchObject([{ id: one.id, inFlight: 1 }]);
    const all: string[] = [];
    let cursor = '';
    do {
      const { json } = await api.call('GET', `/v1/backends?limit=2${cursor}`);
      all.push(...json.data.map((backend: { id: string }) => backend.id));
      cursor = json.nextCursor === null ? '' : `&cursor=${json.nextCursor}`;
    } while (cursor !== '');
    expect(all[0]).toBe(one.id);
    expect(new Set(all).size).toBe(all.length);
    expect((await api.call('GET', '/v1/backends/bknd_none')).status).toBe(404);
  });
});

describe('PATCH /v1/backends/{id}', () => {
  test('a new place is unknown, and pinged at once', async () => {
    const { json } = await add({ url, auth: { type: 'apiKey', secret: 'first' } });
    await eventually(async () => expect((await read(json.id)).health.status).toBe('up'));
    const moved = await patch(json.id, { url: 'http://127.0.0.1:9' });
    expect(moved.json.health.status).toBe('unknown');
    const back = await patch(json.id, { url, auth: { secret: 'second' } });
    expect(back.json.auth).toEqual({ type: 'apiKey' });
    await eventually(async () => expect((await read(json.id)).health.status).toBe('up'));
    expect(seen.at(-1)?.apiKey).toBe('second');
    const none = await patch(json.id, { auth: { type: 'none' } });
    expect(none.json.auth).toEqual({ type: 'none' });
    const refused = await patch(json.id, { auth: { type: 'bearer' } });
    expect([refused.status, refused.json.errors[0].pointer]).toEqual([422, '/auth/secret']);
  });

  test('what is not its place leaves its health alone', async () => {
    const { json } = await add({ url, maxConcurrency: 2 });
    await eventually(async () => expect((await read(json.id)).health.status).toBe('up'));
    const { json: changed } = await patch(json.id, {
      name: 'renamed',
      mode: 'draining',
      maxConcurrency: null,
      labels: { a: 'b' },
      weight: 2,
    });
    expect(changed).toMatchObject({
      name: 'renamed',
      mode: 'draining',
      maxConcurrency: null,
      labels: { a: 'b' },
      weight: 2,
      url,
    });
    expect(changed.health.status).toBe('up');
    const versions = await api.db.query<{ v: number }>(
      { text: 'SELECT config_version AS v FROM backends WHERE id = $1' },
      [json.id],
    );
    expect(versions[0]?.v).toBe(2);
  });

  test('a misconfigured one gets its trial at once', async () => {
    await insertUpBackend(api.db, 'bknd_ill');
    await api.db.query({
      text: `UPDATE backends SET health_status = 'down', health_reason = 'misconfigured', trial_at = now() + interval '1 hour' WHERE id = 'bknd_ill'`,
    });
    await patch('bknd_ill', { weight: 2 });
    const rows = await api.db.query({
      text: `SELECT trial_at <= now() AS due, health_reason FROM backends WHERE id = 'bknd_ill'`,
    });
    expect(rows).toEqual([{ due: true, health_reason: 'misconfigured' }]);
  });

  test('refuses a taken name, a protocol not spoken, and one that is gone', async () => {
    const { json } = await add({ name: 'mine' });
    await add({ name: 'theirs' });
    expect((await patch(json.id, { name: 'theirs' })).json.code).toBe('backend_name_taken');
    expect((await patch(json.id, { protocol: 'a2a' })).status).toBe(422);
    expect((await patch(json.id, { url: 'http://10.0.0.1' })).status).toBe(422);
    expect((await patch(json.id, { colour: 1 })).status).toBe(422);
    expect((await patch('bknd_none', { name: 'x' })).status).toBe(404);
  });
});

describe('DELETE /v1/backends/{id}', () => {
  test('is refused while tasks are in flight; by force it kills them', async () => {
    const { json } = await add({ name: 'busy' });
    const [one, two] = [await running(json.id), await running(json.id, 'DISPATCHED')];
    const refused = await api.call('DELETE', `/v1/backends/${json.id}`);
    expect([refused.status, refused.json.code, refused.json.inFlight]).toEqual([409, 'backend_in_use', 2]);
    expect((await api.call('DELETE', `/v1/backends/${json.id}?force=true`)).status).toBe(204);
    expect((await api.call('GET', `/v1/backends/${json.id}`)).status).toBe(404);
    expect((await add({ name: 'busy' })).status).toBe(201);
    for (const id of [one, two]) {
      const { json: task } = await api.call('GET', `/v1/tasks/${id}`);
      expect(task.cancelRequestedAt).not.toBeNull();
    }
    const kills = await api.db.query(
      { text: `SELECT 1 FROM attempts WHERE backend_id = $1 AND kill_due_at IS NOT NULL` },
      [json.id],
    );
    expect(kills).toHaveLength(2);
    expect((await api.call('DELETE', `/v1/backends/${json.id}`)).status).toBe(404);
    const { json: audit } = await api.call('GET', '/v1/audit?limit=10');
    expect(audit.data.filter(({ action }: { action: string }) => action === 'task.kill')).toHaveLength(2);
  });
});

describe('tests and history', () => {
  test('a saved one and an unsaved one answer their steps', async () => {
    const { json } = await add({ url });
    const saved = await api.call('POST', `/v1/backends/${json.id}/test`);
    expect([saved.status, saved.json.ok]).toEqual([200, true]);
    expect(saved.json.steps.map((step: { name: string }) => step.name)).toEqual([
      'resolve',
      'connect',
      'health',
      'auth',
    ]);
    const { name: _, ...unnamed } = backendBody({ url: 'http://127.0.0.1:9' });
    const unsaved = await api.call('POST', '/v1/backends/test', { body: unnamed });
    expect([unsaved.status, unsaved.json.ok]).toEqual([200, false]);
    const denied = await api.call('POST', '/v1/backends/test', {
      body: backendBody({ url: 'http://169.254.169.254' }),
    });
    expect([denied.status, denied.json.ok]).toEqual([200, false]);
    expect(JSON.stringify(denied.json.steps)).toContain('169.254.169.254 is');
    expect((await api.call('POST', '/v1/backends/bknd_none/test')).status).toBe(404);
    expect((await api.call('POST', '/v1/backends/test', { body: { url } })).status).toBe(422);
  });

  test('health is told newest first', async () => {
    const { json } = await add({ url, health: { path: '/ill' } });
    await eventually(async () => expect((await read(json.id)).health.checkedAt).not.toBeNull());
    await patch(json.id, { health: { path: '/health' } });
    const { json: history } = await eventually(async () => {
      const answer = await api.call('GET', `/v1/backends/${json.id}/health`);
      expect(answer.json.data).toHaveLength(2);
      return answer;
    });
    expect(history.data.map(({ ok, status }: { ok: boolean; status: string }) => [ok, status])).toEqual([
      [true, 'up'],
      [false, expect.any(String)],
    ]);
    const page = await api.call('GET', `/v1/backends/${json.id}/health?limit=1`);
    const rest = await api.call(
      'GET',
      `/v1/backends/${json.id}/health?limit=1&cursor=${page.json.nextCursor}`,
    );
    expect([page.json.data[0], rest.json.data[0]]).toEqual(history.data);
    expect((await api.call('GET', '/v1/backends/bknd_none/health')).status).toBe(404);
  });

  test('scopes are kept apart', async () => {
    const { secret } = await api.key(['backends:read']);
    expect((await api.call('GET', '/v1/backends', { key: secret })).status).toBe(200);
    expect((await api.call('POST', '/v1/backends', { key: secret, body: backendBody() })).status).toBe(403);
    expect((await api.call('GET', '/v1/tasks', { key: secret })).status).toBe(403);
    expect(adminKey.length).toBeGreaterThan(15);
  });
});

test('nothing was logged as a fault of ours', () => {
  expect(api.logged.filter(({ event }) => event === 'request.failed')).toEqual([]);
});
