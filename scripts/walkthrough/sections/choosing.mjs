/** Section 5: which backend a task goes to, and when. */
const works = () => [{ status: 'completed' }];

/** @type {[string, (t: any) => Promise<void>][]} */
export const choosing = [
  [
    'A task that names a backend goes there; labels choose among those that match; an unknown one is 422',
    async (t) => {
      const eu = await t.place({ script: works, backend: { labels: { region: 'eu', walk: 'choose' } } });
      const us = await t.place({ script: works, backend: { labels: { region: 'us', walk: 'choose' } } });
      const byName = await t.task({ backend: { name: us.name } });
      const byLabel = await t.task({ backend: { labels: { walk: 'choose', region: 'eu' } } });
      t.is('by name', (await t.ended(byName.id)).backendId, us.id);
      const { json } = await t.ask('GET', `/v1/tasks/${byLabel.id}?wait=10`, { expect: 200 });
      t.is('by labels', json.backendId, eu.id);
      await t.refuse('POST', '/v1/tasks', 422, null, {
        body: { type: 'demo', context: 1, backend: { id: 'bknd_0' } },
      });
      const found = await t.ask('GET', `/v1/tasks?backendId=${us.id}`, { expect: 200, quiet: true });
      t.is(
        'the filter backendId',
        found.json.data.map(({ id }) => id),
        [byName.id],
      );
    },
  ],
  [
    'The least loaded by `inFlight/weight` is chosen',
    async (t) => {
      const labels = { walk: 'weights' };
      const light = await t.place({ backend: { labels, weight: 1 } });
      const heavy = await t.place({ backend: { labels, weight: 3 } });
      for (let n = 0; n < 8; n += 1) {
        const { id } = await t.task({ backend: { labels } });
        await t.inState(id, 'DISPATCHED');
      }
      const spread = () => [light.orchestrator.spawns.length, heavy.orchestrator.spawns.length];
      const [first, second] = spread();
      t.is('of eight, one after another', [first, second], [2, 6]);
      // Faster than a picture of the fleet is renewed.
      for (let n = 0; n < 16; n += 1) await t.task({ backend: { labels } });
      await t.until('all are sent', () => spread()[0] + spread()[1] === 24);
      t.ok('of 24, many of them in quick succession', spread()[0] >= 4 && spread()[0] <= 8, spread());
      t.show(
        `Of eight tasks the backend with weight 1 got ${first}, the one with weight 3 got ${second}; sixteen more in quick succession were spread alike.`,
      );
    },
  ],
  [
    'Never over `maxConcurrency`: the rest waits as `backend_full` and goes out when a place is free',
    async (t) => {
      const place = await t.place({ backend: { maxConcurrency: 2 } });
      const { json } = await t.ask('POST', '/v1/tasks/batch', {
        body: {
          tasks: Array.from({ length: 5 }, () => ({
            type: 'demo',
            context: 1,
            backend: { id: place.id },
            workspaceId: 'full',
          })),
        },
        expect: 200,
        quiet: true,
      });
      const ids = json.data.map(({ task }) => task.id);
      await place.spawned(2);
      await t.until('the others are held', async () => {
        const list = (await t.admin('GET', '/v1/tasks?workspaceId=full&state=PENDING')).json.data;
        return list.length === 3 && list.every(({ waiting }) => waiting?.reason === 'backend_full');
      });
      await t.ask('GET', '/v1/tasks?workspaceId=full', { expect: 200, pick: ['id', 'state', 'waiting'] });
      t.is('spawn requests', place.orchestrator.spawns.length, 2);
      for (let n = 0; n < 5; n += 1) {
        const spawn = await place.spawned(n + 1);
        const inFlight = (await place.read()).inFlight;
        t.ok('inFlight', inFlight <= 2, inFlight);
        await t.callBack(place, spawn, { status: 'completed' }, { quiet: true });
      }
      for (const id of ids) t.is('end', (await t.ended(id)).state, 'COMPLETED');
    },
  ],
  [
    'Held tasks go out by priority',
    async (t) => {
      const place = await t.place({ backend: { maxConcurrency: 1 } });
      const first = await t.task({ backend: { id: place.id } });
      const spawned = await place.spawned();
      const idle = await t.task({ backend: { id: place.id }, priority: 5 });
      const usual = await t.task({ backend: { id: place.id } });
      const urgent = await t.task({ backend: { id: place.id }, priority: 1 });
      await t.waiting(urgent.id, 'backend_full');
      await t.waiting(idle.id, 'backend_full');
      await t.callBack(place, spawned, { status: 'completed' }, { quiet: true });
      for (let n = 2; n <= 4; n += 1)
        await t.callBack(place, await place.spawned(n), { status: 'completed' }, { quiet: true });
      t.is(
        'order',
        place.orchestrator.spawns.map(({ task }) => task.id),
        [first.id, urgent.id, usual.id, idle.id],
      );
      t.show(
        'Four tasks, one place: made in the order usual, idle (5), usual (3), urgent (1); sent in the order usual, urgent, usual, idle.',
      );
    },
  ],
  [
    '`draining`: nothing new, what runs ends in peace; `disabled` likewise; the detail says which',
    async (t) => {
      const place = await t.place();
      const runs = await t.task({ backend: { id: place.id } });
      const spawn = await place.spawned();
      await place.change({ mode: 'draining' });
      const next = await t.task({ backend: { id: place.id } });
      const held = await t.waiting(next.id, 'no_backend');
      t.ok('the detail', held.waiting.detail.includes('draining'), held.waiting.detail);
      await t.ask('GET', `/v1/tasks/${next.id}`, { expect: 200, pick: ['id', 'state', 'waiting'] });
      await t.callBack(place, spawn, { status: 'completed' }, { quiet: true });
      t.is('what ran has ended', (await t.ended(runs.id)).state, 'COMPLETED');
      await place.change({ mode: 'disabled' });
      await t.until('the detail says disabled', async () =>
        (await t.read(next.id)).waiting?.detail.includes('disabled'),
      );
      await place.change({ mode: 'active' });
      const startedMs = performance.now();
      await t.inState(next.id, 'DISPATCHED');
      t.ok('within 2 s', performance.now() - startedMs < 2000, performance.now() - startedMs);
    },
  ],
  [
    '`maxDispatchesPerMinute` is spread evenly, without bursts',
    async (t) => {
      const place = await t.place({ script: works, backend: { maxDispatchesPerMinute: 240 } });
      const tasks = Array.from({ length: 9 }, () => ({
        type: 'demo',
        context: 1,
        backend: { id: place.id },
      }));
      await t.admin('POST', '/v1/tasks/batch', { tasks });
      await place.spawned(9);
      const gaps = place.orchestrator.spawns
        .slice(1)
        .map(({ at }, index) => at - place.orchestrator.spawns[index].at);
      t.ok(
        'each 250 ms after the last',
        gaps.every((gap) => gap > 150),
        gaps,
      );
      t.ok('not slower than asked', gaps.reduce((sum, gap) => sum + gap, 0) < 8 * 250 + 1500, gaps);
      t.show('With 240 a minute nine tasks went out a quarter of a second apart.');
    },
  ],
];
