/** Section 4: tasks are made and waited for. */
import { rows } from '../page.mjs';

const later = '2099-01-01T00:00:00Z';
const members = [
  'id',
  'type',
  'title',
  'reference',
  'state',
  'priority',
  'workspaceId',
  'backend',
  'backendId',
  'externalId',
  'attempt',
  'context',
  'tags',
  'metadata',
  'timeouts',
  'retry',
  'progress',
  'result',
  'error',
  'waiting',
  'needs',
  'retryOf',
  'cancelRequestedAt',
  'scheduledFor',
  'deadlineAt',
  'createdAt',
  'dispatchedAt',
  'startedAt',
  'finishedAt',
  'updatedAt',
];
const works = () => [
  { status: 'running' },
  { status: 'progress', progress: { percent: 50, message: 'half' } },
  { status: 'completed', result: { answer: 42 } },
];
const timeShape = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** @type {[string, (t: any) => Promise<void>][]} */
export const tasks = [
  [
    'A task is made: 201, `Location`, every member there',
    async (t) => {
      const { json, headers } = await t.ask('POST', '/v1/tasks', {
        body: {
          type: 'report.make',
          title: 'Report of March',
          reference: 'order-4711',
          context: { month: 3 },
          workspaceId: 'acme',
          tags: ['march'],
          metadata: { team: 'a' },
          scheduledFor: later,
        },
        expect: 201,
        pick: 'all',
        heads: ['location'],
      });
      t.is('Location', headers.location, `/v1/tasks/${json.id}`);
      t.is(
        'members',
        members.filter((name) => !(name in json)),
        [],
      );
      t.ok('id', /^task_[A-Za-z0-9_]+$/.test(json.id), json.id);
      t.is('state', json.state, 'PENDING');
      t.is('priority', json.priority, 3);
      t.is(
        'waiting',
        [json.waiting.reason, Object.keys(json.waiting).toSorted()],
        ['scheduled', ['detail', 'reason', 'until']],
      );
      t.ok(
        'times',
        [json.createdAt, json.updatedAt, json.scheduledFor].every((at) => timeShape.test(at)),
        json.createdAt,
      );
      t.is('scheduledFor', json.scheduledFor, '2099-01-01T00:00:00.000Z');
      t.is('defaults of timeouts', json.timeouts, {
        dispatchMs: 20_000,
        startMs: 900_000,
        heartbeatMs: 0,
        runMs: 86_400_000,
      });
      t.is('defaults of retry', json.retry, {
        maxAttempts: 3,
        maxSends: 8,
        backoffBaseMs: 100,
        backoffMaxMs: 800,
        onUnknownOutcome: 'fail',
      });
      const read = await t.ask('GET', `/v1/tasks/${json.id}`, { expect: 200, quiet: true });
      t.is('the same when read', read.json, json);
    },
  ],
  [
    'It goes to a backend, and `?wait=` answers when it has ended',
    async (t) => {
      const place = await t.place({ script: works });
      const task = await t.task({ backend: { id: place.id } });
      const { json, ms } = await t.ask('GET', `/v1/tasks/${task.id}?wait=30`, { expect: 200 });
      t.is('state', json.state, 'COMPLETED');
      t.ok('soon', ms < 5000, ms);
      t.is('result', json.result, { answer: 42 });
      t.is('progress', json.progress, { percent: 50, message: 'half' });
      t.is(
        'attempt, backend, externalId',
        [json.attempt, json.backendId, json.externalId],
        [1, place.id, 'session_1'],
      );
      t.ok(
        'times',
        [json.dispatchedAt, json.startedAt, json.finishedAt].every((at) => timeShape.test(at)),
        json,
      );
    },
  ],
  [
    '`?wait=` answers when the seconds are over, and 0 at once',
    async (t) => {
      const task = await t.task({ scheduledFor: later });
      const { ms, json } = await t.ask('GET', `/v1/tasks/${task.id}?wait=1`, { expect: 200 });
      t.ok('a second', ms >= 900 && ms < 2500, ms);
      t.is('state', json.state, 'PENDING');
      const zero = await t.ask('GET', `/v1/tasks/${task.id}?wait=0`, { expect: 200, quiet: true });
      t.ok('at once', zero.ms < 500, zero.ms);
    },
  ],
  [
    'A task that nobody has is 404 on every route',
    async (t) => {
      for (const [method, path, body] of rows([
        ['GET', ''],
        ['GET', '/events'],
        ['GET', '/attempts'],
        ['GET', '/stream'],
        ['PATCH', '', { priority: 1 }],
        ['POST', '/cancel', { reason: 'x' }],
        ['POST', '/retry'],
      ])) {
        await t.refuse(method, `/v1/tasks/task_0${path}`, 404, 'not_found', {
          body,
          quiet: path !== '' || method !== 'GET',
        });
      }
    },
  ],
];
