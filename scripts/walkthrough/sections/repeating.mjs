/** Section 4: idempotency keys and batches. */
const later = '2099-01-01T00:00:00Z';

/** @type {[string, (t: any) => Promise<void>][]} */
export const repeating = [
  [
    'The same Idempotency-Key and body give the same task: 201, `Idempotency-Replayed: true`',
    async (t) => {
      const headers = { 'Idempotency-Key': 'order 4711 ~!' };
      const body = { type: 'demo', context: { a: 1 }, scheduledFor: later };
      const first = await t.ask('POST', '/v1/tasks', {
        body,
        headers,
        expect: 201,
        heads: ['idempotency-replayed'],
      });
      t.is('not replayed', first.headers['idempotency-replayed'], undefined);
      const again = await t.ask('POST', '/v1/tasks', {
        body,
        headers,
        expect: 201,
        heads: ['idempotency-replayed', 'location'],
      });
      t.is('replayed', again.headers['idempotency-replayed'], 'true');
      t.is('the same task', again.json.id, first.json.id);
      t.is('Location', again.headers.location, `/v1/tasks/${first.json.id}`);
      await t.admin('POST', `/v1/tasks/${first.json.id}/cancel`, { reason: 'walk' });
      const third = await t.ask('POST', '/v1/tasks', { body, headers, expect: 201, quiet: true });
      t.is('the same task, as it is now', [third.json.id, third.json.state], [first.json.id, 'CANCELLED']);
    },
  ],
  [
    'The same key with another body is 422',
    async (t) => {
      const headers = { 'Idempotency-Key': 'other-4711' };
      await t.ask('POST', '/v1/tasks', {
        body: { type: 'demo', context: { a: 1 }, scheduledFor: later },
        headers,
        expect: 201,
        quiet: true,
      });
      for (const change of [
        { context: { a: 2 } },
        { type: 'demo2' },
        { priority: 1 },
        { metadata: { x: 1 } },
        { title: 't' },
      ]) {
        const quiet = change.context === undefined;
        await t.refuse('POST', '/v1/tasks', 422, 'idempotency_key_reused', {
          body: { type: 'demo', context: { a: 1 }, scheduledFor: later, ...change },
          headers,
          quiet,
        });
      }
    },
  ],
  [
    'A key has 1 to 255 printable ASCII characters; a refused request leaves it free',
    async (t) => {
      const body = { type: 'demo', context: 1, scheduledFor: later };
      for (const key of ['k'.repeat(255), '~']) {
        await t.ask('POST', '/v1/tasks', {
          body,
          headers: { 'Idempotency-Key': key },
          expect: 201,
          quiet: true,
        });
      }
      for (const key of ['k'.repeat(256), '', 'sch\u00f6n', 'a\tb']) {
        const { status } = await t.ask('POST', '/v1/tasks', {
          body,
          headers: { 'Idempotency-Key': key },
          quiet: key.length !== 256,
        });
        t.in(`status for the key ${JSON.stringify(key).slice(0, 20)}`, status, [400, 422]);
      }
      const headers = { 'Idempotency-Key': 'free-4711' };
      await t.refuse('POST', '/v1/tasks', 422, null, { body: { ...body, priority: 9 }, headers });
      await t.ask('POST', '/v1/tasks', { body, headers, expect: 201 });
    },
  ],
  [
    'Twenty creates at once with one key make one task',
    async (t) => {
      const headers = { 'Idempotency-Key': 'race-4711' };
      const body = { type: 'demo', context: 1, scheduledFor: later };
      const answers = await Promise.all(
        Array.from({ length: 20 }, () =>
          t.ask('POST', '/v1/tasks', { body, headers, expect: 201, quiet: true }),
        ),
      );
      t.is('tasks', new Set(answers.map(({ json }) => json.id)).size, 1);
      t.is(
        'replayed',
        answers.filter(({ headers: got }) => got['idempotency-replayed'] === 'true').length,
        19,
      );
    },
  ],
  [
    'A batch: one verdict an item, and one bad item spoils no other',
    async (t) => {
      const good = { type: 'demo', context: 1, scheduledFor: later };
      const key = 'batch-4711';
      const items = [
        good,
        { type: 'demo' },
        { ...good, idempotencyKey: key },
        { ...good, idempotencyKey: key },
        { ...good, colour: 1 },
        7,
        { ...good, context: 2, idempotencyKey: key },
      ];
      const { json } = await t.ask('POST', '/v1/tasks/batch', { body: { tasks: items }, expect: 200 });
      t.is(
        'index',
        json.data.map(({ index }) => index),
        [0, 1, 2, 3, 4, 5, 6],
      );
      t.is(
        'status',
        json.data.map(({ status }) => status),
        [201, 422, 201, 201, 422, 422, 422],
      );
      t.is('one key, one task', json.data[2].task?.id, json.data[3].task?.id);
      t.is(
        'members of a problem',
        ['type', 'title', 'status', 'detail', 'code', 'requestId'].filter(
          (name) => json.data[1].problem[name] === undefined,
        ),
        [],
      );
      const single = await t.ask('POST', '/v1/tasks', {
        body: good,
        headers: { 'Idempotency-Key': key },
        expect: 201,
        quiet: true,
      });
      t.is(
        'a key of a batch is the key of a header',
        [single.json.id, single.headers['idempotency-replayed']],
        [json.data[2].task?.id, 'true'],
      );
    },
  ],
  [
    'A batch has 1 to 1000 items; one with 1000 is taken',
    async (t) => {
      const of = (count) => ({
        tasks: Array.from({ length: count }, (_, n) => ({
          type: 'demo',
          context: n,
          workspaceId: 'thousand',
          scheduledFor: later,
        })),
      });
      const { json } = await t.ask('POST', '/v1/tasks/batch', { body: of(1000), expect: 200, quiet: true });
      t.is('made', json.data.filter(({ status }) => status === 201).length, 1000);
      await t.refuse('POST', '/v1/tasks/batch', 422, null, { body: of(0), pointers: ['/tasks'] });
      await t.refuse('POST', '/v1/tasks/batch', 422, null, {
        body: of(1001),
        pointers: ['/tasks'],
        quiet: true,
      });
      for (const body of [{}, { tasks: {} }, { tasks: null }, { tasks: [1], extra: 1 }, []])
        await t.refuse('POST', '/v1/tasks/batch', 422, null, { body, quiet: true });
      await t.refuse('POST', '/v1/tasks/batch', 413, null, {
        raw: `{"tasks":["${'x'.repeat(16 * 1024 * 1024)}"]}`,
        quiet: true,
      });
    },
  ],
];
