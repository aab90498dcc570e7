import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { takeKills, takeSilent, findLapsed, postponeClocks } from '../../src/db/agents.js';
import { claim } from '../../src/db/claim.js';
import { findFleet } from '../../src/db/fleet.js';
import { findCandidates, releaseHeld } from '../../src/db/held.js';
import { advanceTasks } from '../../src/db/moves.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { laneOf } from '../../src/domain/routing.js';
import type { TaskEvent } from '../../src/domain/event.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { aClaim, addBackend, addProcess, addTasks, limits } from '../support/rows.js';

let database: TestDatabase;
let db: Db;
beforeAll(async () => {
  database = await openTestDatabase();
  db = openDb({ url: database.url, name: 'test', max: 6 });
});
afterEach(async () => {
  await run('TRUNCATE tasks, task_payloads, task_events, attempts, processes, backends');
});
afterAll(async () => {
  await db.close();
  await database.close();
});

const run = <R extends Record<string, unknown>>(text: string, values: unknown[] = []) =>
  db.query<R>({ text }, values);
const lane = laneOf({});
const held: TaskEvent = { type: 'held', waiting: { reason: 'backend_down', detail: 'd', until: null }, lane };
const move = (ids: readonly string[], event: TaskEvent) =>
  advanceTasks(
    db,
    ids.map((taskId) => ({ taskId, event })),
    limits,
  );

describe('held tasks', () => {
  test('stand in their lane, without a due time, until they are let out', async () => {
    const ids = await addTasks(db, 3);
    await move(ids, held);
    expect((await findFleet(db)).heldLanes).toEqual([lane]);
    expect(await findCandidates(db, lane, 10)).toHaveLength(3);
    expect(await findCandidates(db, laneOf({ name: 'x' }), 10)).toEqual([]);
    expect(await releaseHeld(db, ids.slice(0, 2))).toHaveLength(2);
    // They are due once, and keep their place until they are claimed, so that no newcomer overtakes them.
    expect(await releaseHeld(db, ids.slice(0, 2))).toEqual([]);
    const candidates = await findCandidates(db, lane, 10);
    expect(candidates.filter(({ isReleased }) => isReleased)).toHaveLength(2);
    expect(await run('SELECT count(*)::integer AS n FROM tasks WHERE due_at <= now()')).toEqual([{ n: 2 }]);
  });

  test('come by workspace in turn, and within one by priority and age', async () => {
    const [idle] = (await addTasks(db, 1, { workspaceId: 'a', priority: 5 })) as [string];
    const [urgent] = (await addTasks(db, 1, { workspaceId: 'a', priority: 1 })) as [string];
    const [other] = (await addTasks(db, 1, { workspaceId: 'b', priority: 5 })) as [string];
    const [none] = (await addTasks(db, 1, { priority: 3 })) as [string];
    await move([idle, urgent, other, none], held);
    const candidates = await findCandidates(db, lane, 10);
    expect(candidates.map(({ id, turn, workspace }) => [id, turn, workspace])).toEqual([
      [urgent, 1, 'a'],
      [none, 1, ''],
      [other, 1, 'b'],
      [idle, 2, 'a'],
    ]);
  });

  test('a step of priority weighs ten minutes of age', async () => {
    const [normal] = (await addTasks(db, 1, { priority: 3 })) as [string];
    const [urgent] = (await addTasks(db, 1, { priority: 2 })) as [string];
    const rows = await run<{ id: string; order_at: Date; created_at: Date }>(
      'SELECT id, order_at, created_at FROM tasks',
    );
    const minutes = (id: string): number => {
      const row = rows.find((one) => one.id === id);
      return Math.round((row!.order_at.getTime() - row!.created_at.getTime()) / 60_000);
    };
    expect([minutes(normal), minutes(urgent)]).toEqual([20, 10]);
  });

  test('that were cancelled are no candidates', async () => {
    const ids = await addTasks(db, 1);
    await move(ids, held);
    await run('UPDATE tasks SET cancel_requested_at = now()');
    expect(await findCandidates(db, lane, 10)).toEqual([]);
    expect(await releaseHeld(db, ids)).toEqual([]);
  });

  test('the fleet has its database time also where there is no backend', async () => {
    const fleet = await findFleet(db);
    expect(fleet.backends).toEqual([]);
    expect(Math.abs(fleet.now.getTime() - Date.now())).toBeLessThan(60_000);
  });
});

describe('agents that a duty has to speak to', () => {
  async function dispatched(count: number): Promise<string[]> {
    const backendId = await addBackend(db);
    const processId = await addProcess(db);
    const ids = await addTasks(db, count);
    await claim(
      db,
      ids.map((id) => aClaim(id, backendId)),
      { processId, limited: false },
    );
    await move(ids, { type: 'accepted', attempt: 1, externalId: 's1', httpStatus: 201 });
    return ids;
  }

  test('kills are taken by one of many, and come back if nobody answers', async () => {
    const ids = await dispatched(10);
    await move(ids, { type: 'cancelRequested', reason: 'enough', actor: 'a' });
    const taken = (await Promise.all([1, 2, 3].map(() => takeKills(db, 5)))).flat();
    expect(new Set(taken.map(({ taskId }) => taskId)).size).toBe(taken.length);
    const rest = await takeKills(db, 100);
    expect([...taken, ...rest]).toHaveLength(10);
    expect(taken[0]).toMatchObject({ attempt: 1, externalId: 's1', killReason: 'enough', isSending: false });
    expect(await takeKills(db, 100)).toEqual([]);
    await run(`UPDATE attempts SET kill_due_at = now() - interval '1 second'`);
    expect(await takeKills(db, 100)).toHaveLength(10);
  });

  test('the silent are asked, those who were heard meanwhile are asked later', async () => {
    const [silent, heard] = (await dispatched(2)) as [string, string];
    await run(`UPDATE attempts SET ask_at = now()`);
    await run(`UPDATE tasks SET dispatched_at = now() - interval '1 hour'`);
    await run('UPDATE tasks SET last_heard_at = now() WHERE id = $1', [heard]);
    expect((await takeSilent(db, 10, 60_000)).map(({ taskId }) => taskId)).toEqual([silent]);
    expect(await takeSilent(db, 10, 60_000)).toEqual([]);
    expect(await run('SELECT count(*)::integer AS n FROM attempts WHERE ask_at > now()')).toEqual([{ n: 2 }]);
  });

  test('of a task that has ended nobody is asked any more', async () => {
    const [id] = (await dispatched(1)) as [string];
    await move([id], { type: 'quarantined', reason: 'r' });
    await run(`UPDATE attempts SET ask_at = now()`);
    expect(await takeSilent(db, 10, 60_000)).toEqual([]);
    expect(await run('SELECT ask_at FROM attempts')).toEqual([{ ask_at: null }]);
  });

  test('clocks that ran out are found with their agents, and may be put off', async () => {
    const [late, early] = (await dispatched(2)) as [string, string];
    await run(`UPDATE tasks SET clock_at = now() - interval '1 second' WHERE id = $1`, [late]);
    const { ids, agents } = await findLapsed(db, 10);
    expect([ids, agents.map(({ taskId }) => taskId)]).toEqual([[late], [late]]);
    await postponeClocks(db, [late, early], 60_000);
    expect((await findLapsed(db, 10)).ids).toEqual([]);
    const [row] = await run(
      "SELECT clock_at > now() + interval '10 minutes' AS kept FROM tasks WHERE id = $1",
      [early],
    );
    expect(row).toEqual({ kept: true });
  });
});
