import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openSystem, type ProcessName, type System, type SystemChild } from '../support/system.js';
import { openLoad, percentile, type Load, type Made } from './load.js';
import { addBackend, isGone, say } from './setting.js';
import { openStubProcess, type StubProcess } from './stub-process.js';
import { judge, listIds, untilAllEnded } from './verdict.js';

/**
 * kill -9 of each process in the middle of a thousand tasks (P1, P3, P5, P6). The stub itself kills, in the very turn
 * in which the wanted number of sends is in flight, and starts no agent for a spawn whose connection was cut: what a
 * dead dispatcher had in hand must be sent again, and is seen when it is.
 */
describe('a process that is killed in the middle of 1,000 tasks', () => {
  let system: System;
  let stub: StubProcess;
  let load: Load;

  beforeAll(async () => {
    stub = await openStubProcess();
    system = await openSystem({ processes: { dispatch: 2 } });
    await addBackend(system, { name: 'stub', url: stub.url });
    await stub.set({ asks: false, cutStartsAgent: false, stepMs: 60 });
  }, 60_000);
  beforeEach(async () => {
    load = openLoad(system);
    await stub.forget();
  });
  afterEach(() => load?.close());
  afterAll(async () => {
    await system?.stop();
    await stub?.close();
  }, 60_000);

  const victim = async (name: ProcessName): Promise<SystemChild> => {
    const living = await Promise.all(
      system.children
        .filter((child) => child.name === name)
        .map(async (child) => ((await isGone(child)) ? null : child)),
    );
    return living.find((child) => child !== null)!;
  };

  /** 1,000 tasks, a kill with `sends` in flight, a start in its place, and the end of all of them. */
  async function killInTheMiddle(name: ProcessName, sends: number) {
    const tag = `kill-${name}`;
    const early = load.create(400, { tag });
    early.catch(() => undefined); // awaited below
    await eventually(async () => expect((await stub.count()).ended).toBeGreaterThan(100), {
      timeoutMs: 30_000,
    });
    const child = await victim(name);
    const killing = stub.killAt(child.pid, 'SIGKILL', sends);
    const late = load.create(600, { tag });
    late.catch(() => undefined);
    const { inFlight, at } = await killing;
    expect((await child.exited).signal).toBe('SIGKILL');
    expect(() => process.kill(child.pid, 0)).toThrow('ESRCH');
    expect(inFlight).toBeGreaterThanOrEqual(50);
    await system.startOne(name);
    const made: Made[] = [...(await early), ...(await late)];
    await untilAllEnded(load, tag, 40_000);
    const settledMs = Date.now() - at;
    const { spawns, callbacks } = await stub.report();
    const verdict = await judge(system.databaseUrl, made, spawns);
    expect(verdict.breaches).toEqual([]);
    // One task a key, however often its create was repeated: the API lists exactly those that were acknowledged.
    expect((await listIds(load, tag)).sort()).toEqual(made.map(({ id }) => id).sort());
    expect(new Set(made.map(({ id }) => id)).size).toBe(1000);
    say(`${name} killed`, {
      inFlight,
      createsCut: load.cut(),
      callbacksCut: callbacks.filter(({ status }) => status === 0).length,
      duplicates: verdict.duplicates.length,
      allEndedAfterMs: settledMs,
    });
    return { ...verdict, at, spawns, callbacks };
  }

  test('web: cut creates are repeated and make one task a key', async () => {
    const { duplicates, callbacks } = await killInTheMiddle('web', 100);
    expect(load.cut()).toBeGreaterThan(0);
    expect(callbacks.some(({ status }) => status === 0)).toBe(true);
    expect(duplicates).toEqual([]);
    expect(load.answers.filter(({ status }) => status !== 201 && status !== 503)).toEqual([]);
  }, 90_000);

  test('dispatch: another takes its sends up, with the same key and bytes', async () => {
    const { duplicates, spawns, at } = await killInTheMiddle('dispatch', 200);
    const cut = spawns.filter(({ cutAt }) => cutAt !== null);
    expect(cut.length).toBeGreaterThanOrEqual(50);
    // The kill alone repeats sends, and each one that it cut is repeated once.
    expect(duplicates.map(({ taskId }) => taskId).sort()).toEqual(cut.map(({ taskId }) => taskId).sort());
    const recoveryMs = duplicates.map((spawn) => spawn.at - at);
    const [p50, p100] = [percentile(recoveryMs, 0.5), Math.max(...recoveryMs)];
    say('recovery of the tasks of a killed dispatch', { tasks: cut.length, p50, p100 });
    // The lease's 6 s and a sweep; a busy machine needs longer for the sends themselves.
    expect(p50).toBeLessThanOrEqual(10_000);
    expect(p100).toBeLessThanOrEqual(15_000);
  }, 90_000);

  test('transitions: what was stored is folded', async () => {
    const { duplicates } = await killInTheMiddle('transitions', 60);
    expect(duplicates).toEqual([]);
  }, 90_000);

  test('scheduler: its duties are taken up', async () => {
    const { duplicates } = await killInTheMiddle('scheduler', 60);
    expect(duplicates).toEqual([]);
  }, 90_000);
});
