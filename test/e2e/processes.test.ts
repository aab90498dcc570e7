import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { readProcfile, type ProcfileLine } from '../../src/start/procfile.js';
import { openLoad, type Load, type Made } from '../faults/load.js';
import { addBackend, say, untilHealth } from '../faults/setting.js';
import { openStubProcess, type StubProcess } from '../faults/stub-process.js';
import { judge, listIds, listTasks, untilAllEnded } from '../faults/verdict.js';
import { eventually } from '../support/eventually.js';
import { openSystem, type ProcessName, type System } from '../support/system.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
}, 60_000);

async function openStub(name?: string): Promise<StubProcess> {
  const stub = await openStubProcess(name);
  closers.push(() => stub.close());
  return stub;
}

async function start(
  options: Parameters<typeof openSystem>[0] = {},
): Promise<{ system: System; load: Load }> {
  const system = await openSystem(options);
  closers.push(() => system.stop());
  const load = openLoad(system);
  closers.push(() => load.close());
  return { system, load };
}

describe('the lines of the Procfile', () => {
  const lines = readProcfile(join(process.cwd(), 'Procfile'));

  const run = (line: ProcfileLine, env: Record<string, string>) => {
    const child = spawn(line.command, [...line.args], {
      env: { PATH: process.env['PATH'] ?? '', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
    }
    return { child, ended: once(child, 'close'), output: () => output };
  };

  test('each runs alone, and stops with 0 when it is told to', async () => {
    const { system } = await start({ processes: { web: 0, dispatch: 0, transitions: 0, scheduler: 0 } });
    expect(lines.map(({ name }) => name).sort()).toEqual(
      ['dispatch', 'release', 'scheduler', 'transitions', 'web'].sort(),
    );
    for (const line of lines) {
      const { child, ended, output } = run(line, system.env);
      if (line.name !== 'release') {
        await eventually(() => expect(output()).toContain('process.started'), { timeoutMs: 15_000 });
        child.kill('SIGTERM');
      }
      const [code] = (await ended) as [number | null];
      expect({ line: line.name, code, output: code === 0 ? '' : output() }).toEqual({
        line: line.name,
        code: 0,
        output: '',
      });
    }
  }, 90_000);

  test('each refuses with 78 and names both variables when it is told of no servers', async () => {
    const ends = await Promise.all(
      lines.map(async (line) => {
        const { ended, output } = run(line, {});
        const [code] = (await ended) as [number | null];
        return { line: line.name, code, output: output() };
      }),
    );
    for (const { line, code, output } of ends) {
      expect({ line, code }).toEqual({ line, code: 78 });
      expect(output).toContain('DATABASE_URL');
      if (line !== 'release') expect(output).toContain('VALKEY_URL');
    }
  }, 30_000);
});

test('two of each share the work, and one of them leads', async () => {
  const stub = await openStub();
  const { system, load } = await start({ processes: { web: 2, dispatch: 2, transitions: 2, scheduler: 2 } });
  await addBackend(system, { name: 'stub', url: stub.url });
  const [, second] = system.children.filter(({ name }) => name === 'web');
  const other = openLoad({ baseUrl: second!.baseUrl!, adminKey: system.adminKey });
  closers.push(() => other.close());
  const made: Made[] = (
    await Promise.all([load.create(150, { tag: 'two' }), other.create(150, { tag: 'two' })])
  ).flat();
  await untilAllEnded(other, 'two', 30_000);
  const verdict = await judge(system.databaseUrl, made, (await stub.report()).spawns);
  expect(verdict).toEqual({ breaches: [], duplicates: [] });

  const saying = (name: ProcessName, event: string): number[] =>
    system.children
      .filter((child) => child.name === name)
      .map(
        (child) => child.log().filter((line) => typeof line === 'object' && line['event'] === event).length,
      );
  expect(saying('dispatch', 'task.sent').every((count) => count > 10)).toBe(true);
  expect(saying('scheduler', 'leadership.taken').sort((a, b) => a - b)).toEqual([0, 1]);
  // The leader is killed: the other takes its duties, and what only a duty finds goes on.
  const leader = system.children.find(
    (child) =>
      child.name === 'scheduler' &&
      child.log().some((line) => typeof line === 'object' && line['event'] === 'leadership.taken'),
  );
  leader!.kill('SIGKILL');
  await leader!.exited;
  const scheduledFor = new Date(Date.now() + 1000).toISOString();
  await load.create(1, { tag: 'later', plan: 'complete', more: { scheduledFor } });
  await untilAllEnded(load, 'later', 20_000);
  expect(saying('scheduler', 'leadership.taken')).toEqual([1, 1]);
}, 90_000);

test('SIGTERM of each process under load loses nothing and ends it with 0', async () => {
  const stub = await openStub();
  const { system, load } = await start({ processes: { web: 2 } });
  await addBackend(system, { name: 'stub', url: stub.url });
  const made: Made[] = [];
  for (const name of ['dispatch', 'transitions', 'scheduler', 'web'] as const) {
    const tag = `term-${name}`;
    await stub.forget();
    const creating = load.create(300, { tag, perSecond: 150 });
    creating.catch(() => undefined);
    await eventually(async () => expect((await stub.count()).inFlight).toBeGreaterThan(20), {
      timeoutMs: 15_000,
    });
    const child = system.children.findLast((one) => one.name === name)!;
    const toldAt = performance.now();
    child.kill('SIGTERM');
    if (child.baseUrl !== null) {
      const drained = openLoad({ baseUrl: child.baseUrl, adminKey: system.adminKey });
      closers.push(() => drained.close());
      await eventually(async () => expect((await drained.get('/readyz')).status).toBe(503));
      expect((await drained.get('/livez')).status).toBe(200);
      // Whoever still comes is served: a load balancer needs a moment.
      made.push(...(await drained.create(5, { tag, plan: 'complete' })));
    }
    const { code } = await child.exited;
    const drainMs = Math.round(performance.now() - toldAt);
    expect({ name, code }).toEqual({ name, code: 0 });
    expect(drainMs).toBeLessThan(25_000);
    await system.startOne(name);
    made.push(...(await creating));
    await untilAllEnded(load, tag, 30_000);
    say(`${name} told to stop`, { drainMs });
    const mine = made.slice(-(name === 'web' ? 305 : 300));
    const { spawns, callbacks } = await stub.report();
    expect(await judge(system.databaseUrl, mine, spawns)).toEqual({ breaches: [], duplicates: [] });
    expect((await listIds(load, tag)).sort()).toEqual(mine.map(({ id }) => id).sort());
    expect(callbacks.filter(({ status }) => status !== 202)).toEqual([]);
  }
  expect(load.cut()).toBe(0);
  expect(load.answers.filter(({ status }) => status !== 201)).toEqual([]);
}, 150_000);

describe('Orchestrators that are away', () => {
  test('one turns down and up again, and its tasks are held meanwhile', async () => {
    const stub = await openStub();
    const { system, load } = await start({ env: { HEALTH_INTERVAL_MS: '200' } });
    const { id } = await addBackend(system, { name: 'stub', url: stub.url });
    await stub.down();
    await untilHealth(system, id, 'down');
    const made = await load.create(50, { tag: 'away', plan: 'complete' });
    await eventually(async () => {
      const { body } = await load.get('/v1/tasks?tag=away&limit=200');
      const reasons = new Set(
        (body.data as { waiting: { reason: string } }[]).map(({ waiting }) => waiting.reason),
      );
      expect([...reasons]).toEqual(['backend_down']);
    });
    await stub.up();
    await untilHealth(system, id, 'up');
    await untilAllEnded(load, 'away', 15_000);
    expect(await judge(system.databaseUrl, made, (await stub.report()).spawns)).toEqual({
      breaches: [],
      duplicates: [],
    });
  }, 60_000);

  test('with three of them stopped, 100 tasks of one attempt each end COMPLETED once one is back', async () => {
    const stubs = await Promise.all(['a', 'b', 'c'].map(openStub));
    const { system, load } = await start({ env: { HEALTH_INTERVAL_MS: '200' } });
    for (const [index, stub] of stubs.entries()) {
      await addBackend(system, { name: `stub ${index}`, url: stub.url });
    }
    // Stopped with no time for pings to notice: the first sends find it out.
    await Promise.all(stubs.map((stub) => stub.down()));
    const made = await load.create(100, {
      tag: 'outage',
      plan: 'complete',
      more: { retry: { maxAttempts: 1 } },
    });
    await eventually(
      async () => {
        const { body } = await load.get('/v1/tasks?tag=outage&limit=200');
        const tasks = body.data as { state: string; waiting: { reason: string } | null }[];
        expect(new Set(tasks.map(({ state, waiting }) => `${state} ${waiting?.reason}`))).toEqual(
          new Set(['PENDING backend_down']),
        );
      },
      { timeoutMs: 15_000, everyMs: 100 },
    );
    await stubs[1]!.up();
    await untilAllEnded(load, 'outage', 20_000);
    const { spawns } = await stubs[1]!.report();
    expect(new Set(spawns.map(({ taskId }) => taskId)).size).toBe(100);
    expect(spawns).toHaveLength(100);
    for (const { id } of made) {
      expect((await load.get(`/v1/tasks/${id}`)).body.state).toBe('COMPLETED');
      const received = (await load.get(`/v1/tasks/${id}/attempts`)).body.data as {
        outcome: string;
        externalId: string | null;
      }[];
      // What provably arrived nowhere has spent nothing, and is listed as such.
      expect(received.filter(({ outcome }) => outcome !== 'not_received')).toHaveLength(1);
    }
  }, 90_000);

  test('after a failover both attempts are listed, each with its own external id', async () => {
    const [first, second] = await Promise.all([openStub('first'), openStub('second')]);
    await first.set({ fails: true });
    const { system, load } = await start();
    const backends = [
      await addBackend(system, { name: 'first', url: first.url }),
      await addBackend(system, { name: 'second', url: second.url, mode: 'draining' }),
    ];
    const [made] = await load.create(1, { tag: 'over', plan: 'retryHere' });
    await eventually(async () => expect((await first.count()).spawns).toBe(1));
    await system.api('PATCH', `/v1/backends/${backends[1]!.id}`, { mode: 'active' });
    await untilAllEnded(load, 'over', 20_000);
    const { body } = await load.get(`/v1/tasks/${made!.id}/attempts`);
    expect(body.data).toMatchObject([
      { number: 1, backendId: backends[0]!.id, externalId: 'first_1', outcome: 'failed' },
      { number: 2, backendId: backends[1]!.id, externalId: 'second_1', outcome: 'completed' },
    ]);
    expect((await load.get(`/v1/tasks/${made!.id}`)).body).toMatchObject({ state: 'COMPLETED', attempt: 2 });
  }, 60_000);
});

test('no spawn of an earlier task arrives after an emergency stop was answered', async () => {
  const stub = await openStub();
  const { system, load } = await start();
  await addBackend(system, { name: 'stub', url: stub.url });
  // A process sends 128 at once to a backend: some tasks run, some are being sent, and some wait for a place.
  await stub.set({ answerMs: 1000, stepMs: 200 });
  let stoppedUnsent = 0;
  for (const round of [1, 2, 3]) {
    const tag = `stop-${round}`;
    await stub.forget();
    const creating = load.create(400, { tag, plan: 'complete' });
    creating.catch(() => undefined);
    const before = load.answers.length;
    await eventually(() => expect(load.answers.length - before).toBeGreaterThanOrEqual(300), { everyMs: 2 });
    await eventually(async () => expect((await stub.count()).spawns).toBeGreaterThan(100), { everyMs: 5 });
    const askedAt = Date.now();
    const { status, body } = await system.api('POST', '/v1/emergency-stop', { reason: 'a drill' });
    const answeredAt = Date.now();
    expect(status).toBe(202);
    await creating;
    await untilAllEnded(load, tag, 30_000);
    const { spawns } = await stub.report();
    const earlier = new Set(
      (await listTasks(load, tag))
        .filter(({ createdAt }) => Date.parse(createdAt) < askedAt)
        .map(({ id }) => id),
    );
    const late = spawns.filter(({ taskId, headAt }) => earlier.has(taskId) && headAt > answeredAt);
    const sentEarlier = new Set(spawns.map(({ taskId }) => taskId).filter((id) => earlier.has(id))).size;
    say(`emergency stop ${round}`, { ...body, earlier: earlier.size, sentEarlier, late: late.length });
    stoppedUnsent += earlier.size - sentEarlier;
    expect(late).toEqual([]);
    // And what comes afterwards goes its way.
    await load.create(5, { tag: `after-${round}`, plan: 'complete' });
    await untilAllEnded(load, `after-${round}`, 15_000);
    const { body: after } = await load.get(`/v1/tasks?tag=after-${round}`);
    expect((after.data as { state: string }[]).map(({ state }) => state)).toEqual(Array(5).fill('COMPLETED'));
  }
  // Or it stopped nothing.
  expect(stoppedUnsent).toBeGreaterThan(0);
}, 120_000);
