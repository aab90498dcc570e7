import type { Attempt, Task, TaskState } from '../domain/task.js';
import type { Sql } from './pool.js';
import { attemptColumns, attemptOf, type AttemptRow } from './attempt-row.js';
import { taskColumns, taskOf, type TaskRow } from './task-row.js';

/** A task with its payloads as the texts that came. */
export type TaskView = {
  readonly task: Task;
  readonly context: string;
  readonly metadata: string | null;
  readonly result: string | null;
};

export type EventRecord = {
  readonly seq: number;
  readonly type: string;
  readonly from: TaskState | null;
  readonly to: TaskState;
  readonly at: Date;
  readonly attempt: number | null;
  readonly backendId: string | null;
  readonly actor: string;
  readonly detail: unknown;
};

export type TaskStanding = { readonly id: string; readonly seq: number; readonly state: TaskState };

type ViewRow = TaskRow & { context: string | null; metadata: string | null; result: string | null };

const viewStatement = {
  name: 'view-tasks',
  text: `
SELECT ${taskColumns('t')}, p.context, p.metadata, r.result
FROM tasks t LEFT JOIN task_payloads p ON p.task_id = t.id LEFT JOIN task_results r ON r.task_id = t.id
WHERE t.id = ANY($1)`,
};

/** The tasks that exist, in no order. */
export async function findTaskViews(sql: Sql, ids: readonly string[]): Promise<readonly TaskView[]> {
  const rows = await sql.query<ViewRow>(viewStatement, [ids]);
  return rows.map((row) => ({
    task: taskOf(row),
    context: row.context ?? 'null',
    metadata: row.metadata,
    result: row.result,
  }));
}

export async function findTaskView(sql: Sql, id: string): Promise<TaskView | null> {
  const [view] = await findTaskViews(sql, [id]);
  return view ?? null;
}

const workspaceStatement = { name: 'task-workspace', text: 'SELECT workspace_id FROM tasks WHERE id = $1' };

/** Whose a task is; undefined when there is none. */
export async function findTaskWorkspace(sql: Sql, id: string): Promise<string | null | undefined> {
  const [row] = await sql.query<{ workspace_id: string | null }>(workspaceStatement, [id]);
  return row?.workspace_id;
}

export type TaskFilter = {
  readonly states?: readonly TaskState[] | undefined;
  readonly type?: string | undefined;
  readonly backendId?: string | undefined;
  readonly workspaceId?: string | undefined;
  readonly reference?: string | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly createdAfter?: Date | undefined;
  readonly createdBefore?: Date | undefined;
  readonly cancelling?: boolean | undefined;
};

/** Newest first, without payloads; each filter has an index that begins with it and ends with the order. */
export async function listTasks(
  sql: Sql,
  filter: TaskFilter,
  page: { readonly after: { readonly at: Date; readonly id: string } | null; readonly limit: number },
): Promise<readonly Task[]> {
  const values: unknown[] = [];
  const conditions: string[] = [];
  const where = (condition: (place: string) => string, value: unknown): void => {
    if (value === undefined) return;
    values.push(value);
    conditions.push(condition(`$${values.length}`));
  };
  where((place) => `t.type = ${place}`, filter.type);
  where((place) => `t.backend_id = ${place}`, filter.backendId);
  where((place) => `t.workspace_id = ${place}`, filter.workspaceId);
  where((place) => `t.reference = ${place}`, filter.reference);
  where((place) => `t.tags <> '{}' AND t.tags @> ${place}::text[]`, filter.tags);
  where((place) => `t.created_at > ${place}`, filter.createdAfter);
  where((place) => `t.created_at < ${place}`, filter.createdBefore);
  if (filter.cancelling === true)
    conditions.push('t.cancel_requested_at IS NOT NULL AND t.finished_at IS NULL');
  if (filter.cancelling === false)
    conditions.push('(t.cancel_requested_at IS NULL OR t.finished_at IS NOT NULL)');
  where((place) => `(t.created_at, t.id) < (${place}, $${values.length + 1})`, page.after?.at);
  if (page.after !== null) values.push(page.after.id);
  values.push(page.limit);
  const limit = `LIMIT $${values.length}`;
  const select = (state: readonly string[]): string => {
    const all = [...state, ...conditions];
    return `
SELECT ${taskColumns('t')} FROM tasks t ${all.length === 0 ? '' : `WHERE ${all.join(' AND ')}`}
ORDER BY t.created_at DESC, t.id DESC ${limit}`;
  };
  // A branch a state: an index gives the order within one only, and a scan by age would read every ended task.
  const branches = [...new Set(filter.states ?? [])].map((state) => {
    values.push(state);
    return select([`t.state = $${values.length}`]);
  });
  const text =
    branches.length === 0
      ? select([])
      : `SELECT * FROM (${branches.map((branch) => `(${branch})`).join(' UNION ALL ')}) AS t
ORDER BY t.created_at DESC, t.id DESC ${limit}`;
  const rows = await sql.query<TaskRow>({ text }, values);
  return rows.map((row) => taskOf(row));
}

const attemptsStatement = {
  name: 'list-attempts',
  text: `SELECT ${attemptColumns('a')} FROM attempts a WHERE task_id = $1 AND number > $2 ORDER BY number LIMIT $3`,
};

/** Ascending, behind the number `after`. */
export async function listAttempts(
  sql: Sql,
  taskId: string,
  after: number,
  limit: number,
): Promise<readonly Attempt[]> {
  const rows = await sql.query<AttemptRow>(attemptsStatement, [taskId, after, limit]);
  return rows.map(attemptOf);
}

const eventsStatement = {
  name: 'list-events',
  text: `
SELECT seq, type, from_state AS "from", to_state AS "to", at, attempt, backend_id AS "backendId", actor,
  coalesce(detail, '{}') AS detail
FROM task_events WHERE task_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`,
};

/** Ascending, behind the number `after`. */
export async function listEvents(
  sql: Sql,
  taskId: string,
  after: number,
  limit: number,
): Promise<readonly EventRecord[]> {
  return sql.query<EventRecord>(eventsStatement, [taskId, after, limit]);
}

const standingStatement = {
  name: 'task-standings',
  text: 'SELECT id, seq, state FROM tasks WHERE id = ANY($1)',
};

/** How far tasks are: one statement for all that somebody waits for. */
export async function findStandings(sql: Sql, ids: readonly string[]): Promise<readonly TaskStanding[]> {
  return sql.query<TaskStanding>(standingStatement, [ids]);
}

const retriesStatement = {
  name: 'living-retries',
  text: `SELECT id FROM tasks WHERE retry_of = $1 AND finished_at IS NULL LIMIT 1`,
};

/** A retry of this task that has not ended, if there is one. */
export async function findLivingRetry(sql: Sql, taskId: string): Promise<string | null> {
  const [row] = await sql.query<{ id: string }>(retriesStatement, [taskId]);
  return row?.id ?? null;
}
