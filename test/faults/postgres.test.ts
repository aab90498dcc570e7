import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { migrate } from '../../src/db/migrate.js';
import { eventually } from '../support/eventually.js';
import { openSystem, type System } from '../support/system.js';
import { openLoad, type Load, type Made } from './load.js';
import { openOwnPostgres, type OwnServer } from './own-servers.js';
import { addBackend, isGone, say } from './setting.js';
import { openStubProcess, type StubProcess } from './stub-process.js';
import { judge, listIds, untilAllEnded } from './verdict.js';

/** Postgres is the truth: without it nothing is promised (P2, P3), and with it everything goes on by itself. */
describe('Postgres that is killed and started again under load', () => {
  let postgres: OwnServer;
  let system: System;
  let stub: StubProcess;
  let load: Load;

  beforeAll(async () => {
    postgres = await openOwnPostgres();
    await migrate(postgres.url);
    stub = await openStubProcess();
    system = await openSystem({ env: { DATABASE_URL: postgres.url }, processes: { dispatch: 2 } });
    await addBackend(system, { name: 'stub', url: stub.url });
    load = openLoad(system);
  }, 60_000);
  afterAll(async () => {
    load?.close();
    await system?.stop();
    await postgres?.close();
    await stub?.close();
  }, 60_000);

  test('nothing acknowledged is lost, and nothing else was promised', async () => {
    const started = [...system.children];
    const made: Made[] = [];
    for (const round of ['first', 'second']) {
      const creating = load.create(400, { tag: 'outage', perSecond: 80 });
      creating.catch(() => undefined);
      await eventually(async () => expect((await stub.count()).inFlight).toBeGreaterThan(20), {
        timeoutMs: 20_000,
      });
      await postgres.kill();
      const killedAt = Date.now();
      const unready = await system.api('GET', '/readyz', undefined, {});
      expect(unready.status).toBe(503);
      expect((await system.api('GET', '/livez')).status).toBe(200);
      // Down for a while: creates are told to come again.
      await eventually(() => expect(Date.now() - killedAt).toBeGreaterThan(3000));
      await postgres.start();
      const startedAt = Date.now();
      await eventually(async () => expect((await system.api('GET', '/readyz')).status).toBe(200), {
        timeoutMs: 10_000,
      });
      const readyMs = Date.now() - startedAt;
      made.push(...(await creating));
      say(`Postgres killed, ${round} time`, { downMs: startedAt - killedAt, readyMs });
      expect(readyMs).toBeLessThanOrEqual(5000);
    }
    await untilAllEnded(load, 'outage', 60_000);

    const { spawns, callbacks } = await stub.report();
    const verdict = await judge(postgres.url, made, spawns);
    const refused = load.answers.filter(({ status }) => status !== 201);
    const slowestMs = Math.round(Math.max(...load.answers.map(({ ms }) => ms)));
    say('an outage of Postgres', {
      creates: made.length,
      refused: refused.length,
      cut: load.cut(),
      slowestMs,
      callbacksRefused: callbacks.filter(({ status }) => status !== 202).length,
      duplicates: verdict.duplicates.length,
    });
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.filter(({ status, retryAfter }) => status !== 503 || retryAfter === null)).toEqual([]);
    expect(load.cut()).toBe(0);
    expect(slowestMs).toBeLessThan(3500);
    expect(callbacks.filter(({ status }) => status !== 202 && status !== 503)).toEqual([]);
    expect(verdict.breaches).toEqual([]);
    expect((await listIds(load, 'outage')).sort()).toEqual(made.map(({ id }) => id).sort());
    // Each process healed by itself.
    expect(await Promise.all(started.map(isGone))).toEqual(started.map(() => false));
  }, 120_000);
});
