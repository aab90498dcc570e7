import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openSystem, type System } from '../support/system.js';
import { openLoad, type Load } from './load.js';
import { addBackend, say } from './setting.js';
import { openStubProcess, type StubProcess } from './stub-process.js';
import { judge, untilAllEnded } from './verdict.js';

const pausedMs = 15_000;

/** A paused dispatcher wakes with sends in hand that another has taken up meanwhile (P6). */
describe('a dispatcher that sleeps longer than its lease', () => {
  let system: System;
  let stub: StubProcess;
  let load: Load;

  beforeAll(async () => {
    stub = await openStubProcess();
    system = await openSystem({ processes: { dispatch: 2 } });
    await addBackend(system, { name: 'stub', url: stub.url });
    // Nothing can be asked, and no agent says a word before the lease is over: what was in hand must be sent again.
    await stub.set({ asks: false, stepMs: 9000 });
    load = openLoad(system);
  }, 60_000);
  afterAll(async () => {
    load?.close();
    await system?.stop();
    await stub?.close();
  }, 60_000);

  test('at most two sends a task, one key, the same bytes, and its state is stored once', async () => {
    const [sleeper] = system.children.filter(({ name }) => name === 'dispatch');
    const pausing = stub.killAt(sleeper!.pid, 'SIGSTOP', 200);
    const made = await load.create(400, { tag: 'pause', plan: 'complete' });
    const { inFlight, at } = await pausing;
    await eventually(async () => expect((await stub.count()).spawns).toBeGreaterThanOrEqual(450), {
      timeoutMs: 14_000,
    });
    await stub.set({ stepMs: 20 });
    await eventually(() => expect(Date.now() - at).toBeGreaterThan(pausedMs), { timeoutMs: pausedMs + 5000 });
    process.kill(sleeper!.pid, 'SIGCONT');
    await untilAllEnded(load, 'pause', 30_000);
    // What the sleeper had in hand is settled when its first save comes back as stale or lost.
    const claimed = (): readonly unknown[] =>
      sleeper!.log().filter((line) => typeof line === 'object' && line['event'] === 'task.sent');
    await eventually(() => expect(claimed().length).toBeGreaterThan(0));

    const { spawns } = await stub.report();
    const { breaches, duplicates } = await judge(system.databaseUrl, made, spawns);
    const sends = new Map<string, number>();
    for (const { taskId } of spawns) sends.set(taskId, (sends.get(taskId) ?? 0) + 1);
    say('dispatch stopped for 15 s', { inFlight, duplicates: duplicates.length });
    expect(breaches).toEqual([]);
    expect(duplicates.length).toBeGreaterThanOrEqual(50);
    expect(Math.max(...sends.values())).toBeLessThanOrEqual(2);
    // One acceptance and one end a task, whoever told of it.
    const { body } = await load.get('/v1/tasks?tag=pause&limit=200');
    for (const { id } of body.data as { id: string }[]) {
      const events = (await load.get(`/v1/tasks/${id}/events`)).body.data as { from: string; to: string }[];
      const moves = events.filter(({ from, to }) => from !== to).map(({ to }) => to);
      expect(moves).toEqual(['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED']);
    }
  }, 90_000);
});
