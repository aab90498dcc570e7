import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { makeFleetView } from '../../src/workers/fleet.js';
import { eventually } from '../support/eventually.js';
import type { StubOrchestrator } from '../support/orchestrator.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** Processes that die or pause: who takes their work up, and what a late word of them may do. */
describe('crash and pause', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  const sentFor = (stub: StubOrchestrator, id: string) => stub.spawns.filter(({ taskId }) => taskId === id);

  /** A task that a process has claimed and is sending when the process dies; the backend answers never. */
  async function dieWhileSending(request: Parameters<Scenario['create']>[0] = {}) {
    const { stub, id: backendId } = await scene.open({
      behave: ({ nth }) => (nth === 1 ? { fault: 'hang' } : {}),
      routes: { list: false },
    });
    const id = await scene.create(request);
    const dead = await scene.openDispatcher();
    await dead.look([id]);
    await eventually(() => expect(stub.spawns[0]?.complete).toBe(true));
    await scene.die(dead);
    return { stub, backendId, id, dead };
  }

  test('an attempt whose process died while it was sent is taken up with the same key and the same bytes', async () => {
    const { stub, id } = await dieWhileSending();
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
    const sends = sentFor(stub, id);
    expect(sends).toHaveLength(2);
    expect(sends[1]?.bodyText).toBe(sends[0]?.bodyText);
    expect(sends[1]?.idempotencyKey).toBe(sends[0]?.idempotencyKey);
    expect(await scene.attempts(id)).toMatchObject([{ number: 1, sends: 2, outcome: 'accepted' }]);
  });

  test('the last attempt is taken up like any other and spends none', async () => {
    const { id } = await dieWhileSending({ retry: { maxAttempts: 1 } });
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1, spent: 0 });
  });

  test('one that died between its claim and the send leaves an attempt that is taken up', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    const dead = await scene.openDispatcher({ claimsOnly: true });
    await dead.look([id]);
    await eventually(() => expect(dead.stuck()).toBe(1));
    const [claimed] = await scene.attempts(id);
    expect(claimed).toMatchObject({ number: 1, outcome: null, ended_at: null });
    await scene.send(id);
    expect(stub.spawns).toHaveLength(0);
    await scene.die(dead);
    await scene.drive(id);
    expect(stub.spawns).toMatchObject([{ idempotencyKey: claimed?.idempotency_key }]);
    expect(await scene.attempts(id)).toHaveLength(1);
  });

  test('an agent that was started before the crash is found by asking, and not started again', async () => {
    const { stub } = await scene.open({
      behave: ({ nth }) => (nth === 1 ? { status: 201, fault: 'hang' } : {}),
    });
    const id = await scene.create();
    const dead = await scene.openDispatcher();
    await dead.look([id]);
    await eventually(() => expect(stub.sessions).toHaveLength(1));
    await scene.die(dead);
    expect(await scene.drive(id)).toMatchObject({ externalId: stub.sessions[0]?.id });
    expect(stub.spawns).toHaveLength(1);
  });

  test('a paused process that has lost its lease sends nothing when it wakes', async () => {
    const { stub } = await scene.open({}, { maxDispatchesPerMinute: 60 });
    const [first, second] = [await scene.create(), await scene.create()];
    const paused = await scene.openDispatcher();
    const { settled } = await paused.look([first, second]);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    // The second waits for its place in the rate when the lease is lost.
    await paused.lease.close();
    await settled;
    expect(stub.spawns).toHaveLength(1);
    await scene.rows('UPDATE backends SET max_dispatches_per_minute = NULL');
    const waiting = stub.spawns[0]?.taskId === first ? second : first;
    expect(await scene.drive(waiting)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
    expect(sentFor(stub, waiting)).toHaveLength(1);
  });

  test.each([
    ['unclear', { fault: 'reset', delayMs: 500 }],
    ['a refusal', { status: 422, delayMs: 500 }],
    ['later', { status: 429, delayMs: 500 }],
  ] as const)(
    'the stale result of a paused process (%s) undoes nothing of who took over',
    async (_name, stale) => {
      const { stub } = await scene.open({
        behave: ({ nth }) => (nth === 1 ? stale : { status: 201, delayMs: 900 }),
        routes: { list: false },
      });
      const id = await scene.create();
      const paused = await scene.openDispatcher();
      const { settled } = await paused.look([id]);
      await eventually(() => expect(stub.spawns).toHaveLength(1));
      await scene.die(paused);
      const taken = scene.send(id);
      await eventually(() => expect(stub.spawns).toHaveLength(2));
      const before = await scene.task(id);
      await settled;
      expect(await scene.task(id)).toMatchObject({ leasedBy: before.leasedBy, version: before.version });
      await scene.send(id);
      expect(stub.spawns).toHaveLength(2);
      await taken;
      expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
      expect(new Set(stub.spawns.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(1);
    },
  );

  test('the stale acceptance of a paused process counts, for it tells of an agent', async () => {
    const { stub } = await scene.open({
      behave: ({ nth }) => (nth === 1 ? { status: 201, delayMs: 500 } : { status: 500, delayMs: 900 }),
      routes: { list: false },
    });
    const id = await scene.create();
    const paused = await scene.openDispatcher();
    const { settled } = await paused.look([id]);
    await eventually(() => expect(stub.spawns).toHaveLength(1));
    await scene.die(paused);
    const taken = scene.send(id);
    await settled;
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED' });
    await taken;
    expect(await scene.task(id)).toMatchObject({ state: 'DISPATCHED', externalId: stub.sessions[0]?.id });
  });

  test('rings that come doubled, late or for what has ended send nothing', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    await Promise.all([1, 2, 3, 4].map(() => scene.dispatch.look([id, id])));
    await scene.dispatch.idle();
    await scene.tell(id, 1, { status: 'completed' });
    await scene.fold([id]);
    await scene.send(id, 'task_unknown');
    expect(stub.spawns).toHaveLength(1);
  });

  test('a task that five processes in a row claimed without living to tell is set aside', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    for (let death = 1; death <= 5; death += 1) {
      expect(await scene.task(id)).toMatchObject({ state: 'PENDING', claims: death - 1 });
      const dead = await scene.openDispatcher({ claimsOnly: true });
      await dead.look([id]);
      await eventually(() => expect(dead.stuck()).toBe(1));
      await scene.die(dead);
    }
    expect(await scene.drive(id)).toMatchObject({ state: 'FAILED', error: { code: 'QUARANTINED' } });
    expect(stub.spawns).toHaveLength(0);
  });

  test('one poison takes no neighbours along: what was claimed twice without an outcome is in hand alone', async () => {
    const { stub } = await scene.open({ routes: { list: false } });
    const ids = await scene.createMany(12);
    const poison = ids[5] ?? '';
    const first = await scene.openDispatcher({ claimsOnly: true });
    await first.look(ids);
    await eventually(() => expect(first.stuck()).toBe(ids.length));
    await scene.die(first);
    // Each process now dies as soon as it has the poison in hand; the others' sends before are saved.
    for (let death = 0; death < 4; death += 1) {
      const dead = await scene.openDispatcher({ diesAt: poison });
      await dead.look(ids);
      // The first takes all of them up side by side, and some with it; from then on the poison dies alone.
      await eventually(async () => {
        const [saved] = await scene.rows<{ n: number }>(
          `SELECT count(*)::integer AS n FROM tasks WHERE state = 'DISPATCHED'`,
        );
        expect(saved?.n).toBe(stub.spawns.length);
        if (death === 0) expect(dead.stuck() + stub.spawns.length).toBe(ids.length);
        else expect(dead.stuck()).toBe(1);
      });
      expect(await scene.task(poison)).toMatchObject({ claims: death + 2 });
      await scene.die(dead);
    }
    await eventually(async () => {
      await scene.crank();
      const states = await scene.rows<{ state: string; n: number }>(
        `SELECT state, count(*)::integer AS n FROM tasks GROUP BY state ORDER BY state`,
      );
      expect(states).toEqual([
        { state: 'DISPATCHED', n: 11 },
        { state: 'FAILED', n: 1 },
      ]);
    });
    expect(await scene.task(poison)).toMatchObject({ error: { code: 'QUARANTINED' } });
    for (const id of ids.filter((one) => one !== poison)) expect(sentFor(stub, id)).toHaveLength(1);
  });

  test('a hundred sends that begin together read the credential once', async () => {
    const { id } = await scene.open();
    let reads = 0;
    const db: Pick<typeof scene.db, 'query'> = {
      query: (statement, values) => {
        reads += 1;
        return scene.db.query(statement, values);
      },
    };
    const sealer = { open: () => 'secret' };
    const fleet = makeFleetView({ db, sealer, maxAgeMs: 60_000 });
    await fleet.look();
    const before = reads;
    await Promise.all(Array.from({ length: 100 }, () => fleet.target(id)));
    expect(reads - before).toBe(1);
  });
});
