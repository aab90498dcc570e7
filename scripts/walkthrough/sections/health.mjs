/** Section 5: health and removal. */
/** @type {[string, (t: any) => Promise<void>][]} */
export const health = [
  [
    'A backend that does not answer goes down, comes up again, and its history tells',
    async (t) => {
      const place = await t.place();
      await place.orchestrator.stop();
      const down = await t.until('it is down', async () => {
        const read = await place.read();
        return read.health.status === 'down' ? read : null;
      });
      t.is('why', down.health.reason, 'unreachable');
      t.ok('lastError', down.health.lastError?.length > 3, down.health);
      const task = await t.task({ backend: { id: place.id } });
      const held = await t.waiting(task.id, 'backend_down');
      t.is('costs no attempt', held.attempt, 0);
      await place.orchestrator.start();
      await t.inState(task.id, 'DISPATCHED');
      place.orchestrator.health = () => ({ status: 500 });
      const ill = await t.until('it is down', async () => {
        const read = await place.read();
        return read.health.status === 'down' ? read : null;
      });
      t.is('why', ill.health.reason, 'unhealthy');
      const { json } = await t.ask('GET', `/v1/backends/${place.id}/health?limit=5`, { expect: 200 });
      const times = json.data.map(({ at }) => at);
      t.is('newest first', times, times.toSorted().toReversed());
      t.ok('more than one', json.data.length > 1, json.data.length);
      const next = await t.ask('GET', `/v1/backends/${place.id}/health?limit=1`, {
        expect: 200,
        quiet: true,
      });
      t.ok('pages', next.json.data.length === 1 && typeof next.json.nextCursor === 'string', next.json);
    },
  ],
  [
    '`health.expect: "any"` and a path of its own',
    async (t) => {
      const orchestrator = await t.orchestrator();
      orchestrator.health = () => ({ status: 404 });
      const { json } = await t.ask('POST', '/v1/backends', {
        body: {
          name: 'any-answer',
          protocol: 'gateway',
          url: orchestrator.url,
          health: { path: '/health?deep=1', expect: 'any' },
        },
        expect: 201,
        pick: ['id', 'health'],
      });
      t.after(() => t.admin('DELETE', `/v1/backends/${json.id}?force=true`));
      await t.until(
        'up',
        async () => (await t.admin('GET', `/v1/backends/${json.id}`)).json.health.status === 'up',
      );
      t.ok(
        'the path was asked for',
        orchestrator.requests.some(({ url }) => url === '/health?deep=1'),
        orchestrator.requests.map(({ url }) => url),
      );
    },
  ],
  [
    'DELETE: 409 while tasks are in flight, 204 with `force`, which has them killed',
    async (t) => {
      const place = await t.place();
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      t.is('inFlight', (await place.read()).inFlight, 1);
      await t.refuse('DELETE', `/v1/backends/${place.id}`, 409, 'backend_in_use');
      const { text } = await t.ask('DELETE', `/v1/backends/${place.id}?force=true`, { expect: 204 });
      t.is('body', text, '');
      await t.refuse('GET', `/v1/backends/${place.id}`, 404, 'not_found');
      const again = await t.ask('POST', '/v1/backends', {
        body: { name: place.name, protocol: 'gateway', url: place.orchestrator.url },
        expect: 201,
        quiet: true,
      });
      t.after(() => t.admin('DELETE', `/v1/backends/${again.json.id}?force=true`));
      t.is('its tasks end', (await t.inState(task.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
      t.is('kills', place.orchestrator.kills.length, 1);
    },
  ],
  [
    'A forced delete of a backend that is gone: FAILED, `KILL_UNCONFIRMED`, after `GIVE_UP_AFTER_MS`',
    async (t) => {
      const place = await t.place();
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      await place.orchestrator.stop();
      await t.ask('DELETE', `/v1/backends/${place.id}?force=true`, { expect: 204 });
      const { json } = await t.ask('GET', `/v1/tasks/${task.id}?wait=30`, { expect: 200 });
      t.is('end', [json.state, json.error?.code], ['FAILED', 'KILL_UNCONFIRMED']);
    },
  ],
];
