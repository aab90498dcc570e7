/** Section 6: what an Orchestrator is sent, and what accepts. */
const odd =
  '{"huge":1e400,"long":9007199254740993,"nul":"\\u0000","twice":1,"twice":2,"__proto__":{"polluted":true}, "spaced" : [ 1 , 2 ],"half":"\\ud800"}';
const completes = () => [{ status: 'completed' }];
const patient = { backoffBaseMs: 60_000, backoffMaxMs: 60_000 };
const secret = 'spawn-credential-0123456789';

/** @type {[string, (t: any) => Promise<void>][]} */
export const spawning = [
  [
    'The spawn request, header by header and byte by byte',
    async (t) => {
      const place = await t.place({ backend: { auth: { type: 'bearer', secret } } });
      const raw = `{"type":"demo","title":"T","reference":"r-1","priority":2,"workspaceId":"acme","tags":["a","b"],"backend":{"id":"${place.id}"},"deadlineAt":"2099-01-01T00:00:00Z","metadata":{"m":9007199254740993},"context":${odd}}`;
      const made = (await t.admin('POST', '/v1/tasks', raw)).json;
      const { headers, raw: text, body, rawHeaders } = await place.spawned();
      t.showValue(
        '`POST /orchestrator/sessions/spawn`, its body:',
        text.replace(/"callback_token":"[^"]+"/, '"callback_token":"…"'),
      );
      t.is('Content-Type', headers['content-type'], 'application/json');
      t.is('Authorization', headers.authorization, `Bearer ${secret}`);
      t.is('X-API-Key', headers['x-api-key'], undefined);
      t.ok(
        'Idempotency-Key',
        /^[\x21-\x7e]{1,255}$/.test(headers['idempotency-key'] ?? ''),
        headers['idempotency-key'],
      );
      t.ok(
        'traceparent',
        /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(headers.traceparent ?? ''),
        headers.traceparent,
      );
      t.ok(
        'no header of a browser or of others',
        !rawHeaders.some((name) => /^(cookie|x-request-id)$/i.test(name)),
        rawHeaders,
      );
      t.is('members', Object.keys(body), ['task', 'context', 'callback_url', 'callback_token']);
      t.is(
        'members of task',
        Object.keys(body.task).toSorted(),
        [
          'id',
          'attempt',
          'type',
          'title',
          'reference',
          'priority',
          'workspaceId',
          'tags',
          'metadata',
          'createdAt',
          'deadlineAt',
        ].toSorted(),
      );
      const { metadata: _, ...plain } = body.task;
      t.is('task', plain, {
        id: made.id,
        attempt: 1,
        type: 'demo',
        title: 'T',
        reference: 'r-1',
        priority: 2,
        workspaceId: 'acme',
        tags: ['a', 'b'],
        createdAt: made.createdAt,
        deadlineAt: '2099-01-01T00:00:00.000Z',
      });
      t.ok('context, the same bytes', text.includes(`"context":${odd},"callback_url"`), text);
      t.ok('metadata, the same bytes', text.includes('"metadata":{"m":9007199254740993}'), text);
      t.ok('callback_url', body.callback_url.startsWith(`${t.system.url}/v1/`), body.callback_url);
      t.ok(
        'callback_token',
        typeof body.callback_token === 'string' && body.callback_token.length >= 32,
        body.callback_token,
      );
    },
  ],
  [
    '`apiKey` is sent as `X-API-Key`; `none` sends nothing; what is not given is null',
    async (t) => {
      const withKey = await t.place({ backend: { auth: { type: 'apiKey', secret } } });
      const without = await t.place();
      await t.task({ backend: { id: withKey.id } });
      await t.task({ backend: { id: without.id } });
      const [a, b] = [await withKey.spawned(), await without.spawned()];
      t.is('X-API-Key', [a.headers['x-api-key'], a.headers.authorization], [secret, undefined]);
      t.is('none', [b.headers['x-api-key'], b.headers.authorization], [undefined, undefined]);
      const { title, reference, priority, workspaceId, tags, deadlineAt } = b.task;
      t.is(
        'what was not given',
        [title, reference, priority, workspaceId, tags, deadlineAt],
        [null, null, 3, null, [], null],
      );
      t.showValue('The `task` of a request with nothing but a type and a context:', b.task);
    },
  ],
  [
    'Any 2xx accepts; the session id is the first of `sessionId, session_id, id, agentId`',
    async (t) => {
      const bodies = [
        [{ agentId: 'a', id: 'i', session_id: 's', sessionId: 'S' }, 'S'],
        [{ agentId: 'a', id: 'i', session_id: 's' }, 's'],
        [{ agentId: 'a', id: 'i' }, 'i'],
        [{ agentId: 'a' }, 'a'],
        [{ id: 4711 }, '4711'],
        [{}, null],
        ['not json', null],
        ['', null],
      ];
      const place = await t.place({
        spawn: ({ nth }) => ({
          status: [200, 201, 202, 200, 200, 201, 200, 299][nth - 1],
          body: bodies[nth - 1][0],
        }),
      });
      for (const [body, expected] of bodies) {
        const { id } = await t.task({ backend: { id: place.id } });
        const task = await t.inState(id, 'DISPATCHED', 'FAILED');
        t.is(
          `session id of ${JSON.stringify(body)}`,
          [task.state, task.externalId],
          ['DISPATCHED', expected],
        );
      }
      t.show(
        'Eight answers, among them `{"agentId":"a","id":"i"}` (session `i`), a text that is no JSON and an empty body (no session id): each is an acceptance.',
      );
    },
  ],
  [
    '409 with a session id had already accepted',
    async (t) => {
      const place = await t.place({
        spawn: () => ({ status: 409, body: { error: 'exists', sessionId: 'old-one' } }),
      });
      const { id } = await t.task({ backend: { id: place.id } });
      const task = await t.inState(id, 'DISPATCHED', 'FAILED');
      t.is('accepted', [task.state, task.externalId], ['DISPATCHED', 'old-one']);
      await t.ask('GET', `/v1/tasks/${id}`, { expect: 200 });
    },
  ],
  [
    '409 without one is unknown: it is sent again with the same key and bytes',
    async (t) => {
      const place = await t.place({
        spawn: ({ nth }) => (nth < 3 ? { status: 409, body: { error: 'conflict' } } : {}),
        script: completes,
      });
      place.orchestrator.routes.list = false;
      const { id } = await t.task({ backend: { id: place.id } });
      t.is('end', (await t.ended(id)).state, 'COMPLETED');
      const { spawns } = place.orchestrator;
      t.is('sends', spawns.length, 3);
      t.is('one key', new Set(spawns.map(({ headers }) => headers['idempotency-key'])).size, 1);
      t.is('the same bytes', new Set(spawns.map(({ raw }) => raw)).size, 1);
      await t.ask('GET', `/v1/tasks/${id}/attempts`, { expect: 200 });
    },
  ],
  [
    'Not received: another backend is tried at once',
    async (t) => {
      const labels = { walk: 'failover' };
      const gone = await t.place({ backend: { labels, weight: 9 } });
      const there = await t.place({ backend: { labels }, script: completes });
      await gone.orchestrator.stop();
      const { id } = await t.task({ backend: { labels }, retry: patient });
      const { json, ms } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.backendId], ['COMPLETED', there.id]);
      t.ok('at once', ms < 3000, ms);
      const attempts = await t.attempts(id);
      t.ok(
        'the first was not received, or the backend was seen down before',
        attempts.length === 1 || attempts[0].outcome === 'not_received',
        attempts,
      );
    },
  ],
  [
    '`HEALTH_FALL` sends in a row that were not received mark it down; nothing is spent',
    async (t) => {
      const place = await t.place();
      await place.orchestrator.stop();
      const { id } = await t.task({ backend: { id: place.id }, retry: { maxAttempts: 1 } });
      const held = await t.waiting(id, 'backend_down');
      t.is('still waiting', held.state, 'PENDING');
      await place.orchestrator.start();
      t.is('and goes out when it is back', (await t.inState(id, 'DISPATCHED', 'FAILED')).state, 'DISPATCHED');
    },
  ],
];
