/** Section 4: tasks are found and changed. */
import { rows } from '../page.mjs';
const later = '2099-01-01T00:00:00Z';
const works = () => [
  { status: 'running' },
  { status: 'progress', progress: { percent: 50, message: 'half' } },
  { status: 'completed', result: { answer: 42 } },
];

/** @type {[string, (t: any) => Promise<void>][]} */
export const changing = [
  [
    'Filters: state (any of them), type, workspace, reference, tag (all of them), created after and before',
    async (t) => {
      const w = 'filters';
      const a = await t.task({
        workspaceId: w,
        type: 'a',
        tags: ['x', 'y'],
        reference: 'r1',
        scheduledFor: later,
      });
      const b = await t.task({
        workspaceId: w,
        type: 'b',
        tags: ['x'],
        reference: 'r1',
        scheduledFor: later,
      });
      await t.pause(20);
      const c = await t.task({ workspaceId: w, type: 'b', tags: [], reference: 'r2', scheduledFor: later });
      await t.admin('POST', `/v1/tasks/${b.id}/cancel`, { reason: 'walk' });
      const found = async (query, expected, quiet = true) => {
        const { json } = await t.ask('GET', `/v1/tasks?workspaceId=${w}&${query}`, {
          expect: 200,
          pick: ['id', 'type', 'state'],
          quiet,
        });
        t.is(
          query,
          json.data.map(({ id }) => id),
          expected.map(({ id }) => id),
        );
      };
      await found('state=CANCELLED', [b], false);
      await found('state=CANCELLED&state=PENDING', [c, b, a], false);
      await found('type=b', [c, b]);
      await found('reference=r1', [b, a]);
      await found('tag=x', [b, a]);
      await found('tag=x&tag=y', [a], false);
      await found(`createdAfter=${b.createdAt}`, [c]);
      await found(`createdBefore=${c.createdAt}`, [b, a]);
      await found('state=RUNNING', []);
      await found('cancelling=true', []);
      await found('cancelling=false', [c, b, a]);
      await found('backendId=bknd_0', []);
      await found('type=b&state=PENDING&reference=r2', [c]);
    },
  ],
  [
    'PATCH changes a task while nothing was sent',
    async (t) => {
      const task = await t.task({ scheduledFor: later, workspaceId: 'patch' });
      const body = {
        priority: 1,
        scheduledFor: '2098-01-01T00:00:00Z',
        deadlineAt: '2098-06-01T00:00:00Z',
        tags: ['new'],
        metadata: { big: 1 },
        backend: { labels: { region: 'eu' } },
      };
      const raw = JSON.stringify(body).replace('"big":1', '"big":9007199254740993');
      const { json, text } = await t.ask('PATCH', `/v1/tasks/${task.id}`, {
        raw,
        expect: 200,
        pick: ['id', 'priority', 'scheduledFor', 'deadlineAt', 'tags', 'backend', 'state'],
      });
      t.is(
        'changed',
        [json.priority, json.scheduledFor, json.deadlineAt, json.tags, json.backend],
        [1, '2098-01-01T00:00:00.000Z', '2098-06-01T00:00:00.000Z', ['new'], { labels: { region: 'eu' } }],
      );
      t.ok('metadata keeps its bytes', text.includes('{"big":9007199254740993}'), text);
      for (const [change, pointer] of rows([
        [{ priority: 0 }, '/priority'],
        [{ state: 'FAILED' }, '/state'],
        [{ context: {} }, '/context'],
        [{ type: 'x' }, '/type'],
        [{ tags: Array(51).fill('x') }, '/tags'],
      ])) {
        await t.refuse('PATCH', `/v1/tasks/${task.id}`, 422, null, {
          body: change,
          pointers: [pointer],
          quiet: true,
        });
      }
      const same = await t.ask('PATCH', `/v1/tasks/${task.id}`, { body: {}, expect: 200, quiet: true });
      t.is('an empty change changes nothing', same.json.priority, 1);
    },
  ],
  [
    'PATCH after it was sent is 409 with the state',
    async (t) => {
      const place = await t.place();
      const task = await t.task({ backend: { id: place.id } });
      await t.inState(task.id, 'DISPATCHED');
      const { json } = await t.refuse('PATCH', `/v1/tasks/${task.id}`, 409, 'task_already_sent', {
        body: { priority: 1 },
      });
      t.is('state', json.state, 'DISPATCHED');
      await t.callBack(place, place.orchestrator.spawns[0], { status: 'completed' }, { quiet: true });
      await t.ended(task.id);
      const over = await t.refuse('PATCH', `/v1/tasks/${task.id}`, 409, 'task_already_ended', {
        body: { priority: 1 },
      });
      t.is('state', over.json.state, 'COMPLETED');
    },
  ],
  [
    'PATCH moves a held task to a backend that is there, and it goes out',
    async (t) => {
      const place = await t.place({ script: works });
      const task = await t.task({ backend: { labels: { nowhere: 'at-all' } } });
      const held = await t.waiting(task.id, 'no_backend');
      t.ok('the detail says why', held.waiting.detail.includes('nowhere'), held.waiting.detail);
      await t.ask('PATCH', `/v1/tasks/${task.id}`, { body: { backend: { id: place.id } }, expect: 200 });
      t.is('state', (await t.ended(task.id)).state, 'COMPLETED');
    },
  ],
  [
    '`scheduledFor` in the future is waited for',
    async (t) => {
      const place = await t.place({ script: works });
      const at = new Date(Date.now() + 1500);
      const task = await t.task({ backend: { id: place.id }, scheduledFor: at.toISOString() });
      t.is('waiting', [task.waiting.reason, task.waiting.until], ['scheduled', at.toISOString()]);
      const spawn = await place.spawned();
      t.ok('not before its time', spawn.at >= at.getTime(), spawn.at - at.getTime());
      t.ok('soon after', spawn.at - at.getTime() < 2500, spawn.at - at.getTime());
      const { json } = await t.ask('GET', `/v1/tasks/${task.id}?wait=10`, { expect: 200 });
      t.is('state', json.state, 'COMPLETED');
    },
  ],
];
