/** Section 1: what a body may be. */
import { rows } from '../page.mjs';
const later = '2099-01-01T00:00:00Z';

const edges = [
  ['/type', 'type', 'x'.repeat(128), 'x'.repeat(129)],
  ['/title', 'title', 'é'.repeat(512), 'é'.repeat(513)],
  ['/reference', 'reference', 'r'.repeat(256), 'r'.repeat(257)],
  ['/workspaceId', 'workspaceId', `${'w'.repeat(123)}_.:-9`, 'w'.repeat(129)],
  ['/workspaceId', 'workspaceId', 'w', 'a b'],
  [
    '/tags',
    'tags',
    Array.from({ length: 50 }, (_, n) => `tag${n}`),
    Array.from({ length: 51 }, (_, n) => `tag${n}`),
  ],
  ['/tags/0', 'tags', ['t'.repeat(128)], ['t'.repeat(129)]],
  ['/metadata', 'metadata', { m: 'm'.repeat(65_536 - 8) }, { m: 'm'.repeat(65_536 - 7) }],
  ['/priority', 'priority', 1, 0],
  ['/priority', 'priority', 5, 6],
  ['/timeouts/dispatchMs', 'timeouts', { dispatchMs: 1 }, { dispatchMs: 0 }],
  ['/timeouts/startMs', 'timeouts', { startMs: 2_592_000_000 }, { startMs: 2_592_000_001 }],
  ['/timeouts/heartbeatMs', 'timeouts', { heartbeatMs: 2_592_000_000 }, { heartbeatMs: -1 }],
  ['/timeouts/runMs', 'timeouts', { runMs: 1 }, { runMs: 1.5 }],
  ['/retry/backoffBaseMs', 'retry', { backoffBaseMs: 1 }, { backoffBaseMs: 0 }],
  ['/retry/onUnknownOutcome', 'retry', { onUnknownOutcome: 'failover' }, { onUnknownOutcome: 'shrug' }],
  ['/retry/maxAttempts', 'retry', { maxAttempts: 1 }, { maxAttempts: 0 }],
  ['/scheduledFor', 'scheduledFor', '2099-01-01T01:00:00.5+01:00', '2099-01-01'],
  ['/deadlineAt', 'deadlineAt', '2099-12-31T23:59:59.999Z', '2099-02-30T00:00:00Z'],
];

/** @type {[string, (t: any) => Promise<void>][]} */
export const input = [
  [
    'An unknown field is 422, also deeper inside and when it is called `__proto__`',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 422, 'validation_failed', {
        body: { type: 'demo', context: {}, titel: 'x' },
        pointers: ['/titel'],
      });
      await t.refuse('POST', '/v1/tasks', 422, null, {
        body: { type: 'demo', context: {}, retry: { tries: 3 } },
        pointers: ['/retry/tries'],
      });
      for (const raw of [
        '{"type":"demo","context":1,"__proto__":{}}',
        '{"type":"demo","context":1,"constructor":1}',
        '{"type":"demo","context":1,"backend":{"__proto__":1}}',
        '{"type":"demo","context":1,"timeouts":{"toString":1}}',
      ]) {
        await t.refuse('POST', '/v1/tasks', 422, null, { raw, quiet: true });
      }
      for (const [path, body] of rows([
        ['/v1/backends', { name: 'x', protocol: 'gateway', url: 'http://127.0.0.1:9', extra: 1 }],
        ['/v1/api-keys', { name: 'x', scopes: ['admin'], extra: 1 }],
        ['/v1/emergency-stop?dryRun=true', { reason: 'x', extra: 1 }],
      ])) {
        await t.refuse('POST', path, 422, null, { body, pointers: ['/extra'], quiet: true });
      }
    },
  ],
  [
    'Malformed JSON is 400',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 400, 'malformed_json', { raw: '{"type": "demo", "context": {}' });
      for (const raw of [
        '',
        ' ',
        '{',
        'nul',
        '{"type":"demo",}',
        "{'type':1}",
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":NaN}',
        '{"a":"\n"}',
        '{"a":"\\x"}',
        '{"a":1} x',
        '{"a":1}{}',
        '\ufeff{"type":"demo","context":1}',
        '{"type":"demo","context":{"a":tru}}',
        '{"type":"demo","context":[1,]}',
        Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
      ]) {
        await t.refuse('POST', '/v1/tasks', 400, null, { raw, quiet: true });
      }
      for (const raw of ['[]', '1', '"x"', 'null', 'true'])
        await t.refuse('POST', '/v1/tasks', 422, null, { raw, quiet: true });
    },
  ],
  [
    'A body that is not JSON is 415',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 415, 'unsupported_media_type', {
        raw: 'type=demo',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      });
      for (const type of [
        'text/plain',
        'application/xml',
        'application/jsonx',
        'text/json',
        'application/json; charset=latin1',
        'multipart/form-data; boundary=x',
        null,
        '',
      ]) {
        await t.refuse('POST', '/v1/tasks', 415, null, {
          raw: '{"type":"demo","context":1}',
          headers: { 'Content-Type': type },
          quiet: true,
        });
      }
      await t.refuse('POST', '/v1/tasks', 415, null, {
        raw: '{}',
        headers: { 'Content-Encoding': 'gzip' },
        quiet: true,
      });
      for (const type of [
        'application/json; charset=utf-8',
        'APPLICATION/JSON',
        'application/json;charset=UTF-8',
        'application/json; charset="utf-8"',
      ]) {
        await t.ask('POST', '/v1/tasks', {
          body: { type: 'demo', context: 1, scheduledFor: later },
          headers: { 'Content-Type': type },
          expect: 201,
          quiet: true,
        });
      }
      await t.refuse('POST', '/v1/emergency-stop', 415, null, { quiet: true });
    },
  ],
  [
    'A body of exactly 1 MiB is taken, one byte more is 413',
    async (t) => {
      const around = `{"type":"demo","scheduledFor":"${later}","context":""}`;
      const sized = (bytes) => {
        return around.replace('""', `"${'c'.repeat(bytes - around.length)}"`);
      };
      const taken = await t.ask('POST', '/v1/tasks', { raw: sized(1_048_576), expect: 201 });
      t.is('length of the context', taken.json.context.length, 1_048_576 - around.length);
      await t.refuse('POST', '/v1/tasks', 413, 'payload_too_large', { raw: sized(1_048_577) });
      await t.refuse('POST', '/v1/tasks', 413, null, {
        raw: sized(1_048_577),
        headers: { 'Transfer-Encoding': 'chunked' },
        quiet: true,
      });
      await t.refuse('PATCH', `/v1/tasks/${taken.json.id}`, 413, null, {
        raw: sized(1_048_577),
        quiet: true,
      });
    },
  ],
  [
    'Each limit holds on both sides of its edge',
    async (t) => {
      for (const [pointer, name, good, bad] of rows(edges)) {
        const body = { type: 'demo', context: 1, scheduledFor: later };
        const isShown = name === 'title';
        const { json } = await t.ask('POST', '/v1/tasks', {
          body: { ...body, [name]: good },
          expect: 201,
          quiet: !isShown,
        });
        if (
          json !== undefined &&
          name !== 'timeouts' &&
          name !== 'retry' &&
          !name.endsWith('At') &&
          name !== 'scheduledFor'
        )
          t.is(`${name} comes back`, json[name], good);
        await t.refuse('POST', '/v1/tasks', 422, null, {
          body: { ...body, [name]: bad },
          pointers: [pointer],
          quiet: !isShown,
        });
      }
    },
  ],
];
