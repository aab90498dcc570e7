import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { eventually } from '../support/eventually.js';
import { openSystem, type System } from '../support/system.js';
import { openLoad, percentile, type Load, type Made } from './load.js';
import { openOwnValkey, type OwnServer } from './own-servers.js';
import { addBackend, say } from './setting.js';
import { openStubProcess, type StubProcess } from './stub-process.js';
import { judge, untilAllEnded } from './verdict.js';

/** Valkey is a doorbell (I1): wiped, frozen or dead it costs time, and never a task, a callback or an answer. */
describe('Valkey that is wiped, frozen and killed', () => {
  let valkey: OwnServer;
  let system: System;
  let stub: StubProcess;
  let load: Load;
  let calm = { createP99Ms: 0, callbackP99Ms: 0 };

  beforeAll(async () => {
    valkey = await openOwnValkey();
    stub = await openStubProcess();
    system = await openSystem({ env: { VALKEY_URL: valkey.url } });
    await addBackend(system, { name: 'stub', url: stub.url });
    load = openLoad(system);
    await load.create(200, { tag: 'calm', perSecond: 100 });
    await untilAllEnded(load, 'calm', 30_000);
    calm = await slowness();
    load.close();
  }, 60_000);
  beforeEach(async () => {
    load = openLoad(system);
    await stub.forget();
  });
  afterEach(() => load?.close());
  afterAll(async () => {
    await system?.stop();
    await valkey?.close();
    await stub?.close();
  }, 60_000);

  /** How long creates and callbacks took, the slowest of a hundred, ms. */
  const slowness = async () => ({
    createP99Ms: Math.round(
      percentile(
        load.answers.map(({ ms }) => ms),
        0.99,
      ),
    ),
    callbackP99Ms: Math.round(
      percentile(
        (await stub.report()).callbacks.map(({ ms }) => ms),
        0.99,
      ),
    ),
  });

  const wipe = async (): Promise<void> => {
    const redis = new Redis(valkey.url);
    await redis.flushall();
    redis.disconnect();
  };

  /** All ends are right, every create and callback was taken at once, and nothing was sent twice. */
  async function checkAll(what: string, made: readonly Made[], figures: object = {}): Promise<void> {
    const { spawns, callbacks } = await stub.report();
    const verdict = await judge(system.databaseUrl, made, spawns);
    const slow = await slowness();
    say(what, { ...slow, calm, ...figures });
    expect(verdict.breaches).toEqual([]);
    expect(verdict.duplicates).toEqual([]);
    expect(load.cut()).toBe(0);
    expect(load.answers.filter(({ status }) => status !== 201)).toEqual([]);
    expect(callbacks.filter(({ status }) => status !== 202)).toEqual([]);
    // On a machine that is busy with other things all is slow, also without a fault.
    expect(slow.createP99Ms).toBeLessThan(Math.max(500, calm.createP99Ms * 5));
    expect(slow.callbackP99Ms).toBeLessThan(Math.max(500, calm.callbackP99Ms * 5));
  }

  test('FLUSHALL four times in the middle of 1,000 tasks', async () => {
    await stub.set({ answerMs: 1000 });
    const creating = load.create(1000, { tag: 'flush', perSecond: 100 });
    creating.catch(() => undefined);
    const inFlight: number[] = [];
    for (const sent of [100, 300, 500, 700]) {
      await eventually(
        async () => {
          const count = await stub.count();
          expect(count.spawns).toBeGreaterThan(sent);
          expect(count.inFlight).toBeGreaterThanOrEqual(50);
          inFlight.push(count.inFlight);
        },
        { timeoutMs: 30_000 },
      );
      await wipe();
    }
    const made = await creating;
    await untilAllEnded(load, 'flush', 30_000);
    await checkAll('FLUSHALL', made, { inFlight });
    await stub.set({ answerMs: 400 });
  }, 90_000);

  test('what is due goes on within 3 s of FLUSHALL', async () => {
    // Created while Valkey is deaf to its producers: their rings are lost for good.
    const latenessMs: number[] = [];
    for (const round of [1, 2, 3]) {
      await stub.forget();
      const creating = load.create(40, { tag: `late-${round}`, plan: 'complete', width: 40 });
      await wipe();
      const made = await creating;
      await wipe();
      const createdAt = Date.now();
      await untilAllEnded(load, `late-${round}`, 15_000);
      const { spawns } = await stub.report();
      latenessMs.push(Math.max(...spawns.map(({ at }) => at)) - createdAt);
      expect(spawns).toHaveLength(made.length);
    }
    say('the last send after FLUSHALL', { latenessMs });
    expect(Math.max(...latenessMs)).toBeLessThanOrEqual(3000);
  }, 60_000);

  test('frozen for 8 s', async () => {
    valkey.signal('SIGSTOP');
    const frozenAt = Date.now();
    const made = [...(await load.create(150, { tag: 'frozen', perSecond: 50 }))];
    // After 5 s without an answer it is done without, though the connections stand.
    await eventually(async () => expect((await stub.count()).spawns).toBeGreaterThanOrEqual(150), {
      timeoutMs: 12_000,
    });
    const sentWithoutMs = Date.now() - frozenAt;
    await eventually(() => expect(Date.now() - frozenAt).toBeGreaterThan(8000));
    valkey.signal('SIGCONT');
    made.push(...(await load.create(150, { tag: 'frozen', perSecond: 100 })));
    await untilAllEnded(load, 'frozen', 30_000);
    await checkAll('frozen', made, { sentWithoutMs });
  }, 60_000);

  test('killed, away for 8 s and started again', async () => {
    await valkey.kill();
    const killedAt = Date.now();
    const made = [...(await load.create(300, { tag: 'dead', width: 8 }))];
    // Away for more than 5 s, it is done without.
    await eventually(async () => expect((await stub.count()).spawns).toBeGreaterThan(250), {
      timeoutMs: 20_000,
    });
    const sentWithoutMs = Date.now() - killedAt;
    await eventually(() => expect(Date.now() - killedAt).toBeGreaterThan(8000), { timeoutMs: 10_000 });
    await valkey.start();
    made.push(...(await load.create(300, { tag: 'dead', width: 8 })));
    await untilAllEnded(load, 'dead', 30_000);
    await checkAll('killed', made, { sentWithoutMs });
  }, 60_000);

  test('health pings go on after all of that', async () => {
    // The repeatable jobs were wiped, and are put again within half a minute.
    const { pings } = await stub.count();
    await eventually(async () => expect((await stub.count()).pings).toBeGreaterThan(pings + 2), {
      timeoutMs: 35_000,
      everyMs: 100,
    });
  }, 60_000);
});
