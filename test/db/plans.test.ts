import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Client, escapeLiteral } from 'pg';
import { findLapsed, findUnsettledOnRemoved, takeKills, takeSilent } from '../../src/db/agents.js';
import { claim } from '../../src/db/claim.js';
import { findDue, findUnapplied, findUnrung } from '../../src/db/due.js';
import { listFenced } from '../../src/db/fences.js';
import { findFleet } from '../../src/db/fleet.js';
import { findCandidates, releaseHeld } from '../../src/db/held.js';
import { advanceTasks } from '../../src/db/moves.js';
import { openDb, type Db, type Sql, type Statement } from '../../src/db/pool.js';
import {
  findLivingRetry,
  findStandings,
  findTaskViews,
  listAttempts,
  listEvents,
  listTasks,
  type TaskFilter,
} from '../../src/db/task-reads.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';
import { aClaim, limits } from '../support/rows.js';

/**
 * Every hot statement over a table of two hundred thousand tasks, nearly all of them ended: no plan may read a
 * whole table, neither the plan for these values nor the one that Postgres keeps for any values.
 */
describe('the plan of a hot statement reads no whole table', () => {
  let database: TestDatabase;
  let db: Db;
  let planner: Client;
  beforeAll(async () => {
    database = await openTestDatabase();
    db = openDb({ url: database.url, name: 'test', max: 2, statementTimeoutMs: 20_000 });
    planner = new Client({ connectionString: database.url });
    await planner.connect();
    await planner.query(`SET session_replication_role = replica; SET synchronous_commit = off; ${fill}`);
    await planner.query('SET session_replication_role = origin');
    for (const table of hot) await planner.query(`ANALYZE ${table}`);
  }, 120_000);
  afterAll(async () => {
    await planner.end();
    await db.close();
    await database.close();
  });

  const hot = ['tasks', 'attempts', 'callbacks', 'task_events', 'task_payloads', 'task_results'];
  type Node = { 'Node Type': string; 'Relation Name'?: string; Plans?: Node[] };

  const scansOf = (node: Node): string[] => [
    ...(node['Node Type'] === 'Seq Scan' && hot.includes(node['Relation Name'] ?? '')
      ? [node['Relation Name'] ?? '']
      : []),
    ...(node.Plans ?? []).flatMap(scansOf),
  ];

  function literal(value: unknown): string {
    if (value === null || value === undefined) return 'NULL';
    if (value instanceof Date) return escapeLiteral(value.toISOString());
    if (Array.isArray(value))
      return escapeLiteral(`{${value.map((one) => JSON.stringify(String(one))).join(',')}}`);
    return escapeLiteral(String(value as string | number | boolean));
  }

  async function planOf(statement: Statement, values: readonly unknown[], mode: string): Promise<string[]> {
    await planner.query(`SET plan_cache_mode = ${mode}`);
    await planner.query(`PREPARE explained AS ${statement.text}`);
    try {
      const call = values.length === 0 ? '' : `(${values.map(literal).join(', ')})`;
      const { rows } = await planner.query<{ 'QUERY PLAN': { Plan: Node }[] }>(
        `EXPLAIN (FORMAT JSON) EXECUTE explained${call}`,
      );
      return rows.flatMap((row) => row['QUERY PLAN'].flatMap(({ Plan }) => scansOf(Plan)));
    } finally {
      await planner.query('DEALLOCATE explained');
    }
  }

  /** Runs what is asked on the real pool and explains each of its statements on the way. */
  async function explained(use: (sql: Sql & Db) => Promise<unknown>): Promise<string[]> {
    const seen: { readonly statement: Statement; readonly values: readonly unknown[] }[] = [];
    const watched = (sql: Sql): Sql => ({
      query(statement, values = []) {
        seen.push({ statement, values });
        return sql.query(statement, values);
      },
    });
    await use({ ...db, ...watched(db), transaction: (work) => db.transaction((tx) => work(watched(tx))) });
    expect(seen.length).toBeGreaterThan(0);
    const wrong: string[] = [];
    for (const { statement, values } of seen) {
      // Only a named statement is prepared, and so may come to a plan for any values.
      const modes =
        statement.name === undefined ? ['force_custom_plan'] : ['force_custom_plan', 'force_generic_plan'];
      for (const mode of modes) {
        const scans = await planOf(statement, values, mode);
        wrong.push(...scans.map((table) => `${statement.name ?? 'list'} reads all of ${table} (${mode})`));
      }
    }
    return wrong;
  }

  const ids = ['task_199990', 'task_199991', 'task_5'];
  const filters: [string, TaskFilter][] = [
    ['nothing', {}],
    ['one state', { states: ['FAILED'] }],
    ['states', { states: ['PENDING', 'RUNNING'] }],
    ['the state of nearly all', { states: ['COMPLETED'] }],
    ['a type', { type: 'type_7' }],
    ['a backend', { backendId: 'bknd_3' }],
    ['a workspace', { workspaceId: 'w_5' }],
    ['a reference', { reference: 'ref_77' }],
    ['tags', { tags: ['rare_1'] }],
    ['a time', { createdAfter: new Date(Date.now() - 3_600_000) }],
    ['a span', { createdAfter: new Date(0), createdBefore: new Date(Date.now() - 86_400_000) }],
    ['being cancelled', { cancelling: true }],
    ['not being cancelled', { cancelling: false }],
    ['several things', { states: ['FAILED'], type: 'type_7', workspaceId: 'w_5' }],
  ];

  test.each(filters)('a list by %s', async (_, filter) => {
    expect(await explained((sql) => listTasks(sql, filter, { after: null, limit: 50 }))).toEqual([]);
    const after = { at: new Date(Date.now() - 7_200_000), id: 'task_100000' };
    expect(await explained((sql) => listTasks(sql, filter, { after, limit: 50 }))).toEqual([]);
  });

  const statements: [string, (sql: Sql & Db) => Promise<unknown>][] = [
    ['what is due of a ring', (sql) => findDue(sql, ids)],
    ['the sweep', (sql) => findUnrung(sql, 1000, 500)],
    ['the sweep of callbacks', (sql) => findUnapplied(sql, 1000, 500)],
    [
      'a fold and a move',
      (sql) =>
        advanceTasks(
          sql,
          [
            {
              taskId: 'task_199990',
              event: { type: 'repeated', attempt: 1, status: 'running', eventId: null, at: new Date() },
            },
          ],
          limits,
        ),
    ],
    [
      'a claim',
      (sql) => claim(sql, [aClaim('task_199980', 'bknd_3')], { processId: 'proc_1', limited: true }),
    ],
    ['the fleet and the lanes', (sql) => findFleet(sql)],
    ['the first of a lane', (sql) => findCandidates(sql, 'lane_1', 100)],
    ['a release', (sql) => releaseHeld(sql, ids)],
    ['the kills', (sql) => takeKills(sql, 100)],
    ['the silent', (sql) => takeSilent(sql, 100, 60_000)],
    ['the lapsed', (sql) => findLapsed(sql, 200)],
    ['what a removed backend leaves', (sql) => findUnsettledOnRemoved(sql, 1000, 500)],
    ['a task with its payloads', (sql) => findTaskViews(sql, ids)],
    ['the attempts of a task', (sql) => listAttempts(sql, 'task_5', 0, 200)],
    ['the timeline of a task', (sql) => listEvents(sql, 'task_5', 0, 200)],
    ['the standings of those who are waited for', (sql) => findStandings(sql, ids)],
    ['a living retry', (sql) => findLivingRetry(sql, 'task_5')],
    [
      'what a stop matches',
      (sql) =>
        listFenced(
          sql,
          { id: 1, workspaceId: null, at: new Date(), actor: 'a', reason: 'r', isSettled: false },
          500,
        ),
    ],
    [
      'what a stop of one workspace matches',
      (sql) =>
        listFenced(
          sql,
          { id: 1, workspaceId: 'w_5', at: new Date(), actor: 'a', reason: 'r', isSettled: false },
          500,
        ),
    ],
  ];

  test.each(statements)('%s', async (_, use) => {
    expect(await explained(use)).toEqual([]);
  });

  test('a list by states that only young tasks have does not look through the old ones', async () => {
    const after = { at: new Date(Date.now() - 7_200_000), id: 'task_100000' };
    let text = '';
    let given: readonly unknown[] = [];
    const noted: Sql = {
      query(statement, values = []) {
        [text, given] = [statement.text, values];
        return db.query(statement, values);
      },
    };
    for (const states of [['PENDING', 'RUNNING'], ['RUNNING']] as const) {
      await listTasks(noted, { states }, { after, limit: 50 });
      const { rows } = await planner.query(`EXPLAIN (ANALYZE, FORMAT JSON) ${text}`, [...given]);
      const dropped = [...JSON.stringify(rows).matchAll(/"Rows Removed by Filter":(\d+)/g)].map((match) =>
        Number(match[1]),
      );
      expect(Math.max(0, ...dropped)).toBeLessThan(2000);
    }
  });

  test('the states of a list are each listed once, newest first among all', async () => {
    const page = { after: null, limit: 120 };
    const both = await listTasks(db, { states: ['RUNNING', 'DISPATCHED', 'RUNNING'] }, page);
    const ids = both.map(({ id }) => id);
    expect(ids).toEqual(Array.from({ length: 100 }, (_, index) => `task_${199_999 - index}`));
  });

  test('a plan that does read a whole table is noticed', async () => {
    expect(await explained((sql) => sql.query({ text: `SELECT 1 FROM tasks WHERE title = 'x'` }))).toEqual([
      'list reads all of tasks (force_custom_plan)',
    ]);
  });
});

/** 200,000 tasks: 198,800 ended, 1,000 held in ten lanes, 100 due, 50 dispatched, 50 running. */
const fill = `
INSERT INTO backends (id, name, protocol, url, health_status, deleted_at)
SELECT 'bknd_' || n, 'b' || n, 'gateway', 'http://127.0.0.1:1', 'up', CASE WHEN n = 9 THEN now() END
FROM generate_series(0, 9) AS n;
INSERT INTO processes (id, name, host, pid, lease_until) VALUES ('proc_1', 'dispatch', 'here', 1, now() + interval '1 hour');

CREATE TEMP TABLE made AS
SELECT n, 'task_' || n AS id, now() - (200000 - n) * interval '1 second' AS born,
  CASE WHEN n >= 199950 THEN 'RUNNING' WHEN n >= 199900 AND n < 199950 THEN 'DISPATCHED'
    WHEN n >= 198800 THEN 'PENDING' WHEN n % 50 = 0 THEN 'FAILED' WHEN n % 97 = 0 THEN 'CANCELLED' ELSE 'COMPLETED' END AS state
FROM generate_series(0, 199999) AS n;

INSERT INTO tasks (id, type, workspace_id, reference, priority, tags, wish, timeouts, retry, created_at, state, due_at,
  attempt, backend_id, waiting_reason, lane, order_at, clock_at, finished_at, dispatched_at, cancel_requested_at)
SELECT id, 'type_' || n % 20, CASE WHEN n % 3 > 0 THEN 'w_' || n % 40 END, CASE WHEN n % 2 = 0 THEN 'ref_' || n % 5000 END, 3,
  CASE WHEN n % 1000 = 0 THEN ARRAY['rare_1', 'all'] WHEN n % 4 = 0 THEN ARRAY['all'] ELSE '{}' END,
  '{}', '{}', '{}', born, state,
  CASE WHEN state = 'PENDING' AND n >= 199800 THEN born END,
  CASE WHEN state = 'PENDING' THEN 0 ELSE 1 END,
  CASE WHEN state <> 'PENDING' THEN 'bknd_' || n % 10 END,
  CASE WHEN state = 'PENDING' AND n < 199800 THEN 'backend_full' END,
  CASE WHEN state = 'PENDING' AND n < 199800 THEN 'lane_' || n % 10 END,
  born, CASE WHEN state IN ('DISPATCHED', 'RUNNING') THEN born + interval '1 day' END,
  CASE WHEN state IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN born END, born,
  CASE WHEN n % 5000 = 0 OR n = 199990 THEN born END
FROM made;

INSERT INTO attempts (task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent, outcome,
  started_at, ended_at, ask_at, kill_due_at)
SELECT id, 1, 'bknd_' || n % 10, 'key_' || n, 'u', '00', 't', 'accepted', born,
  CASE WHEN state IN ('DISPATCHED', 'RUNNING') THEN NULL ELSE born END,
  CASE WHEN state IN ('DISPATCHED', 'RUNNING') THEN born END, CASE WHEN n = 199990 THEN born END
FROM made WHERE state <> 'PENDING';

INSERT INTO callbacks (task_id, attempt, dedupe_key, status, received_at, applied_at)
SELECT id, 1, 'k', 'completed', born, CASE WHEN n % 40000 > 0 THEN born END FROM made WHERE state <> 'PENDING' AND n % 2 = 0;

INSERT INTO task_payloads (task_id, context) SELECT id, '{}' FROM made;
INSERT INTO task_results (task_id, result) SELECT id, '1' FROM made WHERE state = 'COMPLETED';
INSERT INTO task_events (task_id, seq, type, to_state, at, actor) SELECT id, 1, 'task.created', 'PENDING', born, 'a' FROM made;
`;
