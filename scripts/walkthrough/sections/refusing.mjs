/** Section 6: later, rejected, misconfigured. */
import { rows } from '../page.mjs';
const completes = () => [{ status: 'completed' }];
const patient = { backoffBaseMs: 60_000, backoffMaxMs: 60_000 };
const secret = 'spawn-credential-0123456789';

/** @type {[string, (t: any) => Promise<void>][]} */
export const refusing = [
  [
    '429 and 503 hold the whole backend, for `Retry-After` in seconds or as a date',
    async (t) => {
      const date = () => new Date(Math.ceil((Date.now() + 2000) / 1000) * 1000).toUTCString();
      for (const [status, value, quiet] of rows([
        [429, () => '2', false],
        [503, date, true],
      ])) {
        let saidMs = 0;
        const place = await t.place({
          spawn: ({ nth }) => {
            if (nth > 1) return {};
            saidMs = Date.now();
            return { status, headers: { 'Retry-After': value() } };
          },
        });
        const first = await t.task({ backend: { id: place.id }, retry: { maxAttempts: 1, maxSends: 1 } });
        await place.spawned();
        await t.waiting(first.id, 'rate_limited');
        const second = await t.task({ backend: { id: place.id } });
        await t.waiting(second.id, 'rate_limited');
        await t.ask('GET', `/v1/tasks/${first.id}`, { expect: 200, pick: ['id', 'state', 'waiting'], quiet });
        const spawn = await place.spawned(2);
        t.ok(`${status}: nothing before`, spawn.at - saidMs >= 1900, spawn.at - saidMs);
        t.ok(`${status}: soon after`, spawn.at - saidMs < 5000, spawn.at - saidMs);
        for (const task of [first, second])
          t.is('goes out', (await t.inState(task.id, 'DISPATCHED', 'FAILED')).state, 'DISPATCHED');
        t.is(
          'one key a task: it is still the same attempt, and nothing is spent',
          new Set(place.orchestrator.spawns.map(({ headers }) => headers['idempotency-key'])).size,
          2,
        );
      }
    },
  ],
  [
    '`Retry-After` that is nonsense: our own backoff',
    async (t) => {
      for (const value of ['soon', '-1', '1e9', '']) {
        const place = await t.place({
          spawn: ({ nth }) => (nth === 1 ? { status: 429, headers: { 'Retry-After': value } } : {}),
        });
        const { id } = await t.task({ backend: { id: place.id } });
        t.is(
          `after ${JSON.stringify(value)}`,
          (await t.inState(id, 'DISPATCHED', 'FAILED')).state,
          'DISPATCHED',
        );
      }
      t.show(
        '`soon`, `-1`, `1e9` and an empty `Retry-After` are not followed: the task went out again after our own backoff.',
      );
    },
  ],
  [
    '408 and 425 hold that task only',
    async (t) => {
      const place = await t.place({
        spawn: ({ nth }) =>
          nth === 1 ? { status: 408 } : nth === 2 ? { status: 425, headers: { 'Retry-After': '60' } } : {},
      });
      const slow = await t.task({ backend: { id: place.id }, retry: patient });
      await t.waiting(slow.id, 'backing_off');
      const early = await t.task({ backend: { id: place.id } });
      await t.waiting(early.id, 'backing_off');
      const next = await t.task({ backend: { id: place.id } });
      await t.inState(next.id, 'DISPATCHED');
      t.is(
        'they wait',
        [(await t.read(slow.id)).state, (await t.read(early.id)).state],
        ['PENDING', 'PENDING'],
      );
      await t.ask('GET', `/v1/tasks/${slow.id}`, { expect: 200, pick: ['id', 'state', 'waiting'] });
    },
  ],
  [
    '400, 413, 415, 422 are rejections: FAILED, `BACKEND_REJECTED`; no secret that is echoed comes out',
    async (t) => {
      for (const status of [400, 413, 415, 422]) {
        const place = await t.place({
          backend: { auth: { type: 'bearer', secret } },
          spawn: ({ headers, body }) => ({
            status,
            body: { message: `bad: ${headers.authorization} ${body.callback_token}` },
          }),
        });
        const { id } = await t.task({ backend: { id: place.id } });
        const { json, text } = await t.ask('GET', `/v1/tasks/${id}?wait=10`, {
          expect: 200,
          quiet: status !== 422,
        });
        t.is(
          `${status}`,
          [json.state, json.error?.code, json.error?.retryable],
          ['FAILED', 'BACKEND_REJECTED', false],
        );
        const token = place.orchestrator.spawns[0].body.callback_token;
        const seen = [
          text,
          JSON.stringify(await t.events(id)),
          JSON.stringify(await t.attempts(id)),
          t.system.out(),
        ].join('\n');
        t.ok(
          'no secret',
          !seen.includes(secret) && !seen.includes(token),
          'the secret or the token was found',
        );
        t.is('sent once', place.orchestrator.spawns.length, 1);
      }
    },
  ],
  [
    '401, 403, 404, 405, 410, other 4xx and 3xx: misconfigured; pings do not raise it, a PATCH does at once',
    async (t) => {
      for (const status of [401, 403, 404, 405, 410, 418, 301, 307]) {
        const place = await t.place({
          script: completes,
          spawn: () => ({ status, headers: { Location: 'http://127.0.0.1:9/' } }),
        });
        const { id } = await t.task({ backend: { id: place.id }, retry: { maxAttempts: 1, maxSends: 1 } });
        const quiet = status !== 401;
        await t.waiting(id, 'backend_down');
        const { json } = await t.ask('GET', `/v1/backends/${place.id}`, {
          expect: 200,
          pick: ['id', 'health'],
          quiet,
        });
        t.is(`${status}`, [json.health.status, json.health.reason], ['down', 'misconfigured']);
        if (status === 401) {
          await t.pause(1500);
          t.is('good pings do not raise it', (await place.read()).health.reason, 'misconfigured');
        }
        const before = place.orchestrator.spawns.length;
        place.orchestrator.spawn = () => ({});
        const startedMs = performance.now();
        await t.ask('PATCH', `/v1/backends/${place.id}`, {
          body: { auth: { type: 'bearer', secret: 'the right one' } },
          expect: 200,
          pick: ['id', 'health'],
          quiet,
        });
        t.is('the task goes out', (await t.ended(id)).state, 'COMPLETED');
        t.ok('at once', performance.now() - startedMs < 4000, performance.now() - startedMs);
        t.is(
          'with the new credential',
          place.orchestrator.spawns[before].headers.authorization,
          'Bearer the right one',
        );
      }
    },
  ],
];
