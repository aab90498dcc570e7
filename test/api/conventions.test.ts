import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { failureCodes } from '../../src/domain/errors.js';
import { problemTable } from '../../src/api/problems.js';
import { adminKey, openTestApi, type TestApi } from '../support/api.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const routes: readonly [string, string][] = [
  ['GET', '/v1/tasks'],
  ['POST', '/v1/tasks'],
  ['POST', '/v1/tasks/batch'],
  ['GET', '/v1/tasks/task_x'],
  ['PATCH', '/v1/tasks/task_x'],
  ['GET', '/v1/tasks/task_x/attempts'],
  ['GET', '/v1/tasks/task_x/events'],
  ['GET', '/v1/tasks/task_x/stream'],
  ['POST', '/v1/tasks/task_x/cancel'],
  ['POST', '/v1/tasks/task_x/retry'],
  ['POST', '/v1/workspaces/w/kill-all'],
  ['POST', '/v1/emergency-stop'],
  ['GET', '/v1/backends'],
  ['POST', '/v1/backends'],
  ['POST', '/v1/backends/test'],
  ['GET', '/v1/backends/bknd_x'],
  ['PATCH', '/v1/backends/bknd_x'],
  ['DELETE', '/v1/backends/bknd_x'],
  ['POST', '/v1/backends/bknd_x/test'],
  ['GET', '/v1/backends/bknd_x/health'],
  ['GET', '/v1/api-keys'],
  ['POST', '/v1/api-keys'],
  ['GET', '/v1/api-keys/key_x'],
  ['DELETE', '/v1/api-keys/key_x'],
  ['GET', '/v1/audit'],
  ['GET', '/admin/queues'],
  ['GET', '/admin/queues/api/queues'],
];

const head = `Host: a\r\nConnection: close\r\n`;
const keyed = `${head}Authorization: Bearer ${adminKey}\r\n`;

describe('every route', () => {
  test.each(routes)('%s %s needs a key', async (method, path) => {
    for (const key of [null, 'wrong', `${adminKey}x`, 'x'.repeat(10_000), 'mdk_'.padEnd(47, 'a')]) {
      const { status, headers, json } = await api.call(method, path, { key });
      expect([status, json.code]).toEqual([401, 'unauthenticated']);
      expect(headers.get('www-authenticate')).toBe('Bearer');
    }
  });

  test.each(routes)('%s %s refuses a key without its scope', async (method, path) => {
    const { secret } = await api.key(['metrics:read']);
    const { status, json } = await api.call(method, path, { key: secret });
    expect([status, json.code]).toEqual([403, 'scope_missing']);
  });
});

describe('authentication', () => {
  test('comes before method and body', async () => {
    expect((await api.call('PUT', '/v1/tasks', { key: null, body: '{' })).status).toBe(401);
    expect((await api.call('OPTIONS', '/v1/tasks', { key: null })).status).toBe(401);
  });

  test('says what is wrong with the key', async () => {
    expect((await api.call('GET', '/v1/tasks', { key: 'whsec_abc' })).json.code).toBe(
      'key_is_a_webhook_secret',
    );
    const basic = { authorization: 'Basic YTpi' };
    expect((await api.call('GET', '/v1/tasks', { key: null, headers: basic })).status).toBe(401);
    const { id, secret } = await api.key(['tasks:read']);
    expect((await api.call('GET', '/v1/tasks', { key: secret })).status).toBe(200);
    expect((await api.call('DELETE', `/v1/api-keys/${id}`)).status).toBe(204);
    const revoked = await eventually(async () => {
      const answer = await api.call('GET', '/v1/tasks', { key: secret });
      expect(answer.status).toBe(401);
      return answer;
    });
    expect(revoked.json.code).toBe('key_revoked');
  });

  test('a key that expires ends', async () => {
    const expiresAt = new Date(Date.now() + 700).toISOString();
    const { json } = await api.call('POST', '/v1/api-keys', {
      body: { name: 'short', scopes: ['tasks:read'], expiresAt },
    });
    expect((await api.call('GET', '/v1/tasks', { key: json.secret })).status).toBe(200);
    await eventually(async () => {
      expect((await api.call('GET', '/v1/tasks', { key: json.secret })).status).toBe(401);
    });
  });

  test('tells nothing by two headers', async () => {
    const answer = await api.raw(`GET /v1/tasks HTTP/1.1\r\n${keyed}Authorization: Bearer x\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('methods and paths', () => {
  test('another method is 405 with Allow, OPTIONS 204 with Allow', async () => {
    for (const method of ['PUT', 'DELETE']) {
      const { status, headers, json } = await api.call(method, '/v1/tasks');
      expect([status, json.code, headers.get('allow')]).toEqual([
        405,
        'method_not_allowed',
        'GET, HEAD, POST, OPTIONS',
      ]);
    }
    const options = await api.call('OPTIONS', '/v1/tasks/task_x');
    expect([options.status, options.headers.get('allow'), options.text]).toEqual([
      204,
      'GET, HEAD, PATCH, OPTIONS',
      '',
    ]);
    expect(options.headers.get('access-control-allow-origin')).toBeNull();
    expect(await api.raw(`TRACE /v1/tasks HTTP/1.1\r\n${keyed}\r\n`)).toMatch(/^HTTP\/1\.1 405 /);
    expect(
      (await api.call('GET', '/v1/tasks', { headers: { 'x-http-method-override': 'DELETE' } })).status,
    ).toBe(200);
  });

  test.each([
    ['/v1/tasks/%2e%2e/x', [404]],
    ['/v1/tasks/a%00b', [400, 404]],
    ['//v1/tasks', [404]],
    ['/v1/tasks/', [404]],
    ['/v1/Tasks', [404]],
    ['/v1/nothing', [404]],
    ['/v1/tasks/%zz', [400]],
    ['/v1/tasks/%ff', [400]],
    [`/v1/tasks/${'a'.repeat(8000)}`, [414]],
    [`/v1/tasks/${'a'.repeat(200)}`, [404]],
  ])('%s is refused', async (path, statuses) => {
    const answer = await api.raw(`GET ${path} HTTP/1.1\r\n${keyed}\r\n`);
    expect(statuses).toContain(Number(answer.slice(9, 12)));
    expect(answer).toContain('application/problem+json');
  });

  test('HEAD answers as GET without a body', async () => {
    const { status, text } = await api.call('HEAD', '/v1/tasks');
    expect([status, text]).toEqual([200, '']);
  });
});

describe('framing', () => {
  const get = (lines: string): Promise<string> => api.raw(`GET /v1/tasks HTTP/1.1\r\n${lines}\r\n`);
  const post = (lines: string, body = ''): Promise<string> =>
    api.raw(`POST /v1/tasks HTTP/1.1\r\n${keyed}Content-Type: application/json\r\n${lines}\r\n${body}`);

  test.each([
    ['no Host', () => get(`Connection: close\r\nAuthorization: Bearer ${adminKey}\r\n`), 400],
    ['two Hosts', () => get(`${keyed}Host: b\r\n`), 400],
    ['a lower-case method', () => api.raw(`get /v1/tasks HTTP/1.1\r\n${keyed}\r\n`), 400],
    ['a header of 20 kB', () => get(`${keyed}X-A: ${'x'.repeat(20_000)}\r\n`), 431],
    [
      'length and chunks',
      () => post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'),
      400,
    ],
    ['a negative length', () => post('Content-Length: -1\r\n'), 400],
    ['chunked twice', () => post('Transfer-Encoding: chunked, chunked\r\n', '0\r\n\r\n'), 400],
    ['a NUL in a header', () => get(`${keyed}X-A: a\0b\r\n`), 400],
    ['a folded header', () => get(`${keyed}X-A: a\r\n b\r\n`), 400],
    ['no HTTP at all', () => api.raw('hello\r\n\r\n'), 400],
    ['two Content-Types', () => post('Content-Type: application/json\r\nContent-Length: 2\r\n', '{}'), 400],
  ])('%s is refused as a problem', async (_name, send, status) => {
    const answer = await send();
    expect(answer.slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
    expect(answer.toLowerCase()).toContain('content-type: application/problem+json');
    expect(answer.toLowerCase()).toContain('x-content-type-options: nosniff');
    expect(answer.toLowerCase()).toMatch(/x-request-id: req_/);
    expect(answer.length).toBeLessThan(4000);
  });
});

describe('every answer', () => {
  test('has a request id, a sane one of the caller is kept', async () => {
    for (const sane of ['abc-DEF_1', 'a.b:c', 'x'.repeat(128)]) {
      const given = await api.call('GET', '/v1/tasks', { headers: { 'x-request-id': sane } });
      expect(given.headers.get('x-request-id')).toBe(sane);
    }
    for (const insane of ['a b', 'x'.repeat(129), 'a;b', '{}']) {
      const answer = await api.call('GET', '/v1/tasks', { headers: { 'x-request-id': insane } });
      expect(answer.headers.get('x-request-id')).toMatch(/^req_/);
    }
  });

  test.each(['/v1/tasks', '/v1/nothing', '/livez', '/errors/not-found', '/admin/queues'])(
    '%s has the security headers',
    async (path) => {
      const { headers } = await api.call('GET', path);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('access-control-allow-origin')).toBeNull();
      expect(headers.get('content-security-policy')).toContain('frame-ancestors');
      if (path.startsWith('/v1') || path.startsWith('/admin'))
        expect(headers.get('cache-control')).toBe('no-store');
    },
  );
});

describe('queries', () => {
  test.each([
    'limit=0',
    'limit=201',
    'limit=x',
    'limit=1&limit=2',
    'state=RUNING',
    'unknown=1',
    'cancelling=maybe',
    'createdAfter=yesterday',
    'workspaceId=a%20b',
    'tag=',
    '__proto__=1',
    'limit[]=1',
  ])('?%s is 422', async (query) => {
    const { status, json } = await api.call('GET', `/v1/tasks?${query}`);
    expect([status, json.code]).toEqual([422, 'validation_failed']);
  });

  test.each(['wait=-1', 'wait=61', 'wait=1.5', 'x=1'])('a task?%s is 422', async (query) => {
    expect((await api.call('GET', `/v1/tasks/task_x?${query}`)).status).toBe(422);
  });

  test.each(['', 'x', 'MS4x', Buffer.from('1.1.a b').toString('base64url'), 'a'.repeat(500)])(
    'the cursor %j is refused',
    async (cursor) => {
      const { status, json } = await api.call('GET', `/v1/tasks?cursor=${cursor}`);
      expect([status, json.code]).toEqual([422, 'malformed_cursor']);
    },
  );

  test('a thousand brackets cost nothing', async () => {
    const startedAt = performance.now();
    const { status } = await api.call('GET', `/v1/tasks?a${'[b]'.repeat(1000)}=1`);
    expect([400, 422]).toContain(status);
    expect(performance.now() - startedAt).toBeLessThan(500);
    const many = Array.from({ length: 1000 }, (_, index) => `a${index}=1`).join('&');
    expect((await api.call('GET', `/v1/tasks?${many}`)).status).toBe(400);
  });
});

describe('/errors', () => {
  test('every problem and every failure of a task has a page', async () => {
    for (const code of [...Object.keys(problemTable), ...failureCodes]) {
      const path = `/errors/${code.toLowerCase().replaceAll('_', '-')}`;
      const { status, headers, text } = await api.call('GET', path, { key: null });
      expect([path, status]).toEqual([path, 200]);
      expect(headers.get('content-type')).toBe('text/html; charset=utf-8');
      expect(text).not.toMatch(/src=|href=/);
    }
    expect((await api.call('GET', '/errors/START_TIMEOUT', { key: null })).text).toContain(
      'May the agent still run?',
    );
    expect((await api.call('GET', '/errors/nothing', { key: null })).status).toBe(404);
    expect((await api.call('GET', '/errors/constructor', { key: null })).status).toBe(404);
  });
});

describe('/livez and /readyz', () => {
  test('need no key, and ready shows what Valkey does', async () => {
    expect((await api.call('GET', '/livez', { key: null })).status).toBe(200);
    const ready = await api.call('GET', '/readyz', { key: null });
    expect([ready.status, ready.json.status]).toEqual([200, 'ready']);
  });

  test('a database that would lose commits makes it unready', async () => {
    await api.db.query({
      text: `ALTER DATABASE ${new URL(api.databaseUrl).pathname.slice(1)} SET synchronous_commit = off`,
    });
    const weak = await openTestApi({}, api.databaseUrl);
    const answer = await weak.call('GET', '/readyz', { key: null });
    expect([answer.status, answer.json.reason]).toEqual([
      503,
      expect.stringContaining('synchronous_commit is off'),
    ]);
    await weak.close();
  });
});

test('nothing was logged as a fault of ours', () => {
  expect(api.logged.filter(({ event }) => event === 'request.failed')).toEqual([]);
});
