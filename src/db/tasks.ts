import type { NewTask } from '../domain/new-task.js';
import { priorityStepMs } from '../domain/task.js';
import type { Sql } from './pool.js';

/** What became of a create. `keyReused`: its Idempotency-Key came before with another body, at `createdAt`. */
export type Inserted =
  | { readonly kind: 'created'; readonly id: string; readonly createdAt: Date }
  | { readonly kind: 'replayed'; readonly id: string }
  | { readonly kind: 'keyReused'; readonly id: string; readonly createdAt: Date };

/*
 * Task, payload and first timeline entry in one statement, so in one commit. A key that exists is skipped by
 * its unique index inside the write: a check before it would let two racing creates both pass.
 */
const insertStatement = {
  name: 'insert-tasks',
  text: `
WITH input AS (
  SELECT * FROM json_to_recordset($1) AS i(
    id text, type text, title text, reference text, workspace_id text, priority smallint, tags text[], wish json,
    timeouts json, retry json, notify_url text, retry_of text, created_by text, idem_scope text, idem_key text,
    idem_hash text, scheduled_for timestamptz, deadline_at timestamptz, context text, metadata text)
), made AS (
  INSERT INTO tasks (id, type, title, reference, workspace_id, priority, tags, wish, timeouts, retry, notify_url,
    retry_of, created_by, idem_scope, idem_key, idem_hash, scheduled_for, deadline_at, due_at, order_at, clock_at,
    waiting_reason, waiting_until)
  SELECT id, type, title, reference, workspace_id, priority, tags, wish, timeouts, retry, notify_url, retry_of,
    created_by, idem_scope, idem_key, idem_hash, scheduled_for, deadline_at,
    greatest(now(), scheduled_for),
    greatest(now(), scheduled_for) + (priority - 1) * interval '${priorityStepMs} milliseconds',
    deadline_at,
    CASE WHEN scheduled_for > now() THEN 'scheduled' END,
    CASE WHEN scheduled_for > now() THEN scheduled_for END
  FROM input
  ON CONFLICT (idem_scope, idem_key) WHERE idem_key IS NOT NULL DO NOTHING
  RETURNING id, created_at
), payloads AS (
  INSERT INTO task_payloads (task_id, context, metadata)
  SELECT id, context, metadata FROM input JOIN made USING (id)
), entries AS (
  INSERT INTO task_events (task_id, seq, type, from_state, to_state, at, actor)
  SELECT id, 1, 'task.created', NULL, 'PENDING', made.created_at, input.created_by FROM input JOIN made USING (id)
)
SELECT id, created_at FROM made`,
};

const findByKeys = {
  name: 'find-tasks-by-key',
  text: `
SELECT t.id, t.created_at, t.idem_scope, t.idem_key, t.idem_hash
FROM tasks t JOIN json_to_recordset($1) AS i(idem_scope text, idem_key text)
  ON t.idem_scope = i.idem_scope AND t.idem_key = i.idem_key`,
};

type KeyRow = { id: string; created_at: Date; idem_scope: string; idem_key: string; idem_hash: string };

const keyOf = (scope: string, key: string): string => `${scope}\n${key}`;

/**
 * Saves new tasks, each at most once an Idempotency-Key; one result a task, in order. Rows are folded and
 * sorted by their key first, so that two batches with the same keys cannot block each other.
 */
export async function insertTasks(sql: Sql, tasks: readonly NewTask[]): Promise<readonly Inserted[]> {
  const firsts = new Map<string, NewTask>();
  const rows: NewTask[] = [];
  for (const task of tasks) {
    const { idempotency } = task;
    const key = idempotency === null ? null : keyOf(idempotency.scope, idempotency.key);
    if (key !== null && firsts.has(key)) continue;
    if (key !== null) firsts.set(key, task);
    rows.push(task);
  }
  rows.sort((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
  const made = await sql.query<{ id: string; created_at: Date }>(insertStatement, [
    JSON.stringify(rows.map(rowOf)),
  ]);
  const createdAt = new Map(made.map((row) => [row.id, row.created_at]));
  const known = await findKnown(sql, tasks, createdAt);
  return tasks.map((task) => resultOf(task, createdAt, known));
}

async function findKnown(
  sql: Sql,
  tasks: readonly NewTask[],
  createdAt: ReadonlyMap<string, Date>,
): Promise<ReadonlyMap<string, KeyRow>> {
  const asked = tasks.flatMap(({ id, idempotency }) =>
    idempotency === null || createdAt.has(id)
      ? []
      : [{ idem_scope: idempotency.scope, idem_key: idempotency.key }],
  );
  if (asked.length === 0) return new Map();
  const rows = await sql.query<KeyRow>(findByKeys, [JSON.stringify(asked)]);
  return new Map(rows.map((row) => [keyOf(row.idem_scope, row.idem_key), row]));
}

function resultOf(
  task: NewTask,
  createdAt: ReadonlyMap<string, Date>,
  known: ReadonlyMap<string, KeyRow>,
): Inserted {
  const at = createdAt.get(task.id);
  if (at !== undefined) return { kind: 'created', id: task.id, createdAt: at };
  const { idempotency } = task;
  const first = idempotency === null ? undefined : known.get(keyOf(idempotency.scope, idempotency.key));
  if (first === undefined) throw new Error(`task ${task.id} was neither made nor known by its key`);
  return first.idem_hash === idempotency?.hash
    ? { kind: 'replayed', id: first.id }
    : { kind: 'keyReused', id: first.id, createdAt: first.created_at };
}

const sortKey = ({ id, idempotency }: NewTask): string =>
  idempotency === null ? `1${id}` : `0${keyOf(idempotency.scope, idempotency.key)}`;

function rowOf(task: NewTask): Record<string, unknown> {
  return {
    id: task.id,
    type: task.type,
    title: task.title,
    reference: task.reference,
    workspace_id: task.workspaceId,
    priority: task.priority,
    tags: task.tags,
    wish: task.wish,
    timeouts: task.timeouts,
    retry: task.retry,
    notify_url: task.notifyUrl,
    retry_of: task.retryOf,
    created_by: task.createdBy,
    idem_scope: task.idempotency?.scope ?? null,
    idem_key: task.idempotency?.key ?? null,
    idem_hash: task.idempotency?.hash ?? null,
    scheduled_for: task.scheduledFor,
    deadline_at: task.deadlineAt,
    context: task.context,
    metadata: task.metadata,
  };
}
