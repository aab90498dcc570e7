/** Section 8: keys, scopes, workspaces, audit, the page of the queues. */
import { rows } from '../page.mjs';
const later = '2099-01-01T00:00:00Z';
/** @type {[string, (t: any) => Promise<void>][]} */
export const operating = [
  [
    'A workspace’s key sees and makes only that workspace’s tasks',
    async (t) => {
      const all = ['tasks:read', 'tasks:write'];
      const acme = (await t.key({ scopes: all, workspaceId: 'ws-acme' })).secret;
      const mine = { key: acme, keyName: 'ACME' };
      const theirs = await t.task({ workspaceId: 'ws-globex', scheduledFor: later });
      const nobodys = await t.task({ scheduledFor: later });
      await t.refuse('GET', `/v1/tasks/${theirs.id}`, 404, 'not_found', mine);
      for (const { id } of [theirs, nobodys]) {
        for (const [method, path, body] of rows([
          ['GET', '/events'],
          ['GET', '/attempts'],
          ['GET', '/stream'],
          ['PATCH', '', { priority: 1 }],
          ['POST', '/cancel', { reason: 'x' }],
          ['POST', '/retry'],
        ])) {
          await t.refuse(method, `/v1/tasks/${id}${path}`, 404, 'not_found', { ...mine, body, quiet: true });
        }
      }
      await t.refuse('POST', '/v1/tasks', 403, 'workspace_forbidden', {
        ...mine,
        body: { type: 'demo', context: 1, workspaceId: 'ws-globex' },
      });
      const own = await t.ask('POST', '/v1/tasks', {
        ...mine,
        body: { type: 'demo', context: 1, scheduledFor: later },
        expect: 201,
        pick: ['id', 'workspaceId'],
      });
      t.is('it gets its own', own.json.workspaceId, 'ws-acme');
      const batch = await t.ask('POST', '/v1/tasks/batch', {
        ...mine,
        body: {
          tasks: [
            { type: 'demo', context: 1, workspaceId: 'ws-globex' },
            { type: 'demo', context: 1, scheduledFor: later },
          ],
        },
        expect: 200,
        quiet: true,
      });
      t.is(
        'in a batch',
        batch.json.data.map(({ status }) => status),
        [403, 201],
      );
      const list = await t.ask('GET', '/v1/tasks', { ...mine, expect: 200, quiet: true });
      t.is('its list', [...new Set(list.json.data.map(({ workspaceId }) => workspaceId))], ['ws-acme']);
      const other = await t.ask('GET', '/v1/tasks?workspaceId=ws-globex', {
        ...mine,
        expect: 200,
        quiet: true,
      });
      t.is('a list of another’s', other.json.data, []);
      await t.refuse('POST', '/v1/workspaces/ws-globex/kill-all?dryRun=true', 403, null, {
        ...mine,
        body: { reason: 'x' },
      });
      await t.ask('POST', '/v1/workspaces/ws-acme/kill-all?dryRun=true', {
        ...mine,
        body: { reason: 'x' },
        expect: 202,
      });
    },
  ],
  [
    'Idempotency keys belong to the workspace, or to the API key',
    async (t) => {
      const all = ['tasks:read', 'tasks:write'];
      const [a1, a2] = [
        await t.key({ scopes: all, workspaceId: 'ws-one' }),
        await t.key({ scopes: all, workspaceId: 'ws-one' }),
      ];
      const [b, c] = [await t.key({ scopes: all }), await t.key({ scopes: all })];
      const headers = { 'Idempotency-Key': 'shared-4711' };
      const make = async ({ secret }) =>
        (
          await t.ask('POST', '/v1/tasks', {
            key: secret,
            headers,
            body: { type: 'demo', context: 1, scheduledFor: later },
            expect: 201,
            quiet: true,
          })
        ).json.id;
      const ids = [await make(a1), await make(a2), await make(b), await make(c), await make(b)];
      t.is('one workspace, one task', ids[0], ids[1]);
      t.is('tasks in all', new Set(ids).size, 3);
      t.is('the same key again', ids[2], ids[4]);
      t.show(
        'Two keys of one workspace and two of none sent the same Idempotency-Key: three tasks, one for the workspace, one for each other key.',
      );
    },
  ],
  [
    'A revoked key is in force nowhere after 5 s, open streams included',
    async (t) => {
      const key = await t.key({ scopes: ['tasks:read', 'tasks:write'] });
      const { id } = await t.task({ scheduledFor: later });
      await t.ask('GET', '/v1/tasks?limit=1', { key: key.secret, expect: 200, quiet: true });
      const stream = t.stream(`/v1/tasks/${id}/stream`, { key: key.secret, timeoutMs: 9000 });
      const waiting = t.ask('GET', `/v1/tasks/${id}?wait=9`, { key: key.secret, quiet: true });
      await t.pause(300);
      await t.ask('DELETE', `/v1/api-keys/${key.id}`, { expect: 204 });
      const startedMs = performance.now();
      await t.until(
        '401',
        async () =>
          (await t.ask('GET', '/v1/tasks?limit=1', { key: key.secret, quiet: true })).status === 401,
        6000,
      );
      t.ok('within 5 s', performance.now() - startedMs < 5000, performance.now() - startedMs);
      const { end } = await stream;
      t.is('the stream', end, 'ended by the server');
      t.ok('within 5 s', performance.now() - startedMs < 5500, performance.now() - startedMs);
      await waiting;
      await t.refuse('GET', '/v1/tasks', 401, null, { key: key.secret, keyName: 'REVOKED' });
      await t.refuse('DELETE', `/v1/api-keys/${key.id}`, 404, 'not_found', { quiet: true });
    },
  ],
  [
    'A key that has expired is 401',
    async (t) => {
      const key = await t.key({
        scopes: ['tasks:read'],
        expiresAt: new Date(Date.now() + 1500).toISOString(),
      });
      await t.ask('GET', '/v1/tasks?limit=1', { key: key.secret, expect: 200, quiet: true });
      await t.until(
        '401',
        async () =>
          (await t.ask('GET', '/v1/tasks?limit=1', { key: key.secret, quiet: true })).status === 401,
        7000,
      );
      await t.refuse('GET', '/v1/tasks', 401, null, { key: key.secret, keyName: 'EXPIRED' });
    },
  ],
  [
    'The audit tells every change: who, what, why, when',
    async (t) => {
      const place = await t.place();
      const key = await t.key({ scopes: ['tasks:write'], workspaceId: 'audited' });
      const task = await t.task({ scheduledFor: later, workspaceId: 'audited' });
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, {
        key: key.secret,
        body: { reason: 'seen by the audit' },
        expect: 200,
        quiet: true,
      });
      const again = (await t.admin('POST', `/v1/tasks/${task.id}/retry`)).json;
      await t.admin('POST', `/v1/tasks/${again.id}/cancel`, { reason: 'x' });
      await place.change({ weight: 3 });
      await t.admin('POST', '/v1/workspaces/audited/kill-all', { reason: 'the audit again' });
      await t.admin('DELETE', `/v1/api-keys/${key.id}`);
      const { json } = await t.ask('GET', '/v1/audit?limit=200', { expect: 200, quiet: true });
      await t.ask('GET', '/v1/audit?limit=4', { expect: 200 });
      t.is(
        'members',
        ['at', 'actor', 'action', 'target', 'reason', 'detail'].filter((name) => !(name in json.data[0])),
        [],
      );
      const times = json.data.map(({ at }) => at);
      t.is('newest first', times, times.toSorted().toReversed());
      const of = (target) => json.data.filter((row) => row.target === target);
      t.is(
        'the cancel',
        of(task.id).find(({ reason }) => reason !== null),
        { ...of(task.id).find(({ reason }) => reason !== null), actor: key.id, reason: 'seen by the audit' },
      );
      t.ok('the retry', of(task.id).length + of(again.id).length >= 3, of(task.id));
      t.is('the backend', of(place.id).length, 2);
      t.is('the key', of(key.id).length, 2);
      t.ok(
        'the kill-all',
        of('audited').some(({ reason }) => reason === 'the audit again'),
        of('audited'),
      );
      t.ok('no secret', !JSON.stringify(json).includes(key.secret));
    },
  ],
  [
    'Bull Board: 401 without a key, a log-in page for browsers, a cookie for an admin key, read-only',
    async (t) => {
      await t.refuse('GET', '/admin/queues', 401, null, { key: null });
      const page = await t.ask('GET', '/admin/queues', {
        key: null,
        headers: { Accept: 'text/html' },
        expect: 401,
        quiet: true,
      });
      t.ok('a log-in page', page.text.includes('<form'), page.text.slice(0, 200));
      const reader = await t.key({ scopes: ['tasks:read'] });
      await t.refuse('GET', '/admin/queues', 403, null, { key: reader.secret, keyName: 'READER' });
      const board = await t.ask('GET', '/admin/queues', {
        expect: 200,
        quiet: true,
        headers: { Accept: 'text/html' },
      });
      t.ok('the page', /<html/i.test(board.text), board.text.slice(0, 200));
      const login = await t.ask('POST', '/admin/login', {
        key: null,
        raw: `key=${t.system.adminKey}`,
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
        expect: 303,
        quiet: true,
      });
      const cookie = String(login.headers['set-cookie']);
      t.ok(
        'the cookie',
        /HttpOnly/i.test(cookie) && /SameSite=Strict/i.test(cookie),
        cookie.replace(/=[^;]+/, '=…'),
      );
      const name = cookie.split(';')[0];
      await t.ask('GET', '/admin/queues', { key: null, headers: { Cookie: name }, expect: 200, quiet: true });
      const api = await t.ask('GET', '/admin/queues/api/queues', { expect: 200, quiet: true });
      t.is('queues', api.json.queues.map((queue) => queue.name).toSorted(), [
        'dispatch',
        'health',
        'transitions',
      ]);
      t.is(
        'read-only',
        api.json.queues.every(({ readOnlyMode }) => readOnlyMode),
        true,
      );
      const clean = await t.ask('PUT', '/admin/queues/api/queues/dispatch/clean/completed', { quiet: true });
      t.ok('nothing can be changed', clean.status >= 400, clean.status);
      t.show(
        `Queues on the page: ${api.json.queues
          .map((queue) => queue.name)
          .toSorted()
          .join(', ')}; each read-only.`,
      );
    },
  ],
];
