/** Section 1: kinds, depth, and payloads that keep their bytes. */
const later = '2099-01-01T00:00:00Z';
const deep = (levels) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
const odd =
  '{"huge":1e400,"long":9007199254740993,"tiny":1e-400,"zero":-0.0,"nul":"\\u0000","half":"\\ud800","slash":"\\/","twice":1,"twice":2,"__proto__":{"polluted":true},"constructor":{"prototype":1}, "spaced" : [ 1 , 2 ] ,"é":"\\u00e9é"}';
/** The text of one member of an object, as it stands. */
const memberText = (text, name, before) => {
  const start = text.indexOf(`"${name}":`) + name.length + 3;
  return text.slice(start, start + before.length);
};

const wrongTypes = {
  type: 7,
  title: {},
  reference: 1,
  priority: '3',
  workspaceId: 1,
  backend: 'b',
  tags: 'a',
  metadata: [],
  scheduledFor: 4_000_000_000,
  timeouts: [],
  retry: 1,
  notify: 'http://x',
};

/** @type {[string, (t: any) => Promise<void>][]} */
export const payloads = [
  [
    'Every field of the wrong kind is named',
    async (t) => {
      const { json } = await t.refuse('POST', '/v1/tasks', 422, null, { body: wrongTypes });
      const named = new Set((json?.errors ?? []).map(({ pointer }) => pointer.split('/')[1]));
      t.is('fields named', named, new Set([...Object.keys(wrongTypes), 'context']));
      for (const raw of [
        '{"type":"","context":1}',
        '{"type":null,"context":1}',
        '{"context":1}',
        '{"type":"demo"}',
        '{"type":"demo","context":1,"tags":[""]}',
        '{"type":"de\\u0000mo","context":1}',
        '{"type":"demo","context":1,"title":"\\ud800"}',
      ]) {
        await t.refuse('POST', '/v1/tasks', 422, null, { raw, quiet: true });
      }
      for (const context of ['null', '0', '"text"', '[]', 'false', '{}']) {
        const made = await t.ask('POST', '/v1/tasks', {
          raw: `{"type":"demo","scheduledFor":"${later}","context":${context}}`,
          expect: 201,
          quiet: true,
        });
        t.is('context', JSON.stringify(made.json?.context), context);
      }
    },
  ],
  [
    'Depth 32 is taken, 33 is 400, counted from the outermost brace, in a batch from the item’s',
    async (t) => {
      const make = (levels) => `{"type":"demo","scheduledFor":"${later}","context":${deep(levels - 1)}}`;
      await t.ask('POST', '/v1/tasks', { raw: make(32), expect: 201 });
      await t.refuse('POST', '/v1/tasks', 400, 'json_too_deep', { raw: make(33) });
      const batch = await t.ask('POST', '/v1/tasks/batch', {
        raw: `{"tasks":[${make(32)},${make(33)}]}`,
        expect: 200,
        quiet: true,
      });
      t.is(
        'verdicts',
        batch.json.data.map(({ status }) => status),
        [201, 400],
      );
      await t.refuse('POST', '/v1/tasks', 400, null, {
        raw: `{"type":"demo","context":${deep(100_000)}}`,
        quiet: true,
      });
    },
  ],
  [
    'A key twice in one of our own objects is 400; inside a payload every name is just data',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 400, 'malformed_json', {
        raw: '{"type":"demo","type":"demo","context":{}}',
      });
      for (const raw of [
        '{"type":"demo","context":1,"context":1}',
        '{"type":"demo","context":1,"retry":{"maxSends":1,"maxSends":2}}',
        '{"type":"demo","context":1,"t\\u0079pe":"demo"}',
        '{"type":"demo","context":1,"backend":{"labels":{"a":"1","a":"2"}}}',
      ]) {
        await t.refuse('POST', '/v1/tasks', 400, null, { raw, quiet: true });
      }
      const made = await t.ask('POST', '/v1/tasks', {
        raw: `{"type":"demo","scheduledFor":"${later}","context":{"a":1,"a":2,"__proto__":3},"metadata":{"m":1,"m":2}}`,
        expect: 201,
      });
      t.ok(
        'both are kept',
        made.text.includes('{"a":1,"a":2,"__proto__":3}') && made.text.includes('{"m":1,"m":2}'),
        made.text,
      );
    },
  ],
  [
    'Payloads come back as the same bytes, however odd',
    async (t) => {
      const raw = `{"type":"demo","scheduledFor":"${later}","context": ${odd} ,"metadata":${odd}}`;
      const made = await t.ask('POST', '/v1/tasks', { raw, expect: 201, pick: ['id', 'context'] });
      t.is('context in the answer', memberText(made.text, 'context', odd), odd);
      const read = await t.ask('GET', `/v1/tasks/${made.json.id}`, { expect: 200, quiet: true });
      t.is('context read again', memberText(read.text, 'context', odd), odd);
      t.is('metadata read again', memberText(read.text, 'metadata', odd), odd);
      const [twin] = [
        await t.ask('POST', '/v1/tasks/batch', { raw: `{"tasks":[${raw}]}`, expect: 200, quiet: true }),
      ];
      t.is('context from a batch', memberText(twin.text, 'context', odd), odd);
    },
  ],
  [
    'What is sent twice in the headers, or has no Host, is refused',
    async (t) => {
      await t.refuse('POST', '/v1/tasks', 400, null, {
        body: { type: 'demo', context: 1 },
        headers: { 'Idempotency-Key': ['a', 'b'] },
      });
    },
  ],
];
