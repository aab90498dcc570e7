import { Queue, type ConnectionOptions } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { adminKey, openTestApi, type TestApi } from '../support/api.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

describe('API keys', () => {
  test('show their secret once and keep only a hash', async () => {
    const expiresAt = '2099-01-01T00:00:00.000Z';
    const body = { name: 'ci', scopes: ['tasks:read', 'tasks:read'], workspaceId: 'w', expiresAt };
    const { status, headers, json } = await api.call('POST', '/v1/api-keys', { body });
    expect([status, headers.get('location')]).toEqual([201, `/v1/api-keys/${json.id}`]);
    const { secret, ...shown } = json;
    expect(secret).toMatch(/^mdk_[A-Za-z0-9_-]{43}$/);
    expect(shown).toEqual({
      id: expect.stringMatching(/^key_/),
      name: 'ci',
      scopes: ['tasks:read'],
      workspaceId: 'w',
      expiresAt,
      createdAt: expect.any(String),
    });
    expect((await api.call('GET', `/v1/api-keys/${json.id}`)).json).toEqual(shown);
    const listed = await api.call('GET', '/v1/api-keys?limit=1');
    expect(listed.json.data).toEqual([shown]);
    const rows = await api.db.query({ text: 'SELECT row_to_json(k)::text AS row FROM api_keys k' });
    expect(JSON.stringify(rows)).not.toContain(secret.slice(4));
    expect((await api.call('DELETE', `/v1/api-keys/${json.id}`)).status).toBe(204);
    expect((await api.call('DELETE', `/v1/api-keys/${json.id}`)).status).toBe(404);
    expect((await api.call('GET', `/v1/api-keys/${json.id}`)).status).toBe(404);
    const { json: audit } = await api.call('GET', '/v1/audit?limit=2');
    expect(audit.data).toMatchObject([
      { action: 'key.revoke', target: json.id },
      { action: 'key.create', target: json.id, detail: { name: 'ci', scopes: ['tasks:read'] } },
    ]);
    expect(JSON.stringify(audit)).not.toContain(secret);
  });

  test.each([
    [{ scopes: ['tasks:read'] }, '/name'],
    [{ name: 'x', scopes: [] }, '/scopes'],
    [{ name: 'x', scopes: ['tasks:raed'] }, '/scopes/0'],
    [{ name: 'x', scopes: ['tasks:read'], workspaceId: '' }, '/workspaceId'],
    [{ name: 'x', scopes: ['tasks:read'], expiresAt: '2020-01-01T00:00:00Z' }, '/expiresAt'],
    [{ name: 'x', scopes: ['admin'], workspaceId: 'w' }, '/scopes'],
    [{ name: 'x', scopes: ['tasks:read'], secret: 'mine' }, '/secret'],
  ])('refuse a faulty member, case %#', async (body, pointer) => {
    const { status, json } = await api.call('POST', '/v1/api-keys', { body });
    expect([status, json.errors[0].pointer]).toEqual([422, pointer]);
  });
});

describe('the audit', () => {
  test('pages newest first', async () => {
    const all = (await api.call('GET', '/v1/audit?limit=200')).json.data;
    const first = await api.call('GET', '/v1/audit?limit=1');
    const second = await api.call('GET', `/v1/audit?limit=1&cursor=${first.json.nextCursor}`);
    expect([...first.json.data, ...second.json.data]).toEqual(all.slice(0, 2));
    expect(Object.keys(all[0]).sort((a, b) => a.localeCompare(b))).toEqual([
      'action',
      'actor',
      'at',
      'detail',
      'reason',
      'target',
      'workspaceId',
    ]);
  });
});

describe('/admin/queues', () => {
  const browser = { accept: 'text/html,application/xhtml+xml' };
  const login = (key: string, next = '/admin/queues') =>
    api.call('POST', '/admin/login', {
      key: null,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ key, next }).toString(),
    });

  test('a browser without a key gets a log-in page, others a problem', async () => {
    const page = await api.call('GET', '/admin/queues', { key: null, headers: browser });
    expect([page.status, page.headers.get('content-type')]).toEqual([401, 'text/html; charset=utf-8']);
    expect(page.headers.get('www-authenticate')).toBe('Bearer');
    expect(page.text).toContain('<form method="post" action="/admin/login">');
    expect(page.text).not.toMatch(/<script|src=/);
    const plain = await api.call('GET', '/admin/queues/api/queues', { key: null });
    expect([plain.status, plain.json.code]).toEqual([401, 'unauthenticated']);
  });

  test('the log-in turns an admin key into a cookie that is not the key', async () => {
    const answer = await login(adminKey);
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/admin/queues']);
    const cookie = answer.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/; HttpOnly; SameSite=Strict; Path=\//);
    expect(cookie).not.toContain(adminKey);
    const pair = cookie.split(';')[0] ?? '';
    const page = await api.call('GET', '/admin/queues', { key: null, headers: { ...browser, cookie: pair } });
    expect(page.status).toBe(200);
    expect(page.headers.get('content-security-policy')).not.toContain('googleapis');
    expect(page.headers.get('x-powered-by')).toBeNull();
    const forged = pair.replace('.admin.', '.key_x.');
    expect((await api.call('GET', '/admin/queues', { key: null, headers: { cookie: forged } })).status).toBe(
      401,
    );
    const elsewhere = await api.call('PUT', '/admin/queues/api/queues/dispatch/pause', {
      key: null,
      headers: { cookie: pair, origin: 'https://evil.example' },
    });
    expect(elsewhere.status).toBe(403);
  });

  test('a wrong key or one that is no admin stays outside, and no other page can be named', async () => {
    expect((await login('wrong')).text).toContain('This key is not known.');
    const { secret } = await api.key(['tasks:read']);
    const refused = await login(secret);
    expect([refused.status, refused.headers.get('set-cookie')]).toEqual([401, null]);
    expect((await api.call('GET', '/admin/queues', { key: secret })).status).toBe(403);
    expect((await login(adminKey, 'https://evil.example')).headers.get('location')).toBe('/admin/queues');
    expect((await login(adminKey, '/console')).headers.get('location')).toBe('/console');
    expect((await api.call('PUT', '/admin/login', { key: null })).status).toBe(405);
  });

  test('a cookie ends with its key', async () => {
    const { id, secret } = await api.key(['admin']);
    const pair = ((await login(secret)).headers.get('set-cookie') ?? '').split(';')[0] ?? '';
    const look = () => api.call('GET', '/admin/queues', { key: null, headers: { cookie: pair } });
    expect((await look()).status).toBe(200);
    await api.call('DELETE', `/v1/api-keys/${id}`);
    await eventually(async () => expect((await look()).status).toBe(401), { timeoutMs: 5000 });
  });

  test('shows the queues and changes nothing', async () => {
    const redis = new Redis(api.valkey.url.replace(/^valkey/, 'redis'));
    const queue = new Queue('dispatch', {
      connection: redis as unknown as ConnectionOptions,
      prefix: api.valkey.prefix,
    });
    await queue.add('ring', { ids: ['task_seen'] });
    const { status, json } = await api.call(
      'GET',
      '/admin/queues/api/queues?activeQueue=dispatch&page=1&jobsPerPage=10',
    );
    expect(status).toBe(200);
    const names = json.queues.map(({ name }: { name: string }) => name);
    expect(new Set(names)).toEqual(new Set(['dispatch', 'transitions', 'health']));
    for (const path of ['dispatch/pause', 'dispatch/empty', 'dispatch/clean/completed']) {
      const answer = await api.call('PUT', `/admin/queues/api/queues/${path}`);
      expect(answer.status).toBeGreaterThanOrEqual(400);
      expect(answer.status).toBeLessThan(500);
    }
    expect(await queue.getWaitingCount()).toBe(1);
    await queue.close();
    redis.disconnect();
  });
});
