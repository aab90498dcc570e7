/** Section 7: in whatever order it comes, it converges to one end. */
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
export const converging = [
  [
    '`completed` without `running`: the walk is filled in',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'completed' });
      await t.ended(id);
      t.is('moves', moves(await t.events(id)), ['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED']);
      const task = await t.read(id);
      t.ok('startedAt', task.startedAt, task);
    },
  ],
  [
    'Reordered: `progress` and `running` after `completed` change nothing',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'completed', result: 'first' }, quiet);
      await t.ended(id);
      await t.callBack(place, spawn, { status: 'running' });
      await t.callBack(place, spawn, { status: 'failed', error: { message: 'too late' } });
      await t.callBack(place, spawn, { status: 'completed', result: 'second' }, quiet);
      await t.until('the timeline says so', async () =>
        (await t.events(id)).slice(-3).every(({ from }) => from === 'COMPLETED'),
      );
      const { json } = await t.ask('GET', `/v1/tasks/${id}`, { expect: 200 });
      t.is('end', [json.state, json.result, json.error], ['COMPLETED', 'first', null]);
      const after = (await t.events(id)).slice(-3);
      t.is(
        'they move nothing',
        after.map(({ from, to }) => [from, to]),
        Array(3).fill(['COMPLETED', 'COMPLETED']),
      );
    },
  ],
  [
    'A duplicate is one whose id and status were seen; `webhook-id` is an id too',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'running', id: 'e1' }, quiet);
      await t.callBack(place, spawn, { status: 'progress', id: 'e1', progress: { percent: 10 } }, quiet);
      await t.until('the first', async () => (await t.read(id)).progress?.percent === 10);
      await t.callBack(place, spawn, { status: 'progress', id: 'e1', progress: { percent: 90 } });
      await t.callBack(
        place,
        spawn,
        { status: 'progress', progress: { percent: 20 } },
        { headers: { 'webhook-id': 'w1' } },
      );
      await t.until('the second', async () => (await t.read(id)).progress?.percent === 20);
      await t.callBack(
        place,
        spawn,
        { status: 'progress', progress: { percent: 95 } },
        { ...quiet, headers: { 'webhook-id': 'w1' } },
      );
      await t.callBack(place, spawn, { status: 'completed', id: 'end' }, quiet);
      t.is('progress', (await t.ended(id)).progress, { percent: 20, message: null });
      const events = await t.events(id);
      t.ok(
        'the timeline tells of duplicates',
        events.some(({ type }) => type.includes('duplicate')),
        events.map(({ type }) => type),
      );
    },
  ],
  [
    'Without an id: `running` and `progress` are never duplicates, the same end is',
    async (t) => {
      const { place, spawn, id } = await started(t, { task: { timeouts: { heartbeatMs: 1500 } } });
      for (let n = 0; n < 6; n += 1) {
        await t.callBack(place, spawn, { status: 'running' }, { quiet: n > 0 });
        await t.pause(500);
      }
      t.is('each was a sign of life', (await t.read(id)).state, 'RUNNING');
      for (let n = 0; n < 3; n += 1)
        await t.callBack(place, spawn, { status: 'completed', result: 1 }, quiet);
      t.is(
        'end',
        [(await t.ended(id)).state, moves(await t.events(id))],
        ['COMPLETED', ['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED']],
      );
    },
  ],
  [
    'Of two progress reports the higher `sequence` wins',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'progress', sequence: 7, progress: { percent: 70 } });
      await t.until('70', async () => (await t.read(id)).progress?.percent === 70);
      await t.callBack(place, spawn, { status: 'progress', sequence: 3, progress: { percent: 30 } });
      await t.callBack(place, spawn, { status: 'completed' }, quiet);
      t.is('progress', (await t.ended(id)).progress.percent, 70);
    },
  ],
  [
    '`killed` without a cancel ends as CANCELLED too',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'killed' });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is('end', [json.state, json.cancelRequestedAt], ['CANCELLED', null]);
    },
  ],
  [
    '`failed` with `retryable: true`: a new attempt with a new key and token; what the old one still says changes nothing',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, {
        status: 'failed',
        error: { code: 'FLAKY', message: 'try again', retryable: true },
      });
      const second = await place.spawned(2);
      t.is('attempt', [spawn.task.attempt, second.task.attempt], [1, 2]);
      t.ok(
        'a new key',
        spawn.headers['idempotency-key'] !== second.headers['idempotency-key'],
        second.headers['idempotency-key'],
      );
      t.ok('a new token', spawn.body.callback_token !== second.body.callback_token);
      t.ok('a new callback_url, or the same with another token', second.body.callback_url);
      await t.callBack(place, spawn, { status: 'completed', result: 'from the dead' });
      await t.callBack(place, second, { status: 'running' }, quiet);
      t.is('not ended by the old one', (await t.inState(id, 'RUNNING', 'COMPLETED')).state, 'RUNNING');
      await t.callBack(
        place,
        { ...second, body: { ...second.body, callback_token: spawn.body.callback_token } },
        { status: 'completed' },
        { ...quiet, expect: 401 },
      );
      await t.callBack(place, second, { status: 'completed', result: 'from the living' }, quiet);
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is('end', [json.state, json.result, json.attempt], ['COMPLETED', 'from the living', 2]);
      const events = await t.events(id);
      t.ok(
        'the timeline says so',
        events.some(
          ({ type, attempt, from, to }) =>
            attempt === 1 && from === to && /late|superseded|callback/.test(type),
        ),
        events.map(({ type, attempt }) => [type, attempt]),
      );
      t.is('moves', moves(events), [
        'PENDING',
        'DISPATCHED',
        'PENDING',
        'DISPATCHED',
        'RUNNING',
        'COMPLETED',
      ]);
    },
  ],
  [
    'Another backend is preferred for the next attempt if one fits',
    async (t) => {
      const labels = { walk: 'prefer' };
      const script = (spawn) => [
        spawn.task.attempt === 1
          ? { status: 'failed', error: { message: 'no', retryable: true } }
          : { status: 'completed' },
      ];
      const places = [
        await t.place({ backend: { labels }, script }),
        await t.place({ backend: { labels }, script }),
      ];
      const { id } = await t.task({ backend: { labels } });
      const task = await t.ended(id);
      const attempts = await t.attempts(id);
      t.is(
        'each backend once',
        [task.state, new Set(attempts.map(({ backendId }) => backendId))],
        ['COMPLETED', new Set(places.map((one) => one.id))],
      );
      await t.ask('GET', `/v1/tasks/${id}/attempts`, { expect: 200 });
    },
  ],
  [
    'After the last attempt the error is the agent’s own',
    async (t) => {
      const place = await t.place({
        script: ({ nth }) => [
          { status: 'failed', error: { code: 'FLAKY', message: `time ${nth}`, retryable: true } },
        ],
      });
      const { id } = await t.task({
        backend: { id: place.id },
        retry: { maxAttempts: 2, backoffBaseMs: 50, backoffMaxMs: 50 },
      });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is(
        'end',
        [json.state, json.error?.code, json.error?.message, json.attempt],
        ['FAILED', 'FLAKY', 'time 2', 2],
      );
      t.is('spawn requests', place.orchestrator.spawns.length, 2);
    },
  ],
  [
    '`failed` without an error object is FAILED, with an error',
    async (t) => {
      const { place, spawn, id } = await started(t);
      await t.callBack(place, spawn, { status: 'failed' });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, { expect: 200 });
      t.is(
        'end',
        [json.state, typeof json.error?.code, typeof json.error?.message, json.error?.retryable],
        ['FAILED', 'string', 'string', false],
      );
    },
  ],
];
