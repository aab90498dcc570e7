/** Section 1: keys, problems, headers, methods. */
const routes = [
  ['GET', '/v1/tasks'],
  ['GET', '/v1/tasks/task_1'],
  ['GET', '/v1/tasks/task_1/attempts'],
  ['GET', '/v1/tasks/task_1/events'],
  ['GET', '/v1/tasks/task_1/stream'],
  ['GET', '/v1/backends'],
  ['GET', '/v1/backends/bknd_1'],
  ['GET', '/v1/backends/bknd_1/health'],
  ['GET', '/v1/api-keys'],
  ['GET', '/v1/audit'],
  ['POST', '/v1/tasks'],
  ['POST', '/v1/tasks/batch'],
  ['PATCH', '/v1/tasks/task_1'],
  ['POST', '/v1/tasks/task_1/cancel'],
  ['POST', '/v1/tasks/task_1/retry'],
  ['POST', '/v1/workspaces/w/kill-all'],
  ['POST', '/v1/emergency-stop'],
  ['POST', '/v1/backends'],
  ['PATCH', '/v1/backends/bknd_1'],
  ['DELETE', '/v1/backends/bknd_1'],
  ['POST', '/v1/backends/bknd_1/test'],
  ['POST', '/v1/backends/test'],
  ['POST', '/v1/api-keys'],
  ['DELETE', '/v1/api-keys/key_1'],
];
const allowed = {
  '/v1/tasks': 'GET, HEAD, OPTIONS, POST',
  '/v1/tasks/batch': 'OPTIONS, POST',
  '/v1/tasks/task_1': 'GET, HEAD, OPTIONS, PATCH',
  '/v1/tasks/task_1/attempts': 'GET, HEAD, OPTIONS',
  '/v1/tasks/task_1/events': 'GET, HEAD, OPTIONS',
  '/v1/tasks/task_1/stream': 'GET, HEAD, OPTIONS',
  '/v1/tasks/task_1/cancel': 'OPTIONS, POST',
  '/v1/tasks/task_1/retry': 'OPTIONS, POST',
  '/v1/backends': 'GET, HEAD, OPTIONS, POST',
  '/v1/backends/bknd_1': 'DELETE, GET, HEAD, OPTIONS, PATCH',
  '/v1/backends/bknd_1/test': 'OPTIONS, POST',
  '/v1/backends/test': 'OPTIONS, POST',
  '/v1/backends/bknd_1/health': 'GET, HEAD, OPTIONS',
  '/v1/workspaces/w/kill-all': 'OPTIONS, POST',
  '/v1/emergency-stop': 'OPTIONS, POST',
  '/v1/api-keys': 'GET, HEAD, OPTIONS, POST',
  '/v1/audit': 'GET, HEAD, OPTIONS',
};
const sortedAllow = (answer) => String(answer.headers.allow).split(/, ?/).toSorted().join(', ');

/** @type {[string, (t: any) => Promise<void>][]} */
export const conventions = [
  [
    'Every route needs a key: without one it is 401 with `WWW-Authenticate: Bearer`',
    async (t) => {
      await t.refuse('GET', '/v1/tasks', 401, 'unauthenticated', { key: null });
      for (const [method, path] of routes)
        await t.refuse(method, path, 401, null, { key: null, quiet: true });
    },
  ],
  [
    'A wrong key, and one that is not sent as Bearer, are 401',
    async (t) => {
      await t.refuse('GET', '/v1/tasks', 401, null, { key: 'wrong', keyName: 'WRONG_KEY' });
      await t.refuse('GET', '/v1/tasks', 401, null, {
        key: null,
        headers: { Authorization: 'Basic YWRtaW46YWRtaW4=' },
      });
      for (const value of [
        'Bearer',
        'Bearer ',
        `bearer${t.system.adminKey}`,
        `Bearer ${t.system.adminKey}x`,
        `Bearer ${t.system.adminKey} x`,
        '',
      ]) {
        await t.refuse('GET', '/v1/tasks', 401, null, {
          key: null,
          headers: { Authorization: value },
          quiet: true,
        });
      }
      await t.ask('GET', '/v1/tasks', {
        key: null,
        headers: { Authorization: `bearer ${t.system.adminKey}` },
        expect: 200,
        quiet: true,
      });
    },
  ],
  [
    'The key is checked before the method and before the body',
    async (t) => {
      await t.refuse('DELETE', '/v1/tasks', 401, null, { key: null });
      await t.refuse('POST', '/v1/tasks', 401, null, { key: null, raw: '{"not": json' });
      await t.refuse('OPTIONS', '/v1/tasks', 401, null, { key: null, quiet: true });
      await t.refuse('POST', '/v1/tasks', 401, null, {
        key: null,
        raw: 'x',
        headers: { 'Content-Type': 'text/plain' },
        quiet: true,
      });
      const reader = await t.key({ scopes: ['tasks:read'] });
      await t.refuse('POST', '/v1/tasks', 403, 'scope_missing', {
        key: reader.secret,
        keyName: 'READER',
        raw: '{"not": json',
      });
    },
  ],
  [
    '`/livez`, `/readyz` and the pages of `/errors/*` need none',
    async (t) => {
      await t.ask('GET', '/livez', { key: null, expect: 200 });
      await t.ask('GET', '/readyz', { key: null, expect: 200 });
      const { json } = await t.refuse('GET', '/v1/tasks/task_0', 404, 'not_found');
      const page = await t.ask('GET', json.type, {
        key: null,
        expect: 200,
        headers: { Accept: 'text/html' },
        quiet: true,
      });
      t.ok('the type of a problem is a page', page.text.length > 100, page.text.length);
    },
  ],
  [
    'Faults of the input are named all at once, each with a pointer',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 422, 'validation_failed', {
        body: { title: 'x'.repeat(513), priority: 9, tags: ['a', 7], timeouts: { runMs: 0 }, colour: 'red' },
        pointers: ['/type', '/context', '/title', '/priority', '/tags/1', '/timeouts/runMs', '/colour'],
      });
    },
  ],
  [
    'A sane `X-Request-Id` of the caller is kept, another is replaced',
    async (t) => {
      const kept = await t.ask('GET', '/v1/tasks?limit=1', {
        headers: { 'X-Request-Id': 'order-4711' },
        expect: 200,
        heads: ['x-request-id'],
        pick: ['id'],
      });
      t.is('X-Request-Id', kept.headers['x-request-id'], 'order-4711');
      for (const sane of ['a', 'A_b-1', 'a.b:c', '7f0c3a52-6c5e-4d7e-9d53-0242ac120002', '01J9ZK3V7Q8X']) {
        const answer = await t.ask('GET', '/livez', { headers: { 'X-Request-Id': sane }, quiet: true });
        t.is('X-Request-Id', answer.headers['x-request-id'], sane);
      }
      for (const insane of ['x'.repeat(1000), '<script>', 'a b', '"', 'a;b']) {
        const answer = await t.ask('GET', '/livez', { headers: { 'X-Request-Id': insane }, quiet: true });
        t.ok('X-Request-Id is replaced', answer.headers['x-request-id'] !== insane, insane);
      }
      const problem = await t.refuse('GET', '/v1/tasks/task_0', 404, null, {
        headers: { 'X-Request-Id': 'order-4712' },
      });
      t.is('requestId', problem.json.requestId, 'order-4712');
    },
  ],
  [
    'Every answer has `nosniff`, under `/v1` also `no-store`; none has `X-Powered-By` or CORS headers',
    async (t) => {
      const heads = ['x-request-id', 'x-content-type-options', 'cache-control', 'content-type'];
      const answer = await t.ask('GET', '/v1/tasks?limit=1', {
        expect: 200,
        heads,
        pick: ['id'],
        headers: { Origin: 'https://elsewhere.example' },
      });
      t.ok(
        'Content-Type',
        /^application\/json(; ?charset=utf-8)?$/i.test(answer.headers['content-type']),
        answer.headers['content-type'],
      );
      const preflight = { Origin: 'https://elsewhere.example', 'Access-Control-Request-Method': 'POST' };
      await t.ask('OPTIONS', '/v1/tasks', { headers: preflight, expect: 204 });
      await t.refuse('GET', '/nothing-here', 404, null);
    },
  ],
  [
    'A route that is not there is 404; a slash too many is another route',
    async (t) => {
      await t.refuse('GET', '/v1/nothing', 404, 'route_not_found');
      await t.refuse('GET', '/v1/tasks/', 404, null);
      await t.refuse('GET', '/V1/tasks', 404, null, { quiet: true });
      await t.refuse('GET', '/v1/tasks/%zz', 400, null, { quiet: true });
      await t.refuse('GET', '/v1/tasks/task_%00', 404, null, { quiet: true });
      await t.refuse('GET', `/v1/tasks/${'x'.repeat(500)}`, 404, null, { quiet: true });
    },
  ],
  [
    'Another method is 405 with `Allow`; OPTIONS is 204 with `Allow`',
    async (t) => {
      const shown = await t.refuse('DELETE', '/v1/tasks', 405, 'method_not_allowed');
      t.is('Allow', sortedAllow(shown), allowed['/v1/tasks']);
      for (const [path, methods] of Object.entries(allowed)) {
        const wrong = await t.refuse('PUT', path, 405, null, { quiet: true });
        t.is(`Allow of ${path}`, sortedAllow(wrong), methods);
        const options = await t.ask('OPTIONS', path, {
          expect: 204,
          quiet: path !== '/v1/tasks',
          heads: ['allow'],
        });
        t.is(`Allow of OPTIONS ${path}`, sortedAllow(options), methods);
        t.is('body of OPTIONS', options.text, '');
      }
    },
  ],
  [
    'HEAD answers as GET does, without a body',
    async (t) => {
      const answer = await t.ask('HEAD', '/v1/tasks', {
        expect: 200,
        heads: ['content-type', 'content-length'],
      });
      t.is('body', answer.text, '');
      await t.ask('HEAD', '/v1/tasks/task_0', { expect: 404, quiet: true });
      await t.ask('HEAD', '/livez', { key: null, expect: 200, quiet: true });
    },
  ],
];
