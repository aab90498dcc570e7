/** Section 4: cancel. */
const later = '2099-01-01T00:00:00Z';
const reason = 'no longer needed';

/** @type {[string, (t: any) => Promise<void>][]} */
export const cancelling = [
  [
    'Cancel before anything was sent: 200, CANCELLED, final, and nothing is sent any more',
    async (t) => {
      const place = await t.place();
      const task = await t.task({
        backend: { id: place.id },
        scheduledFor: new Date(Date.now() + 1200).toISOString(),
      });
      const { json } = await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 200 });
      t.is('state', json.state, 'CANCELLED');
      t.ok('finishedAt', json.finishedAt, json);
      await t.pause(2200);
      t.is('spawn requests', place.orchestrator.spawns.length, 0);
      const last = (await t.events(task.id)).at(-1);
      t.is('the last event', last.to, 'CANCELLED');
    },
  ],
  [
    'A reason is required',
    async (t) => {
      const task = await t.task({ scheduledFor: later });
      await t.refuse('POST', `/v1/tasks/${task.id}/cancel`, 422, null, { body: {}, pointers: ['/reason'] });
      for (const body of [
        { reason: '' },
        { reason: 7 },
        { reason: null },
        { reason, extra: 1 },
        { reason, giveUp: 'yes' },
      ])
        await t.refuse('POST', `/v1/tasks/${task.id}/cancel`, 422, null, { body, quiet: true });
      await t.refuse('POST', `/v1/tasks/${task.id}/cancel`, 415, null, { quiet: true });
      t.is('state', (await t.read(task.id)).state, 'PENDING');
    },
  ],
  [
    'Cancel while an agent may live: 202, the backend is told to kill, CANCELLED when it confirmed',
    async (t) => {
      const place = await t.place();
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      const { json } = await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202 });
      t.in('state', json.state, ['DISPATCHED', 'CANCELLED']);
      t.ok('cancelRequestedAt', json.cancelRequestedAt, json);
      t.is('end', (await t.inState(task.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
      const [kill] = place.orchestrator.kills;
      t.is('the kill', [kill.id, kill.body], ['session_1', { reason }]);
      t.showValue(
        'The kill request as the Orchestrator saw it, `POST /orchestrator/sessions/session_1/kill`:',
        kill.body,
      );
      t.is('error', (await t.read(task.id)).error, null);
    },
  ],
  [
    'A bare 2xx to the kill confirms nothing where there is a status route; `cancelling=true` finds the task',
    async (t) => {
      const place = await t.place();
      place.orchestrator.killAnswer = () => ({ status: 200, body: {} });
      const task = await t.task({ backend: { id: place.id }, workspaceId: 'stubborn' });
      await t.inState(task.id, 'DISPATCHED');
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202, quiet: true });
      await t.until('three kills', () => place.orchestrator.kills.length >= 3);
      t.is('not shown as cancelled', (await t.read(task.id)).state, 'DISPATCHED');
      const { json } = await t.ask('GET', '/v1/tasks?cancelling=true&workspaceId=stubborn', {
        expect: 200,
        pick: ['id', 'state', 'cancelRequestedAt'],
      });
      t.is(
        'found',
        json.data.map(({ id }) => id),
        [task.id],
      );
      const again = await t.ask('POST', `/v1/tasks/${task.id}/cancel`, {
        body: { reason: 'again' },
        expect: 202,
        quiet: true,
      });
      t.is('cancelled twice is still cancelling', again.json.state, 'DISPATCHED');
      place.orchestrator.sessions[0].status = 'killed';
      t.is('the status route confirms', (await t.inState(task.id, 'CANCELLED')).state, 'CANCELLED');
    },
  ],
  [
    'A 2xx counts where there is no status route',
    async (t) => {
      const place = await t.place();
      place.orchestrator.routes.status = false;
      place.orchestrator.killAnswer = () => ({ status: 202, body: {} });
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202 });
      t.is('end', (await t.inState(task.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
    },
  ],
  [
    '404 from kill and status, twice, confirms as well',
    async (t) => {
      const place = await t.place();
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      place.orchestrator.sessions.length = 0;
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202 });
      t.is('end', (await t.inState(task.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
      t.ok('asked twice', place.orchestrator.kills.length >= 2, place.orchestrator.kills.length);
    },
  ],
  [
    'A `killed` callback confirms',
    async (t) => {
      const place = await t.place();
      place.orchestrator.killAnswer = () => ({ status: 200, body: {} });
      const task = await t.task({ backend: { id: place.id } });
      const spawn = await place.spawned();
      await t.inState(task.id, 'DISPATCHED');
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202, quiet: true });
      await t.callBack(place, spawn, { status: 'killed' });
      t.is('end', (await t.inState(task.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
    },
  ],
  [
    'A result that arrives first wins over the cancel',
    async (t) => {
      const place = await t.place();
      place.orchestrator.killAnswer = () => ({ status: 200, body: {} });
      const task = await t.task({ backend: { id: place.id } });
      const spawn = await place.spawned();
      await t.inState(task.id, 'DISPATCHED');
      await t.ask('POST', `/v1/tasks/${task.id}/cancel`, { body: { reason }, expect: 202 });
      await t.callBack(place, spawn, { status: 'completed', result: 'just in time' });
      const { json } = await t.ask('GET', `/v1/tasks/${task.id}?wait=10`, { expect: 200 });
      t.is('end', [json.state, json.result], ['COMPLETED', 'just in time']);
    },
  ],
  [
    '`giveUp` ends it FAILED, `KILL_UNCONFIRMED`, and frees its slot; only an admin, only when cancelling',
    async (t) => {
      const place = await t.place({ backend: { maxConcurrency: 1 } });
      place.orchestrator.killAnswer = () => ({ status: 500, body: {} });
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      const path = `/v1/tasks/${task.id}/cancel`;
      await t.refuse('POST', path, 409, 'task_not_cancelling', { body: { reason, giveUp: true } });
      await t.ask('POST', path, { body: { reason }, expect: 202, quiet: true });
      const writer = await t.key({ scopes: ['tasks:write', 'tasks:read'] });
      await t.refuse('POST', path, 403, 'scope_missing', {
        body: { reason, giveUp: true },
        key: writer.secret,
        keyName: 'WRITER',
      });
      const { json } = await t.ask('POST', path, { body: { reason, giveUp: true }, expect: 200 });
      t.is('end', [json.state, json.error.code, json.error.retryable], ['FAILED', 'KILL_UNCONFIRMED', false]);
      t.is('inFlight', (await place.read()).inFlight, 0);
    },
  ],
  [
    'What has ended cannot be cancelled: 409 with the state',
    async (t) => {
      const task = await t.task({ scheduledFor: later });
      await t.admin('POST', `/v1/tasks/${task.id}/cancel`, { reason });
      const { json } = await t.refuse('POST', `/v1/tasks/${task.id}/cancel`, 409, 'task_already_ended', {
        body: { reason },
      });
      t.is('state', json.state, 'CANCELLED');
      const giveUp = await t.refuse('POST', `/v1/tasks/${task.id}/cancel`, 409, null, {
        body: { reason, giveUp: true },
        quiet: true,
      });
      t.is('state', giveUp.json.state, 'CANCELLED');
    },
  ],
  [
    'A task that was held, or surely not received, is cancelled at once',
    async (t) => {
      const held = await t.task({ backend: { labels: { nowhere: 'yes' } } });
      await t.waiting(held.id, 'no_backend');
      t.is(
        'held',
        (await t.ask('POST', `/v1/tasks/${held.id}/cancel`, { body: { reason }, expect: 200 })).json.state,
        'CANCELLED',
      );
      const place = await t.place({ spawn: () => ({ status: 408 }) });
      const later408 = await t.task({
        backend: { id: place.id },
        retry: { backoffBaseMs: 30_000, backoffMaxMs: 30_000 },
      });
      await t.waiting(later408.id, 'backing_off');
      t.is(
        'not received',
        (
          await t.ask('POST', `/v1/tasks/${later408.id}/cancel`, {
            body: { reason },
            expect: 200,
            quiet: true,
          })
        ).json.state,
        'CANCELLED',
      );
    },
  ],
];
