/** Section 1: lists. */
/** @type {[string, (t: any) => Promise<void>][]} */
export const lists = [
  [
    'A limit, cursor, state or wait out of range and an unknown query parameter are 422',
    async (t) => {
      const task = await t.task({ workspaceId: 'query', scheduledFor: '2099-01-01T00:00:00Z' });
      await t.refuse('GET', '/v1/tasks?limit=0', 422, null, { pointers: ['/limit'] });
      await t.refuse('GET', '/v1/tasks?limit=201', 422, null, { pointers: ['/limit'] });
      await t.refuse('GET', '/v1/tasks?colour=red', 422, null, { pointers: ['/colour'] });
      for (const query of [
        'limit=',
        'limit=1.5',
        'limit=-1',
        'limit=abc',
        'limit=1&limit=2',
        'limit=%201',
        'limit=1e1',
        'cursor=',
        'cursor=abc',
        'cursor=MS4x',
        'state=pending',
        'state=DONE',
        'state=',
        'createdAfter=yesterday',
        'createdBefore=2026-02-30T00:00:00Z',
        'cancelling=maybe',
        'tag=',
        'type=',
        'workspaceId=a%20b',
        'Limit=1',
      ]) {
        await t.refuse('GET', `/v1/tasks?${query}`, 422, null, { quiet: true });
      }
      for (const query of ['wait=-1', 'wait=61', 'wait=x', 'wait=', 'wait=1.5', 'wait=1&wait=2', 'limit=1']) {
        await t.refuse('GET', `/v1/tasks/${task.id}?${query}`, 422, null, { quiet: query !== 'wait=61' });
      }
      for (const path of [
        '/v1/backends',
        '/v1/api-keys',
        '/v1/audit',
        `/v1/tasks/${task.id}/events`,
        `/v1/tasks/${task.id}/attempts`,
      ]) {
        for (const query of ['limit=0', 'limit=201', 'cursor=zzz', 'colour=red'])
          await t.refuse('GET', `${path}?${query}`, 422, null, { quiet: true });
        for (const query of ['limit=1', 'limit=200'])
          await t.ask('GET', `${path}?${query}`, { expect: 200, quiet: true });
      }
      for (const path of [`/v1/tasks/${task.id}/cancel`, '/v1/tasks', '/v1/backends', '/v1/emergency-stop']) {
        await t.refuse('POST', `${path}?colour=red`, 422, null, { body: {}, quiet: true });
      }
      await t.refuse('POST', '/v1/emergency-stop?dryRun=perhaps', 422, null, {
        body: { reason: 'x' },
        quiet: true,
      });
      await t.refuse('DELETE', '/v1/backends/bknd_1?force=perhaps', 422, null, { quiet: true });
    },
  ],
  [
    'Lists come newest first, page by page, and stay stable while rows are added',
    async (t) => {
      const workspaceId = 'pages';
      const make = (n) =>
        t.task({ workspaceId, title: `number ${n}`, scheduledFor: '2099-01-01T00:00:00Z', metadata: { n } });
      const ids = [];
      for (let n = 1; n <= 7; n += 1) ids.push((await make(n)).id);
      const pick = ['id', 'title'];
      const first = await t.ask('GET', `/v1/tasks?workspaceId=${workspaceId}&limit=3`, { expect: 200, pick });
      t.is('members of a list', Object.keys(first.json).toSorted(), ['data', 'nextCursor']);
      ids.push((await make(8)).id, (await make(9)).id);
      const second = await t.ask(
        'GET',
        `/v1/tasks?workspaceId=${workspaceId}&limit=3&cursor=${first.json.nextCursor}`,
        { expect: 200, pick },
      );
      ids.push((await make(10)).id);
      const third = await t.ask(
        'GET',
        `/v1/tasks?workspaceId=${workspaceId}&limit=3&cursor=${second.json.nextCursor}`,
        { expect: 200, pick },
      );
      const seen = [first, second, third].flatMap(({ json }) => json.data.map(({ id }) => id));
      t.is('each of the seven once, newest first', seen, ids.slice(0, 7).toReversed());
      t.is('the last page has no cursor', third.json.nextCursor, null);
      const exact = await t.ask('GET', `/v1/tasks?workspaceId=${workspaceId}&limit=10`, {
        expect: 200,
        quiet: true,
      });
      t.is(
        'a page that holds all has no cursor',
        [exact.json.data.length, exact.json.nextCursor],
        [10, null],
      );
      const nothing = await t.ask('GET', '/v1/tasks?workspaceId=nobody', { expect: 200 });
      t.is('an empty list', nothing.json, { data: [], nextCursor: null });
    },
  ],
  [
    'Lists carry no payloads',
    async (t) => {
      await t.task({
        workspaceId: 'lean',
        context: { secret: 'payload' },
        metadata: { m: 'payload' },
        scheduledFor: '2099-01-01T00:00:00Z',
      });
      const list = await t.ask('GET', '/v1/tasks?workspaceId=lean', { expect: 200, pick: 'all' });
      t.ok('no payload', !list.text.includes('payload'), list.text);
      t.is(
        'payload members',
        ['context', 'result', 'metadata'].filter((name) => name in list.json.data[0]),
        [],
      );
    },
  ],
  [
    '50 is the default limit',
    async (t) => {
      const tasks = Array.from({ length: 51 }, () => ({
        type: 'demo',
        context: 1,
        workspaceId: 'fifty',
        scheduledFor: '2099-01-01T00:00:00Z',
      }));
      await t.ask('POST', '/v1/tasks/batch', { body: { tasks }, expect: 200, quiet: true });
      const { json } = await t.ask('GET', '/v1/tasks?workspaceId=fifty', { expect: 200, pick: ['id'] });
      t.is('length', json.data.length, 50);
      t.ok('a cursor', typeof json.nextCursor === 'string');
      const rest = await t.ask('GET', `/v1/tasks?workspaceId=fifty&cursor=${json.nextCursor}`, {
        expect: 200,
        quiet: true,
      });
      t.is('the rest', [rest.json.data.length, rest.json.nextCursor], [1, null]);
    },
  ],
];
