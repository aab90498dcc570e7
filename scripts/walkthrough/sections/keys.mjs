/** Section 8: keys and scopes. */
import { rows } from '../page.mjs';
const later = '2099-01-01T00:00:00Z';
const scopes = ['tasks:read', 'tasks:write', 'backends:read', 'backends:write', 'metrics:read'];
const routes = [
  ['tasks:read', 'GET', '/v1/tasks'],
  ['tasks:read', 'GET', '/v1/tasks/task_0'],
  ['tasks:read', 'GET', '/v1/tasks/task_0/attempts'],
  ['tasks:read', 'GET', '/v1/tasks/task_0/events'],
  ['tasks:read', 'GET', '/v1/tasks/task_0/stream'],
  ['tasks:write', 'POST', '/v1/tasks'],
  ['tasks:write', 'POST', '/v1/tasks/batch'],
  ['tasks:write', 'PATCH', '/v1/tasks/task_0'],
  ['tasks:write', 'POST', '/v1/tasks/task_0/cancel'],
  ['tasks:write', 'POST', '/v1/tasks/task_0/retry'],
  ['backends:read', 'GET', '/v1/backends'],
  ['backends:read', 'GET', '/v1/backends/bknd_0'],
  ['backends:read', 'GET', '/v1/backends/bknd_0/health'],
  ['backends:write', 'POST', '/v1/backends'],
  ['backends:write', 'PATCH', '/v1/backends/bknd_0'],
  ['backends:write', 'DELETE', '/v1/backends/bknd_0'],
  ['backends:write', 'POST', '/v1/backends/bknd_0/test'],
  ['backends:write', 'POST', '/v1/backends/test'],
  ['admin', 'POST', '/v1/emergency-stop?dryRun=true'],
  ['admin', 'POST', '/v1/workspaces/acme/kill-all?dryRun=true'],
  ['admin', 'GET', '/v1/api-keys'],
  ['admin', 'POST', '/v1/api-keys'],
  ['admin', 'DELETE', '/v1/api-keys/key_0'],
  ['admin', 'GET', '/v1/audit'],
];

/** @type {[string, (t: any) => Promise<void>][]} */
export const keys = [
  [
    'A key is made: the secret is shown this once',
    async (t) => {
      const { json, text } = await t.ask('POST', '/v1/api-keys', {
        body: {
          name: 'producer',
          scopes: ['tasks:write', 'tasks:read'],
          workspaceId: 'acme',
          expiresAt: later,
        },
        expect: 201,
        pick: 'all',
      });
      t.is(
        'fields',
        [json.name, json.scopes, json.workspaceId, json.expiresAt],
        ['producer', ['tasks:write', 'tasks:read'], 'acme', '2099-01-01T00:00:00.000Z'],
      );
      t.ok('secret', json.secret.length >= 32 && text.includes(json.secret));
      const list = await t.ask('GET', '/v1/api-keys?limit=200', { expect: 200, quiet: true });
      t.ok(
        'not in the list',
        list.json.data.some(({ id }) => id === json.id) &&
          !list.text.includes(json.secret) &&
          !list.text.includes('hash'),
        list.text.slice(0, 300),
      );
      for (const [body, pointers] of rows([
        [{ scopes: ['tasks:read'] }, ['/name']],
        [{ name: 'x', scopes: [] }, ['/scopes']],
        [{ name: 'x', scopes: ['root'] }, ['/scopes/0']],
        [{ name: 'x', scopes: ['tasks:read'], expiresAt: '2020-01-01T00:00:00Z' }, ['/expiresAt']],
        [{ name: 'x', scopes: ['tasks:read'], workspaceId: 'a b' }, ['/workspaceId']],
      ])) {
        await t.refuse('POST', '/v1/api-keys', 422, null, { body, pointers, quiet: true });
      }
    },
  ],
  [
    'No scope implies another, but `admin` has all: every route with every scope',
    async (t) => {
      const keys = {};
      for (const scope of scopes) keys[scope] = (await t.key({ scopes: [scope] })).secret;
      keys.admin = (await t.key({ scopes: ['admin'] })).secret;
      const rows = [];
      for (const [needed, method, path] of routes) {
        const row = [];
        for (const [scope, key] of Object.entries(keys)) {
          const mayPass = scope === needed || scope === 'admin' || (path.includes('kill-all') && false);
          const body =
            method === 'GET' || method === 'DELETE' || path.endsWith('/retry') || path.endsWith('_0/test')
              ? undefined
              : { reason: 'walk', unknown: 1 };
          const { status, json } = await t.ask(method, path, { key, body, quiet: true });
          t.is(`${method} ${path} with ${scope}`, status === 403, !mayPass);
          if (status === 403) t.is('code', json.code, 'scope_missing');
          row.push(status);
        }
        rows.push(`| ${method} ${path} | ${row.join(' | ')} |`);
      }
      t.show(
        `What each route answers to a key with one scope (403: not allowed; other answers come from what was asked for):\n\n| route | ${Object.keys(keys).join(' | ')} |\n|---|${Object.keys(
          keys,
        )
          .map(() => '---')
          .join('|')}|\n${rows.join('\n')}`,
      );
    },
  ],
];
