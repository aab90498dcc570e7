import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { raiseFence } from '../../src/db/fences.js';
import { makeStops } from '../../src/workers/stop.js';
import { eventually } from '../support/eventually.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** An emergency stop: nothing made before it is sent after it, and everything that ran is told to die. */
describe('a stop', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  /** The fence's bell is rung by hand: each process renews, and says so. */
  async function raise(workspaceId: string | null = null) {
    const raising = raiseFence(scene.db, { workspaceId, actor: 'key_boss', reason: 'fire' });
    let isRaised = false;
    void raising.finally(() => (isRaised = true));
    await eventually(async () => {
      await scene.dispatch.lease.renew();
      expect(isRaised).toBe(true);
    });
    return raising;
  }
  const audit = () =>
    scene.rows(
      `SELECT actor, action, target, reason, detail->>'state' AS state FROM audit_log ORDER BY target`,
    );

  test('everything made before it is cancelled or told to die, with who, what, why and the state audited', async () => {
    const { stub } = await scene.open();
    const [pending, dispatched, running, done] = await scene.createMany(4);
    await scene.send(dispatched!, running!, done!);
    await scene.tell(running!, 1, { status: 'running' });
    await scene.tell(done!, 1, { status: 'completed' });
    await scene.fold([running!, done!]);
    expect(await raise()).toMatchObject({ matched: 3 });
    await scene.run(scene.duties.stop);
    expect(await scene.task(pending!)).toMatchObject({ state: 'CANCELLED', cancelReason: 'fire' });
    expect(await scene.task(done!)).toMatchObject({ state: 'COMPLETED' });
    await scene.kill();
    expect(stub.kills.map(({ reason }) => reason)).toEqual(['fire', 'fire']);
    for (const id of [dispatched!, running!])
      expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
    expect(await audit()).toEqual(
      [
        [pending, 'PENDING'],
        [dispatched, 'DISPATCHED'],
        [running, 'RUNNING'],
      ].map(([target, state]) => ({ actor: 'key_boss', action: 'task.kill', target, reason: 'fire', state })),
    );
  });

  test('what was made before it is not sent after it, though nobody has cancelled it yet', async () => {
    const { stub } = await scene.open();
    const before = await scene.create();
    await raise();
    await scene.send(before);
    expect(stub.spawns).toHaveLength(0);
    const after = await scene.create();
    await scene.send(after);
    expect(stub.spawns.map(({ taskId }) => taskId)).toEqual([after]);
  });

  test('what waits for its place in the rate when the stop is raised is not sent', async () => {
    const { stub } = await scene.open({}, { maxDispatchesPerMinute: 100 });
    const ids = await scene.createMany(2);
    const sending = scene.send(...ids);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    await raise();
    await sending;
    await scene.crank();
    expect(stub.spawns).toHaveLength(1);
    await scene.run(scene.duties.stop);
    await scene.kill();
    for (const id of ids) expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
  });

  test('the stop of one workspace leaves the others alone', async () => {
    await scene.open();
    const mine = await scene.createMany(3, { workspaceId: 'mine' });
    const others = await scene.createMany(2, { workspaceId: 'others' });
    const none = await scene.create();
    expect(await raise('mine')).toMatchObject({ matched: 3 });
    await scene.send(...mine, ...others, none);
    await scene.run(scene.duties.stop);
    for (const id of mine) expect(await scene.task(id)).toMatchObject({ state: 'CANCELLED' });
    for (const id of [...others, none]) expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED' });
  });

  test('a process that dies in the middle of a stop is followed by one that goes on, and audits nothing twice', async () => {
    await scene.open();
    const ids = await scene.createMany(1200);
    await raise();
    const abort = new AbortController();
    const dying = makeStops({
      db: scene.db,
      mover: {
        ...scene.mover,
        move: (request) => {
          abort.abort(); // after this batch it does no more
          return scene.mover.move(request);
        },
      },
    });
    await dying.runOnce(abort.signal);
    const early = await scene.rows(`SELECT 1 FROM tasks WHERE state = 'CANCELLED'`);
    expect(early.length).toBeGreaterThan(0);
    expect(early.length).toBeLessThan(ids.length);
    await scene.run(scene.duties.stop);
    expect(await scene.rows(`SELECT 1 FROM tasks WHERE state <> 'CANCELLED'`)).toEqual([]);
    const audited = await scene.rows<{ target: string }>('SELECT target FROM audit_log');
    expect(audited).toHaveLength(1200);
    expect(new Set(audited.map(({ target }) => target)).size).toBe(1200);
  });

  test('two stops at once are both known to whoever answers that it knows one', async () => {
    await scene.open();
    const ids = [await scene.create({ workspaceId: 'a' }), await scene.create({ workspaceId: 'b' })];
    await Promise.all([raise('a'), raise('b')]);
    for (const id of ids) {
      const task = await scene.task(id);
      expect(scene.dispatch.lease.isFenced(task)).toBe(true);
    }
  });
});
