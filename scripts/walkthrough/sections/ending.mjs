/** Section 4: retry and clocks. */
const later = '2099-01-01T00:00:00Z';
const reason = 'no longer needed';

/** @type {[string, (t: any) => Promise<void>][]} */
export const ending = [
  [
    'Retry makes a new task of a CANCELLED or FAILED one, with the same bytes',
    async (t) => {
      const raw = `{"type":"demo","title":"T","reference":"r","context":{"n":1e400},"priority":2,"workspaceId":"again","tags":["a"],"metadata":{"k":9007199254740993},"backend":{"labels":{"a":"b"}},"timeouts":{"runMs":7},"retry":{"maxSends":2},"scheduledFor":"${later}","deadlineAt":"2099-02-01T00:00:00Z"}`;
      const first = await t.admin('POST', '/v1/tasks', raw);
      const { id } = first.json;
      await t.refuse('POST', `/v1/tasks/${id}/retry`, 409, 'task_not_ended');
      await t.admin('POST', `/v1/tasks/${id}/cancel`, { reason });
      const { json, headers, text } = await t.ask('POST', `/v1/tasks/${id}/retry`, {
        expect: 201,
        heads: ['location'],
      });
      t.is('Location', headers.location, `/v1/tasks/${json.id}`);
      t.is('retryOf', json.retryOf, id);
      t.ok('a new task', json.id !== id);
      for (const name of [
        'type',
        'title',
        'reference',
        'priority',
        'workspaceId',
        'backend',
        'tags',
        'timeouts',
        'retry',
      ])
        t.is(name, json[name], first.json[name]);
      t.ok(
        'payloads',
        text.includes('"context":{"n":1e400}') && text.includes('{"k":9007199254740993}'),
        text,
      );
      t.is(
        'not its schedule, but the deadline that is not over',
        [json.scheduledFor, json.deadlineAt],
        [null, '2099-02-01T00:00:00.000Z'],
      );
      await t.refuse('POST', `/v1/tasks/${id}/retry`, 409, 'retry_not_ended');
      await t.admin('POST', `/v1/tasks/${json.id}/cancel`, { reason });
      await t.ask('POST', `/v1/tasks/${id}/retry`, { expect: 201, quiet: true });
      await t.refuse('POST', `/v1/tasks/${id}/retry`, 409, null, { body: {}, quiet: true });
      await t.refuse('POST', `/v1/tasks/${id}/retry`, 422, null, { body: { priority: 1 }, quiet: true });
    },
  ],
  [
    'A COMPLETED task cannot be retried: 409',
    async (t) => {
      const place = await t.place({ script: () => [{ status: 'completed' }] });
      const { id } = await t.task({ backend: { id: place.id } });
      await t.ended(id);
      const { json } = await t.refuse('POST', `/v1/tasks/${id}/retry`, 409, 'task_not_ended');
      t.is('state', json.state, 'COMPLETED');
    },
  ],
  [
    '`startMs`: dispatched and never running is FAILED, `START_TIMEOUT`, and the agent is told to kill',
    async (t) => {
      const place = await t.place();
      const { id } = await t.task({ backend: { id: place.id }, timeouts: { startMs: 700 } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.error?.code], ['FAILED', 'START_TIMEOUT']);
      await t.until('the kill', () => place.orchestrator.kills.length > 0);
    },
  ],
  [
    '`heartbeatMs`: running and silent is FAILED, `HEARTBEAT_TIMEOUT`; every callback is a sign of life',
    async (t) => {
      const beats = Array.from({ length: 6 }, () => ({
        status: 'progress',
        progress: { percent: 1 },
        afterMs: 400,
      }));
      const place = await t.place({ script: () => [{ status: 'running' }, ...beats] });
      const startedMs = performance.now();
      const { id } = await t.task({ backend: { id: place.id }, timeouts: { heartbeatMs: 1000 } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.error?.code], ['FAILED', 'HEARTBEAT_TIMEOUT']);
      t.ok('not while it called', performance.now() - startedMs > 3000, performance.now() - startedMs);
      await t.until('the kill', () => place.orchestrator.kills.length > 0);
    },
  ],
  [
    '`runMs`: running too long is FAILED, `RUN_TIMEOUT`',
    async (t) => {
      const place = await t.place({ script: () => [{ status: 'running' }] });
      const { id } = await t.task({ backend: { id: place.id }, timeouts: { runMs: 800 } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.error?.code], ['FAILED', 'RUN_TIMEOUT']);
      await t.until('the kill', () => place.orchestrator.kills.length > 0);
    },
  ],
  [
    '`deadlineAt` ends a task in any state, `DEADLINE_EXCEEDED`',
    async (t) => {
      const place = await t.place({ script: () => [{ status: 'running' }] });
      const deadlineAt = new Date(Date.now() + 1500).toISOString();
      const waits = await t.task({ backend: { labels: { nowhere: 'ever' } }, deadlineAt });
      const runs = await t.task({ backend: { id: place.id }, deadlineAt });
      for (const { id } of [waits, runs]) {
        const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, {
          expect: 200,
          quiet: id === waits.id,
        });
        t.is('end', [json.state, json.error?.code], ['FAILED', 'DEADLINE_EXCEEDED']);
      }
      const { json } = await t.admin('POST', `/v1/tasks/${runs.id}/retry`);
      t.is('a retry has no deadline that is over', json.deadlineAt, null);
      await t.admin('POST', `/v1/tasks/${json.id}/cancel`, { reason });
    },
  ],
  [
    'When a clock runs out the backend is asked once, and an end that it reports is taken',
    async (t) => {
      const place = await t.place();
      const { id } = await t.task({ backend: { id: place.id }, timeouts: { startMs: 1000 } });
      const spawn = await place.spawned();
      await t.inState(id, 'DISPATCHED');
      const session = place.orchestrator.sessions.find((one) => one.id === spawn.session);
      Object.assign(session, { status: 'completed', result: { told: 'when asked' } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.result], ['COMPLETED', { told: 'when asked' }]);
    },
  ],
];
