/** Section 7: what an Orchestrator may send. */
const started = async (t, options = {}) => {
  const { task: body, ...rest } = options;
  const place = await t.place(rest);
  const task = await t.task({ backend: { id: place.id }, ...body });
  const spawn = await place.spawned();
  if (rest.spawn === undefined) await t.inState(task.id, 'DISPATCHED');
  return { place, spawn, id: task.id };
};
const quiet = { quiet: true };
const moves = (events) => events.filter(({ from, to }) => from !== to).map(({ to }) => to);

/** @type {[string, (t: any) => Promise<void>][]} */
export const calling = [
  [
    '`running`, `progress`, `completed`: 202 each, and the task follows',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, {
        status: 'running',
        sessionId: 'session_1',
        occurredAt: '2026-01-31T12:00:00Z',
      });
      await t.inState(id, 'RUNNING');
      await t.callBack(place, spawn, {
        status: 'progress',
        id: 'e1',
        sequence: 1,
        progress: { percent: 40.5, message: 'reading' },
      });
      const running = await t.until('progress', async () => {
        const task = await t.read(id);
        return task.progress === null ? null : task;
      });
      t.is('progress', running.progress, { percent: 40.5, message: 'reading' });
      await t.callBack(place, spawn, { status: 'completed', id: 'e2', result: { pages: 12 } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is('end', [json.state, json.result], ['COMPLETED', { pages: 12 }]);
    },
  ],
  [
    '`failed`: the error is the agent’s own',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, {
        status: 'failed',
        error: { code: 'NO_DISK', message: 'the disk is full' },
      });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is(
        'end',
        [json.state, json.error],
        ['FAILED', { code: 'NO_DISK', message: 'the disk is full', retryable: false }],
      );
    },
  ],
  [
    'Statuses in any case, and further fields are tolerated',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'RUNNING', tokensUsed: 17, nested: { anything: [1, 2] } });
      await t.callBack(place, spawn, {
        status: 'Completed',
        error: null,
        progress: null,
        sessionId: null,
        id: null,
        sequence: null,
      });
      t.is('end', (await t.ended(id)).state, 'COMPLETED');
    },
  ],
  [
    'The result comes back as the same bytes',
    async (t) => {
      const { place, spawn, id } = await started(t);
      const result =
        '{"huge":1e400,"long":9007199254740993,"nul":"\\u0000","twice":1,"twice":2,"__proto__":{"a":1}, "s" : [ 1 ]}';
      await t.callBack(place, spawn, null, { raw: `{"status":"completed","result": ${result} }` });
      await t.ended(id);
      const { text } = await t.ask('GET', `/v1/tasks/${id}`, {
        expect: 200,
        pick: ['id', 'state', 'result'],
      });
      t.ok('result', text.includes(`"result":${result}`), text);
    },
  ],
  [
    'A wrong or missing token is 401',
    async (t) => {
      const { place, spawn, id } = await started(t);
      const other = await started(t);
      const token = spawn.body.callback_token;
      await t.callBack(
        place,
        spawn,
        { status: 'completed' },
        { headers: { Authorization: 'Bearer wrong' }, expect: 401, code: 'callback_token_invalid' },
      );
      const flipped = token.slice(0, -2) + (token.at(-2) === 'A' ? 'B' : 'A') + token.slice(-1);
      for (const Authorization of [
        `Bearer ${flipped}`,
        `Bearer ${token.slice(0, -1)}`,
        `Bearer ${other.spawn.body.callback_token}`,
        `Bearer ${t.system.adminKey}`,
        `Basic ${token}`,
        token,
        'Bearer ',
      ]) {
        await t.callBack(
          place,
          spawn,
          { status: 'completed' },
          { ...quiet, headers: { Authorization }, expect: 401 },
        );
      }
      await t.callBack(place, spawn, null, {
        ...quiet,
        raw: '{broken',
        headers: { Authorization: 'Bearer x' },
        expect: 401,
      });
      const path = new URL(spawn.body.callback_url).pathname;
      await t.refuse('POST', path, 401, null, { key: null, body: { status: 'completed' } });
      await t.refuse('POST', path, 401, null, { body: { status: 'completed' }, ...quiet });
      t.is('nothing moved', (await t.read(id)).state, 'DISPATCHED');
    },
  ],
  [
    'What is malformed is 400 or 422, what is too large 413',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, null, { raw: '{"status":', expect: 400 });
      await t.callBack(place, spawn, { status: 'finished' }, { expect: 422 });
      for (const callback of [
        {},
        { status: 7 },
        { status: null },
        { status: 'progress', progress: { percent: 101 } },
        { status: 'progress', progress: { percent: -1 } },
        { status: 'progress', progress: { percent: '5' } },
        { status: 'running', sequence: -1 },
        { status: 'running', sequence: 1.5 },
        { status: 'failed', error: { code: 'X' } },
        { status: 'failed', error: 'text' },
        { status: 'running', occurredAt: 'yesterday' },
        { status: 'running', id: 7 },
        [],
      ]) {
        await t.callBack(place, spawn, callback, { ...quiet, expect: 422 });
      }
      await t.callBack(
        place,
        spawn,
        { status: 'running' },
        { ...quiet, headers: { 'Content-Type': 'text/plain' }, expect: 415 },
      );
      const fill = (bytes) => JSON.stringify({ status: 'completed', result: 'r'.repeat(bytes) });
      await t.callBack(place, spawn, null, { ...quiet, raw: fill(1_048_576 - 1), expect: 413 });
      await t.callBack(place, spawn, null, {
        ...quiet,
        raw: JSON.stringify({ status: 'running', filler: 'f'.repeat(2_097_152) }),
        expect: 413,
      });
      t.is('nothing moved', (await t.read(id)).state, 'DISPATCHED');
      await t.callBack(place, spawn, null, {
        ...quiet,
        raw: JSON.stringify({ status: 'running', filler: 'f'.repeat(1_900_000) }),
      });
      await t.callBack(place, spawn, null, { ...quiet, raw: fill(1_048_576 - 2) });
      const task = await t.ended(id);
      t.is('a result of exactly 1 MiB', [task.state, task.result?.length], ['COMPLETED', 1_048_574]);
      const path = new URL(spawn.body.callback_url).pathname;
      await t.refuse('GET', path, 405, null, { key: null, ...quiet });
    },
  ],
  [
    'Early: a callback inside the spawn request, before its answer',
    async (t) => {
      const place = await t.place({
        spawn: async (spawn) => {
          const answer = await place.orchestrator.call(spawn, { status: 'running' });
          t.is('202 before the answer', answer.status, 202);
          await t.pause(600);
          return {};
        },
      });
      const { id } = await t.task({ backend: { id: place.id } });
      const spawn = await place.spawned();
      await t.until('the answer', () => spawn.session !== null);
      await t.callBack(place, spawn, { status: 'completed' }, quiet);
      const task = await t.ended(id);
      t.is('end', [task.state, task.externalId], ['COMPLETED', 'session_1']);
      const { json } = await t.ask('GET', `/v1/tasks/${id}/events`, { expect: 200 });
      t.is('a legal walk', moves(json.data), ['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED']);
    },
  ],
  [
    'The whole life before the answer: `completed` inside the spawn request',
    async (t) => {
      const place = await t.place({
        spawn: async (spawn) => {
          await place.orchestrator.call(spawn, { status: 'completed', result: 1 });
          await t.pause(400);
          return { fault: 'reset' };
        },
      });
      const { id } = await t.task({ backend: { id: place.id } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is('end', [json.state, json.result], ['COMPLETED', 1]);
      await t.pause(1200);
      t.is('and never sent again', place.orchestrator.spawns.length, 1);
    },
  ],
];
