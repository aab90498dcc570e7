/** Section 4: attempts, timeline, stream. */
const works = () => [
  { status: 'running' },
  { status: 'progress', progress: { percent: 50, message: 'half' } },
  { status: 'completed', result: { answer: 42 } },
];
const timeShape = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** @type {[string, (t: any) => Promise<void>][]} */
export const following = [
  [
    'The attempts of a task',
    async (t) => {
      const place = await t.place({ script: works });
      const { id } = await t.task({ backend: { id: place.id } });
      await t.ended(id);
      const { json } = await t.ask('GET', `/v1/tasks/${id}/attempts`, { expect: 200 });
      const [attempt] = json.data;
      t.is(
        'members',
        [
          'number',
          'backendId',
          'externalId',
          'sends',
          'outcome',
          'httpStatus',
          'error',
          'startedAt',
          'endedAt',
        ].filter((name) => !(name in attempt)),
        [],
      );
      t.is(
        'values',
        [
          attempt.number,
          attempt.backendId,
          attempt.externalId,
          attempt.sends,
          attempt.httpStatus,
          attempt.error,
        ],
        [1, place.id, 'session_1', 1, 201, null],
      );
      t.ok('it ended', timeShape.test(attempt.endedAt), attempt.endedAt);
    },
  ],
  [
    'The timeline: `seq` 1, 2, 3…, the first from null to PENDING, a legal walk',
    async (t) => {
      const place = await t.place({ script: works });
      const { id } = await t.task({ backend: { id: place.id } });
      await t.ended(id);
      const { json } = await t.ask('GET', `/v1/tasks/${id}/events`, { expect: 200 });
      const events = json.data;
      t.is(
        'members',
        ['seq', 'type', 'from', 'to', 'at', 'attempt', 'backendId', 'actor', 'detail'].filter(
          (name) => !(name in events[0]),
        ),
        [],
      );
      t.is(
        'seq',
        events.map(({ seq }) => seq),
        events.map((_, index) => index + 1),
      );
      t.is('the first', [events[0].from, events[0].to], [null, 'PENDING']);
      t.is(
        'moves',
        events.filter(({ from, to }) => from !== to).map(({ to }) => to),
        ['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED'],
      );
      t.ok(
        'an event that moves nothing',
        events.some(({ from, to }) => from === to),
        events.length,
      );
      const page = await t.ask('GET', `/v1/tasks/${id}/events?limit=2`, { expect: 200, quiet: true });
      const rest = await t.ask('GET', `/v1/tasks/${id}/events?limit=200&cursor=${page.json.nextCursor}`, {
        expect: 200,
        quiet: true,
      });
      t.is('pages go on', [...page.json.data, ...rest.json.data], events);
    },
  ],
  [
    'The stream is the timeline as server-sent events, and ends after the last',
    async (t) => {
      const place = await t.place({ script: () => works().map((step) => ({ ...step, afterMs: 150 })) });
      const { id } = await t.task({ backend: { id: place.id } });
      const stream = await t.stream(`/v1/tasks/${id}/stream`);
      t.show(
        `\`\`\`sh\ncurl -sN $URL/v1/tasks/${id}/stream -H "Authorization: Bearer $KEY"\n\`\`\`\n\n\`\`\`\n${stream.text
          .split('\n')
          .map((line) => line.slice(0, 600))
          .join('\n')
          .trim()}\n\`\`\``,
      );
      t.is('status', stream.status, 200);
      t.ok(
        'Content-Type',
        String(stream.headers['content-type']).startsWith('text/event-stream'),
        stream.headers['content-type'],
      );
      t.is('Cache-Control', stream.headers['cache-control'], 'no-store');
      t.is('its end', stream.end, 'ended by the server');
      const events = await t.events(id);
      t.is(
        'ids',
        stream.events.map(({ id: seq }) => Number(seq)),
        events.map(({ seq }) => seq),
      );
      t.is(
        'data',
        stream.events.map(({ data }) => data),
        events,
      );
      const [, second] = stream.events;
      const resumed = await t.stream(`/v1/tasks/${id}/stream`, { headers: { 'Last-Event-ID': second.id } });
      t.is(
        'resumed after the second',
        resumed.events.map(({ id: seq }) => Number(seq)),
        events.slice(2).map(({ seq }) => seq),
      );
    },
  ],
  [
    '`Last-Event-ID` resumes a cut stream with nothing lost or doubled',
    async (t) => {
      const place = await t.place();
      const { id } = await t.task({ backend: { id: place.id } });
      const spawn = await place.spawned();
      const first = await t.stream(`/v1/tasks/${id}/stream`, { enough: (events) => events.length >= 2 });
      const last = first.events.at(-1).id;
      await t.callBack(place, spawn, { status: 'running' }, { quiet: true });
      await t.inState(id, 'RUNNING');
      const rest = t.stream(`/v1/tasks/${id}/stream`, { headers: { 'Last-Event-ID': last } });
      await t.callBack(place, spawn, { status: 'completed' }, { quiet: true });
      const seqs = [...first.events, ...(await rest).events].map(({ id: seq }) => Number(seq));
      t.is(
        'seq',
        seqs,
        (await t.events(id)).map(({ seq }) => seq),
      );
      t.show(
        `The first stream was cut after event ${last}; the second, with \`Last-Event-ID: ${last}\`, went on with ${Number(last) + 1}.`,
      );
    },
  ],
];
