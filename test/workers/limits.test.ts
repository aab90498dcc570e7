import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { findUnrung } from '../../src/db/due.js';
import { eventually } from '../support/eventually.js';
import type { Pipeline } from '../support/pipeline.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** Where a task goes, and how much a backend is given, however many processes dispatch. */
describe('routing and limits', () => {
  let scene: Scenario;
  let dispatchers: Awaited<ReturnType<Pipeline['openDispatcher']>>[];
  beforeAll(async () => {
    scene = await openScenario();
    dispatchers = [await scene.openDispatcher(), await scene.openDispatcher()];
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  /** Both dispatchers look at the same tasks in the same instant. */
  async function race(ids: readonly string[]): Promise<void> {
    const looks = await Promise.all(dispatchers.map((one) => one.look(ids)));
    await Promise.all(looks.map(({ settled }) => settled));
  }

  test('a task that names a backend goes there, by id or by name, though others are idle', async () => {
    await scene.open({}, { name: 'other', weight: 100 });
    const { stub, id } = await scene.open({}, { name: 'chosen' });
    const ids = [
      await scene.create({ backend: { id } }),
      await scene.create({ backend: { name: 'chosen' } }),
    ];
    await scene.send(...ids);
    expect(new Set(stub.spawns.map(({ taskId }) => taskId))).toEqual(new Set(ids));
  });

  test('labels choose among the backends, and every label must match', async () => {
    await scene.open({}, { labels: { zone: 'a' } });
    const { id: both } = await scene.open({}, { labels: { zone: 'b', gpu: 'yes' } });
    await scene.open({}, { labels: { gpu: 'yes' } });
    const ids = await scene.createMany(6, { backend: { labels: { zone: 'b', gpu: 'yes' } } });
    await scene.send(...ids);
    for (const id of ids) expect(await scene.task(id)).toMatchObject({ backendId: both });
  });

  test('the least loaded gets the next one, and a heavier one proportionally more', async () => {
    const { id: light } = await scene.open({}, { weight: 1 });
    const { id: heavy } = await scene.open({}, { weight: 3 });
    const ids = await scene.createMany(40);
    await scene.send(...ids.slice(0, 20));
    for (const id of ids.slice(20)) await scene.send(id);
    expect(await scene.inFlight(light)).toBe(10);
    expect(await scene.inFlight(heavy)).toBe(30);
  });

  test('maxConcurrency is never exceeded by two dispatchers, and every ended attempt frees its slot', async () => {
    const { stub, id: backendId } = await scene.open({}, { maxConcurrency: 4 });
    const ids = await scene.createMany(30);
    let most = 0;
    await race(ids);
    await eventually(
      async () => {
        most = Math.max(most, await scene.inFlight(backendId));
        await scene.run(scene.duties.release);
        await race(await findUnrung(scene.db, 0, 100));
        most = Math.max(most, await scene.inFlight(backendId));
        const running = await scene.rows<{ id: string }>(`SELECT id FROM tasks WHERE state = 'DISPATCHED'`);
        for (const { id } of running.slice(0, 2)) await scene.tell(id, 1, { status: 'completed' });
        await scene.fold(running.map(({ id }) => id));
        expect(await scene.rows(`SELECT 1 FROM tasks WHERE state <> 'COMPLETED'`)).toEqual([]);
      },
      { timeoutMs: 20_000 },
    );
    expect(most).toBe(4);
    expect(stub.spawns).toHaveLength(30);
    expect(await scene.inFlight(backendId)).toBe(0);
  });

  test('a slot is freed by the end of the attempt, not by the end of the task', async () => {
    const { stub, id: backendId } = await scene.open({}, { maxConcurrency: 1 });
    stub.setKillAnswer({ status: 200, body: {} });
    const id = await scene.create({ timeouts: { startMs: 1 } });
    await scene.send(id);
    await eventually(async () => {
      await scene.run(scene.duties.deadlines);
      expect(await scene.task(id)).toMatchObject({ state: 'FAILED', error: { code: 'START_TIMEOUT' } });
    });
    const next = await scene.create();
    await scene.send(next);
    await scene.kill();
    await scene.crank();
    expect(await scene.task(next)).toMatchObject({ state: 'PENDING', waiting: { reason: 'backend_full' } });
    expect(await scene.inFlight(backendId)).toBe(1);
    stub.setKillAnswer(null);
    await scene.kill();
    expect(await scene.drive(next)).toMatchObject({ state: 'DISPATCHED' });
  });

  test('1200 dispatches a minute are spread evenly over three seconds by two dispatchers', async () => {
    const { stub } = await scene.open({}, { maxDispatchesPerMinute: 1200 });
    const ids = await scene.createMany(90);
    const until = performance.now() + 3000;
    void race(ids.slice(0, 45));
    while (performance.now() < until) {
      await scene.run(scene.duties.release);
      const looks = dispatchers.map(async (one) => one.look(await findUnrung(scene.db, 0, 100)));
      await Promise.all(looks);
      await wait(40);
    }
    const first = stub.spawns[0]?.at ?? 0;
    const times = stub.spawns.map(({ at }) => at - first).filter((at) => at < 2800);
    // 20 a second: 56 in 2.8 s.
    expect(times.length).toBeGreaterThanOrEqual(50);
    expect(times.length).toBeLessThanOrEqual(62);
    for (let from = 0; from <= 2300; from += 100) {
      const within = times.filter((at) => at >= from && at < from + 500).length;
      // Ten, and what a stall of the machine may push together; without the limit it were all at once.
      expect(within).toBeLessThanOrEqual(17);
    }
    await Promise.all(dispatchers.map((one) => one.idle()));
  });

  test('sends that are repeated count for the rate too', async () => {
    const { stub } = await scene.open(
      { behave: ({ nth }) => (nth === 1 ? { status: 500 } : {}), routes: { list: false } },
      { maxDispatchesPerMinute: 120 },
    );
    const id = await scene.create({ retry: { backoffBaseMs: 1, backoffMaxMs: 1 } });
    await scene.drive(id);
    const [first, second] = stub.spawns;
    expect(stub.spawns).toHaveLength(2);
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(450);
  });
});
