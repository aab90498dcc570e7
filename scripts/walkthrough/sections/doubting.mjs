/** Section 6: outcomes that nobody knows, and agents that are lost. */
import { rows } from '../page.mjs';
const completes = () => [{ status: 'completed' }];
const outcomes = async (t, id) =>
  (await t.attempts(id)).map(({ number, outcome, sends }) => [number, outcome, sends]);

/** @type {[string, (t: any) => Promise<void>][]} */
export const doubting = [
  [
    'Other 5xx, a reset, a cut answer, a timeout: unknown; the same backend, the same key, until `maxSends`',
    async (t) => {
      for (const [what, answer] of rows([
        ['500', { status: 500 }],
        ['reset', { fault: 'reset' }],
        ['hang', { fault: 'hang' }],
      ])) {
        const place = await t.place({ spawn: () => answer });
        place.orchestrator.routes.list = false;
        const { id } = await t.task({
          backend: { id: place.id },
          timeouts: { dispatchMs: 400 },
          retry: { maxSends: 2, backoffBaseMs: 100, backoffMaxMs: 200 },
        });
        const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, {
          expect: 200,
          quiet: what !== 'hang',
        });
        t.is(what, [json.state, json.error?.code], ['FAILED', 'DISPATCH_OUTCOME_UNKNOWN']);
        t.is(`${what}: sends`, place.orchestrator.spawns.length, 2);
        t.is(
          `${what}: one key`,
          new Set(place.orchestrator.spawns.map(({ headers }) => headers['idempotency-key'])).size,
          1,
        );
        t.is(`${what}: one attempt`, await outcomes(t, id), [[1, 'unknown', 2]]);
      }
    },
  ],
  [
    'A cut answer to a 2xx still accepts',
    async (t) => {
      const place = await t.place({
        spawn: () => ({ status: 201, body: { sessionId: 'x' }, fault: 'cut', starts: true }),
      });
      const { id } = await t.task({ backend: { id: place.id } });
      const task = await t.inState(id, 'DISPATCHED', 'FAILED');
      t.is('state', task.state, 'DISPATCHED');
      t.is('sent once', place.orchestrator.spawns.length, 1);
      t.show('The head said 201, the body broke off: any 2xx accepts, also one whose body cannot be read.');
    },
  ],
  [
    'After an unknown send the backend is asked what it knows: its list settles it without another send',
    async (t) => {
      const place = await t.place({
        spawn: ({ nth }) => (nth === 1 ? { fault: 'reset', starts: true } : { status: 500 }),
      });
      const { id } = await t.task({ backend: { id: place.id } });
      const task = await t.inState(id, 'DISPATCHED', 'RUNNING', 'FAILED');
      t.is('found', [task.state === 'FAILED', task.externalId], [false, 'session_1']);
      t.is('sent once', place.orchestrator.spawns.length, 1);
      t.ok(
        'the list was asked',
        place.orchestrator.requests.some(({ url }) => url.includes(`taskId=${id}`)),
        place.orchestrator.requests.length,
      );
      t.show(
        'The connection was reset after the request; `GET /orchestrator/sessions?taskId=…` showed the session, and nothing was sent again.',
      );
    },
  ],
  [
    'After an unknown send a refusal settles nothing',
    async (t) => {
      const place = await t.place({
        spawn: ({ nth }) => (nth === 1 ? { status: 500 } : nth === 2 ? { status: 422 } : {}),
        script: completes,
      });
      place.orchestrator.routes.list = false;
      const { id } = await t.task({ backend: { id: place.id } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=20`, { expect: 200 });
      t.is('end', [json.state, json.attempt], ['COMPLETED', 1]);
      t.is('sends', place.orchestrator.spawns.length, 3);
    },
  ],
  [
    '`confirming_outcome` is shown while nobody knows; `failover` then tries another backend',
    async (t) => {
      const labels = { walk: 'unknown' };
      const bad = await t.place({ backend: { labels, weight: 9 }, spawn: () => ({ status: 500 }) });
      const good = await t.place({ backend: { labels }, script: completes });
      const { id } = await t.task({
        backend: { labels },
        retry: { maxSends: 2, backoffBaseMs: 700, backoffMaxMs: 700, onUnknownOutcome: 'failover' },
      });
      await t.waiting(id, 'confirming_outcome');
      await t.ask('GET', `/v1/tasks/${id}`, { expect: 200, pick: ['id', 'state', 'waiting'] });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=30`, { expect: 200 });
      t.is('end', [json.state, json.backendId, json.attempt], ['COMPLETED', good.id, 2]);
      const keys = new Set(
        [...bad.orchestrator.spawns, ...good.orchestrator.spawns].map(
          ({ headers }) => headers['idempotency-key'],
        ),
      );
      t.is('a new attempt, a new key', keys.size, 2);
    },
  ],
  [
    'A backend without status, list and kill does as well',
    async (t) => {
      const place = await t.place({
        script: () => [
          { status: 'running', afterMs: 20 },
          { status: 'completed', afterMs: 3000 },
        ],
      });
      place.orchestrator.routes = { status: false, list: false, kill: false };
      const { id } = await t.task({ backend: { id: place.id } });
      const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=30`, { expect: 200 });
      t.is('not taken for lost in its silence', json.state, 'COMPLETED');
    },
  ],
  [
    'An agent that the backend has lost: a new attempt; without attempts left FAILED, `LOST_BY_BACKEND`',
    async (t) => {
      for (const maxAttempts of [2, 1]) {
        const place = await t.place({
          script: ({ nth }) => (nth === 1 ? [{ status: 'running' }] : completes()),
        });
        const { id } = await t.task({ backend: { id: place.id }, retry: { maxAttempts } });
        await t.inState(id, 'RUNNING');
        place.orchestrator.sessions.length = 0;
        const { json } = await t.ask('GET', `/v1/tasks/${id}?wait=30`, { expect: 200 });
        t.is(
          `with ${maxAttempts}`,
          [json.state, json.attempt, json.error?.code],
          maxAttempts === 2 ? ['COMPLETED', 2, undefined] : ['FAILED', 1, 'LOST_BY_BACKEND'],
        );
      }
    },
  ],
];
