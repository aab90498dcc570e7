import type { Task } from '../domain/task.js';
import type { Sql } from './pool.js';
import { attemptColumns, attemptOf, type AttemptRow } from './attempt-row.js';
import { taskColumns, taskOf, type TaskRow } from './task-row.js';

/** No process that is alive has it. A lease is one row a process, on database time. */
export const unleased = (alias: string): string =>
  `(${alias}.leased_by IS NULL OR NOT EXISTS (
    SELECT 1 FROM processes p WHERE p.id = ${alias}.leased_by AND p.lease_until > now()))`;

const dueStatement = {
  name: 'find-due',
  text: `
SELECT ${taskColumns('t')} FROM tasks t
WHERE t.id = ANY($1) AND t.state = 'PENDING' AND t.due_at <= now() AND t.cancel_requested_at IS NULL
  AND ${unleased('t')}
ORDER BY t.order_at`,
};

const currentAttempts = {
  name: 'current-attempts',
  text: `
SELECT ${attemptColumns('a')} FROM attempts a JOIN tasks t ON t.id = a.task_id AND t.attempt = a.number
WHERE t.id = ANY($1)`,
};

/** The rung tasks that really are due, each with its current attempt: the row decides, never the ring. */
export async function findDue(sql: Sql, ids: readonly string[]): Promise<readonly Task[]> {
  const rows = await sql.query<TaskRow>(dueStatement, [ids]);
  const tried = rows.filter(({ attempt }) => attempt > 0).map(({ id }) => id);
  const attempts = tried.length === 0 ? [] : await sql.query<AttemptRow>(currentAttempts, [tried]);
  const byTask = new Map(attempts.map((row) => [row.task_id, [attemptOf(row)]]));
  return rows.map((row) => taskOf(row, byTask.get(row.id) ?? []));
}

const sweepStatement = {
  name: 'sweep-due',
  text: `
SELECT t.id FROM tasks t
WHERE t.state = 'PENDING' AND t.due_at <= now() AND t.cancel_requested_at IS NULL AND ${unleased('t')}
  AND (t.waiting_reason IS NOT NULL OR t.due_at <= now() - make_interval(secs => $1::float8 / 1000))
ORDER BY t.due_at LIMIT $2`,
};

/** Due tasks that nobody has; a fresh one only after `graceMs`, since its own ring is on the way. */
export async function findUnrung(sql: Sql, graceMs: number, limit: number): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(sweepStatement, [graceMs, limit]);
  return rows.map(({ id }) => id);
}

const unappliedStatement = {
  name: 'sweep-unapplied',
  text: `
SELECT DISTINCT task_id FROM (
  SELECT task_id FROM callbacks
  WHERE applied_at IS NULL AND received_at <= now() - make_interval(secs => $1::float8 / 1000)
  ORDER BY received_at LIMIT $2) AS oldest`,
};

/** Tasks with stored callbacks that no fold has applied yet. */
export async function findUnapplied(sql: Sql, graceMs: number, limit: number): Promise<readonly string[]> {
  const rows = await sql.query<{ task_id: string }>(unappliedStatement, [graceMs, limit]);
  return rows.map(({ task_id }) => task_id);
}

const stillClaimedStatement = {
  name: 'is-still-claimed',
  text: `
SELECT 1 FROM tasks WHERE id = $1 AND leased_by = $2 AND state = 'PENDING' AND cancel_requested_at IS NULL`,
};

/** Whether a task that this process has claimed is still to be sent: it may have ended or been cancelled since. */
export async function isStillClaimed(sql: Sql, taskId: string, processId: string): Promise<boolean> {
  return (await sql.query(stillClaimedStatement, [taskId, processId])).length > 0;
}
