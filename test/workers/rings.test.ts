import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { installValkey, startValkey, type RunningValkey } from '../../src/embedded/valkey.js';
import type { PingData, RingData } from '../../src/queues/catalogue.js';
import { openPings, type Pings } from '../../src/queues/pings.js';
import { openRing, type Ring } from '../../src/queues/ring.js';
import { openRingWorker, type RingWorker } from '../../src/queues/ring-worker.js';
import { findUnrung } from '../../src/db/due.js';
import { startDuties } from '../../src/workers/duty.js';
import { startFallback } from '../../src/workers/fallback.js';
import { makePingJobs } from '../../src/workers/pings.js';
import { makeSweep } from '../../src/workers/sweep.js';
import { openTestValkey } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { silent } from '../support/pipeline.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** The doorbell over a real Valkey: late, lost or wiped, it costs time and nothing else (I1). */
describe('rings', () => {
  let directory: string;
  let installed: Awaited<ReturnType<typeof installValkey>>;
  let valkey: RunningValkey;
  let scene: Scenario;
  let closers: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'mosaic-dispatch-rings-'));
    mkdirSync(join(directory, 'logs'));
    const packageDir = join(process.cwd(), 'node_modules', '.cache', 'valkey-package');
    installed = await installValkey({ dataDir: directory, packageDir, valkeyServer: null }, () => undefined);
    valkey = await startValkey(installed);
    scene = await openScenario();
  });
  beforeEach(() => {
    closers = [];
  });
  afterEach(async () => {
    for (const close of closers.reverse()) await close();
    await scene.clear();
  });
  afterAll(async () => {
    await scene.close();
    await valkey.server.stop('SIGTERM', 5000);
    rmSync(directory, { recursive: true, force: true });
  });

  type Place = { readonly url: string; readonly prefix: string };
  /** A Valkey of this file's own, which may be stopped and wiped. */
  const own = (): Place => ({ url: valkey.url, prefix: '{own}' });
  const until = <T extends { close(): Promise<void> }>(opened: T): T => {
    closers.push(() => opened.close());
    return opened;
  };
  const open = async (place: Place): Promise<Ring> => {
    const ring = until(openRing({ ...place, logger: silent }));
    await eventually(() => expect(ring.awayMs()).toBe(0));
    return ring;
  };
  const listen = (place: Place, work: (data: RingData) => Promise<void>): RingWorker =>
    until(openRingWorker<RingData>({ ...place, logger: silent, queue: 'dispatch', concurrency: 2, work }));
  async function ask<T>(url: string, question: (redis: Redis) => Promise<T>): Promise<T> {
    const redis = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
    redis.on('error', () => undefined);
    await redis.connect();
    try {
      return await question(redis);
    } finally {
      redis.disconnect();
    }
  }
  const wipe = (url: string) => ask(url, (redis) => redis.flushall());

  test('what is rung arrives, in rings of at most two hundred ids', async () => {
    const place = openTestValkey();
    const ring = await open(place);
    const heard: (readonly string[])[] = [];
    listen(place, async ({ ids }) => void heard.push(ids));
    const ids = Array.from({ length: 450 }, (_, index) => `task_${index}`);
    expect(await ring.ring('dispatch', ids)).toBe(true);
    await eventually(() => expect(heard.flat()).toHaveLength(450));
    expect(heard.map((some) => some.length).sort((a, b) => a - b)).toEqual([50, 200, 200]);
    expect(new Set(heard.flat())).toEqual(new Set(ids));
  });

  test('jobs carry ids and nothing else', async () => {
    const place = openTestValkey();
    const ring = await open(place);
    await ring.ring('transitions', ['task_a', 'task_b']);
    const jobs = await ask(place.url, async (redis) => {
      const keys = await redis.keys(`${place.prefix}:transitions:*`);
      const data = await Promise.all(
        keys.map(async (key) => ((await redis.type(key)) === 'hash' ? redis.hget(key, 'data') : null)),
      );
      return data.filter((text) => text !== null).map((text) => JSON.parse(text) as unknown);
    });
    expect(jobs).toEqual([{ ids: ['task_a', 'task_b'] }]);
  });

  test('what a worker throws fails the ring and stops nothing', async () => {
    const place = openTestValkey();
    const ring = await open(place);
    const heard: string[] = [];
    listen(place, async ({ ids }) => {
      heard.push(...ids);
      if (ids.includes('bad')) throw new Error('not today');
    });
    await ring.ring('dispatch', ['bad']);
    await ring.ring('dispatch', ['good']);
    await eventually(() => expect(heard).toEqual(expect.arrayContaining(['bad', 'good'])));
    expect(heard).toHaveLength(2);
  });

  test('a ring nobody is there to hear returns false at once', async () => {
    const ring = until(openRing({ url: 'redis://127.0.0.1:1', prefix: '{nobody}', logger: silent }));
    const startedAt = performance.now();
    expect(await ring.ring('dispatch', ['task_a'])).toBe(false);
    expect(await ring.depth('dispatch')).toBeNull();
    expect(performance.now() - startedAt).toBeLessThan(100);
    expect(ring.awayMs()).toBeGreaterThan(0);
  });

  test('a ring returns false within a quarter of a second while Valkey stands still, and true when it goes on', async () => {
    const ring = await open(own());
    const pid = Number(/process_id:(\d+)/.exec(await ask(valkey.url, (redis) => redis.info('server')))?.[1]);
    process.kill(pid, 'SIGSTOP');
    try {
      for (let tries = 0; tries < 3; tries += 1) {
        const startedAt = performance.now();
        expect(await ring.ring('dispatch', ['task_a'])).toBe(false);
        expect(performance.now() - startedAt).toBeLessThan(400);
      }
      expect(await ring.depth('dispatch')).toBeNull();
      // It counts as away, or nobody would look into Postgres instead.
      await eventually(() => expect(ring.awayMs()).toBeGreaterThan(500));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await eventually(async () => expect(await ring.ring('dispatch', ['task_b'])).toBe(true));
    await eventually(() => expect(ring.awayMs()).toBe(0));
  });

  test('while Valkey stands still the work is taken from Postgres, and no more when it goes on', async () => {
    const ring = await open(own());
    const { stub } = await scene.open();
    const look = async (): Promise<number> => {
      const ids = await findUnrung(scene.db, 0, 200);
      if (ids.length > 0) await scene.dispatch.look(ids);
      return ids.length;
    };
    const fallback = startFallback({ ring, look, everyMs: 100, deadAfterMs: 500, logger: silent });
    closers.push(async () => fallback.close());
    const pid = Number(/process_id:(\d+)/.exec(await ask(valkey.url, (redis) => redis.info('server')))?.[1]);
    process.kill(pid, 'SIGSTOP');
    try {
      await scene.createMany(3);
      await eventually(() => expect(stub.spawns).toHaveLength(3));
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await eventually(() => expect(ring.awayMs()).toBe(0));
  });

  test('a worker goes on after its Valkey was killed and is back', async () => {
    const ring = await open(own());
    const heard: string[] = [];
    listen(own(), async ({ ids }) => void heard.push(...ids));
    await ring.ring('dispatch', ['before']);
    await eventually(() => expect(heard).toContain('before'));
    const port = Number(new URL(valkey.url).port);
    await valkey.server.stop('SIGKILL', 5000);
    await eventually(async () => expect(await ring.ring('dispatch', ['lost'])).toBe(false));
    await eventually(() => expect(ring.awayMs()).toBeGreaterThan(0));
    valkey = await startValkey(installed, port);
    await eventually(async () => expect(await ring.ring('dispatch', ['after'])).toBe(true));
    await eventually(() => expect(heard).toContain('after'));
  });

  test('rings that a wipe has lost are rung again by the sweep within its interval', async () => {
    const ring = await open(own());
    const { stub } = await scene.open();
    const tasks = await scene.createMany(20);
    const told = await scene.create();
    await scene.send(told);
    await scene.tell(told, 1, { status: 'running' });
    await ring.ring('dispatch', tasks);
    await ring.ring('transitions', [told]);
    await wipe(valkey.url);
    listen(own(), async ({ ids }) => void (await scene.dispatch.look(ids)));
    until(
      openRingWorker<RingData>({
        ...{ ...own(), logger: silent, queue: 'transitions', concurrency: 1 },
        work: ({ ids }) => scene.fold(ids),
      }),
    );
    const sweep = makeSweep({ db: scene.db, ring, everyMs: 500 });
    until(startDuties([sweep], { isLeader: () => true, logger: silent }));
    await eventually(
      async () => {
        const states = await scene.rows(
          'SELECT state, count(*)::integer AS n FROM tasks GROUP BY state ORDER BY state',
        );
        expect(states).toEqual([
          { state: 'DISPATCHED', n: 20 },
          { state: 'RUNNING', n: 1 },
        ]);
      },
      { timeoutMs: 3500 },
    );
    await scene.dispatch.idle();
    expect(stub.spawns).toHaveLength(21);
  });

  test('the sweep rings no more while many rings wait, and nothing while Valkey cannot say', async () => {
    const place = own();
    const ring = await open(place);
    await scene.createMany(3);
    await scene.rows(`UPDATE tasks SET due_at = now() - interval '5 seconds'`);
    for (let rung = 0; rung < 50; rung += 1) await ring.ring('dispatch', [`task_${rung}`]);
    const sweep = makeSweep({ db: scene.db, ring, everyMs: 500 });
    expect(await scene.run(sweep)).toEqual({ dispatch: 0, transitions: 0 });
    await wipe(place.url);
    expect(await scene.run(sweep)).toEqual({ dispatch: 3, transitions: 0 });
    const away = { ...ring, depth: () => Promise.resolve(null) };
    expect(await scene.run(makeSweep({ db: scene.db, ring: away, everyMs: 500 }))).toEqual({
      dispatch: 0,
      transitions: 0,
    });
  });

  test('ping jobs ping every backend, are put again after a wipe, and go with their backend', async () => {
    const place = own();
    const pings: Pings = until(openPings({ ...place, everyMs: 200, logger: silent }));
    const pinged: string[] = [];
    until(
      openRingWorker<PingData>({
        ...{ ...place, logger: silent, queue: 'health', concurrency: 2 },
        work: async ({ backendId }) => void pinged.push(backendId),
      }),
    );
    const { id: one } = await scene.open();
    const { id: two } = await scene.open();
    const duty = makePingJobs({ db: scene.db, pings });
    await eventually(() => scene.run(duty));
    await eventually(() => expect(new Set(pinged)).toEqual(new Set([one, two])));
    await wipe(valkey.url);
    pinged.length = 0;
    await scene.run(duty);
    await eventually(() => expect(new Set(pinged)).toEqual(new Set([one, two])));
    await scene.rows('UPDATE backends SET deleted_at = now() WHERE id = $1', [two]);
    await scene.run(duty);
    pinged.length = 0;
    await eventually(() => expect(pinged.filter((id) => id === one).length).toBeGreaterThan(2));
    // One that was under way when it was taken away may still come.
    expect(pinged.filter((id) => id === two).length).toBeLessThan(2);
  });
});
