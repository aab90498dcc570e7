/** Section 4: kill-all and the emergency stop; they stand last. */
const later = '2099-01-01T00:00:00Z';
/** @type {[string, (t: any) => Promise<void>][]} */
export const stopping = [
  [
    'Kill-all of a workspace: a dry run counts only, the real one stops what is there and nothing else',
    async (t) => {
      const place = await t.place();
      const of = (workspaceId, rest = {}) => t.task({ workspaceId, backend: { id: place.id }, ...rest });
      const [running, held, scheduled] = [
        await of('doomed'),
        await of('doomed', { backend: { labels: { nowhere: 'x' } } }),
        await of('doomed', { scheduledFor: later }),
      ];
      const spared = await of('spared');
      for (const { id } of [running, spared]) await t.inState(id, 'DISPATCHED');
      await t.waiting(held.id, 'no_backend');
      const path = '/v1/workspaces/doomed/kill-all';
      await t.refuse('POST', path, 422, null, { body: {}, pointers: ['/reason'] });
      const dry = await t.ask('POST', `${path}?dryRun=true`, { body: { reason: 'drill' }, expect: 202 });
      t.is('dry run', dry.json, { matched: 3, requested: 0 });
      t.is('nothing moved', (await t.read(scheduled.id)).state, 'PENDING');
      const real = await t.ask('POST', path, { body: { reason: 'runaway agent' }, expect: 202 });
      t.is('real', real.json, { matched: 3, requested: 3 });
      for (const { id } of [running, held, scheduled])
        t.is('end', (await t.inState(id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
      t.is('the other workspace', (await t.read(spared.id)).state, 'DISPATCHED');
      t.is(
        'the kill',
        place.orchestrator.kills.map(({ body }) => body.reason),
        ['runaway agent'],
      );
      const audit = await t.until('a row for each kill', async () => {
        const rows = (await t.admin('GET', '/v1/audit?limit=200')).json.data;
        const ids = new Set(
          rows.filter(({ reason }) => reason === 'runaway agent').map(({ target }) => target),
        );
        return [running, held, scheduled].every(({ id }) => ids.has(id)) ? rows : null;
      });
      t.ok(
        'its state at that time',
        JSON.stringify(audit.find(({ target }) => target === running.id).detail).includes('DISPATCHED'),
        audit.find(({ target }) => target === running.id),
      );
      const after = await of('doomed');
      t.is(
        'a task made after it is sent',
        (await t.inState(after.id, 'DISPATCHED', 'CANCELLED')).state,
        'DISPATCHED',
      );
    },
  ],
  [
    'Emergency stop: everything, once; no task made before it is sent after it',
    async (t) => {
      const place = await t.place({ backend: { maxConcurrency: 3 } });
      const tasks = Array.from({ length: 40 }, (_, n) => ({
        type: 'demo',
        context: n,
        workspaceId: `w${n % 4}`,
        backend: { id: place.id },
      }));
      const made = (await t.admin('POST', '/v1/tasks/batch', { tasks })).json.data.map(({ task }) => task.id);
      await place.spawned(3);
      const writer = await t.key({ scopes: ['tasks:write'] });
      await t.refuse('POST', '/v1/emergency-stop', 403, 'scope_missing', {
        key: writer.secret,
        keyName: 'WRITER',
        body: { reason: 'x' },
      });
      await t.refuse('POST', '/v1/emergency-stop', 422, null, {
        body: { reason: '' },
        pointers: ['/reason'],
      });
      const dry = await t.ask('POST', '/v1/emergency-stop?dryRun=true', {
        body: { reason: 'drill' },
        expect: 202,
        quiet: true,
      });
      t.ok('dry run', dry.json.matched >= 40 && dry.json.requested === 0, dry.json);
      const stop = await t.ask('POST', '/v1/emergency-stop', {
        body: { reason: 'everything must stop' },
        expect: 202,
        quiet: true,
      });
      const sent = place.orchestrator.spawns.length;
      t.ok('counted', stop.json.matched >= 40 && stop.json.requested === stop.json.matched, stop.json);
      for (const id of made) t.in('end', (await t.inState(id, 'CANCELLED', 'FAILED')).state, ['CANCELLED']);
      await t.pause(800);
      t.is('nothing was sent after it', place.orchestrator.spawns.length, sent);
      t.ok('those that ran were told', place.orchestrator.kills.length >= 3, place.orchestrator.kills.length);
      const { id } = await t.task({ backend: { id: place.id } });
      t.is(
        'what is made after it runs',
        (await t.inState(id, 'DISPATCHED', 'CANCELLED')).state,
        'DISPATCHED',
      );
      t.show(
        'Forty tasks, three of them with an agent: all ended CANCELLED, three agents were told to kill, nothing was sent after the answer; a task made afterwards went out.',
      );
    },
  ],
];
