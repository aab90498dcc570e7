import type { ResultSource } from '../domain/draft.js';
import type { TimelineEntry } from '../domain/event.js';
import type { Task, TaskState } from '../domain/task.js';
import type { Db, Sql } from './pool.js';
import { attemptChanges } from './attempt-row.js';
import { taskChanges } from './task-row.js';

/** A task as it was read, with everything that was decided about it, ready to be saved. */
export type FoldedTask = {
  readonly before: Task;
  after: Task;
  /** Database time of the statement that read the row. */
  readonly now: Date;
  entries: TimelineEntry[];
  readonly results: ResultSource[];
  /** `repeats` as they were read: a repetition that came since is left for the next fold. */
  readonly verdicts: { id: string; verdict: string; repeats: number }[];
  /** Raw JSON text of changed metadata; undefined when it was not changed. */
  metadata: string | null | undefined;
};

/* In id order, so that two batches cannot block each other; a row that another holds harms only itself (I9). */
const locked = (ids: string): string =>
  `SELECT id FROM tasks WHERE id = ANY(${ids}) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`;

const waveStatement = {
  name: 'save-wave',
  text: `
WITH locked AS (${locked('$2')})
UPDATE tasks t SET state = i.state, version = t.version + 1
FROM json_to_recordset($1) AS i(id text, version integer, state text), locked l
WHERE t.id = i.id AND t.version = i.version AND t.id = l.id RETURNING t.id`,
};

/*
 * One statement for everything that a batch of moves writes. A move that lost its version, since the row was changed
 * after it was read, writes nothing of itself: no row, no entry, no verdict (I2).
 */
const saveStatement = {
  name: 'save-moves',
  text: `
WITH locked AS (${locked('$6')}), moved AS (
  UPDATE tasks t SET version = t.version + 1, state = i.state, seq = i.seq, priority = i.priority, tags = i.tags,
    wish = i.wish, scheduled_for = i.scheduled_for, deadline_at = i.deadline_at, due_at = i.due_at,
    leased_by = i.leased_by, claims = i.claims, spent = i.spent, failures = i.failures,
    external_id = i.external_id, avoid = i.avoid, waiting_reason = i.waiting_reason,
    waiting_detail = i.waiting_detail, waiting_until = i.waiting_until, lane = i.lane, order_at = i.order_at,
    clock_at = i.clock_at, last_heard_at = i.last_heard_at, progress_percent = i.progress_percent,
    progress_message = i.progress_message, progress_sequence = i.progress_sequence, error_code = i.error_code,
    error_message = i.error_message, error_retryable = i.error_retryable,
    cancel_requested_at = i.cancel_requested_at, cancel_reason = i.cancel_reason,
    dispatched_at = i.dispatched_at, started_at = i.started_at, finished_at = i.finished_at,
    updated_at = i.updated_at
  FROM json_to_recordset($1) AS i(
    id text, version integer, state text, seq integer, priority smallint, tags text[], wish json,
    scheduled_for timestamptz, deadline_at timestamptz, due_at timestamptz, leased_by text, claims smallint,
    spent integer, failures integer, external_id text, avoid text[], waiting_reason text, waiting_detail text,
    waiting_until timestamptz, lane text, order_at timestamptz, clock_at timestamptz, last_heard_at timestamptz,
    progress_percent real, progress_message text, progress_sequence bigint, error_code text, error_message text,
    error_retryable boolean, cancel_requested_at timestamptz, cancel_reason text, dispatched_at timestamptz,
    started_at timestamptz, finished_at timestamptz, updated_at timestamptz), locked l
  WHERE t.id = i.id AND t.version = i.version AND t.id = l.id
  RETURNING t.id
), tried AS (
  UPDATE attempts a SET external_id = i.external_id, sends = i.sends, unknown_sends = i.unknown_sends,
    outcome = i.outcome, http_status = i.http_status, error = i.error, reusable = i.reusable,
    ended_at = i.ended_at, away_since = i.away_since, missing = i.missing, ask_at = i.ask_at,
    kill_due_at = i.kill_due_at, kill_since = i.kill_since, kill_tries = i.kill_tries, kill_reason = i.kill_reason
  FROM json_to_recordset($2) AS i(
    task_id text, number integer, external_id text, sends integer, unknown_sends integer, outcome text,
    http_status smallint, error text, reusable boolean, ended_at timestamptz, away_since timestamptz,
    missing smallint, ask_at timestamptz, kill_due_at timestamptz, kill_since timestamptz, kill_tries integer,
    kill_reason text) JOIN moved m ON m.id = i.task_id
  WHERE a.task_id = i.task_id AND a.number = i.number
), told AS (
  INSERT INTO task_events (task_id, seq, type, from_state, to_state, at, attempt, backend_id, actor, detail)
  SELECT task_id, seq, type, from_state, to_state, at, attempt, backend_id, actor, detail
  FROM json_to_recordset($3) AS i(
    task_id text, seq integer, type text, from_state text, to_state text, at timestamptz, attempt integer,
    backend_id text, actor text, detail json) JOIN moved m ON m.id = i.task_id
), ended AS (
  INSERT INTO task_results (task_id, result)
  SELECT i.task_id, coalesce(i.text, c.result)
  FROM json_to_recordset($4) AS i(task_id text, text text, callback_id bigint) JOIN moved m ON m.id = i.task_id
  LEFT JOIN callbacks c ON c.id = i.callback_id
  WHERE coalesce(i.text, c.result) IS NOT NULL
), heard AS (
  UPDATE callbacks c SET applied_at = CASE WHEN c.repeats = i.repeats THEN now() END, verdict = i.verdict,
    repeats = c.repeats - i.repeats
  FROM json_to_recordset($5) AS i(task_id text, id bigint, verdict text, repeats integer)
    JOIN moved m ON m.id = i.task_id
  WHERE c.id = i.id
)
SELECT id FROM moved`,
};

const metadataStatement = {
  name: 'save-metadata',
  text: `
UPDATE task_payloads p SET metadata = i.metadata
FROM json_to_recordset($1) AS i(task_id text, metadata text) WHERE p.task_id = i.task_id`,
};

/**
 * Saves what was decided about tasks, by compare-and-set on the version that was read (I2): one statement, so one
 * commit. The trigger takes one legal step at a time, so where a walk has several it is saved in waves, each wave one
 * step of each task, in one transaction.
 *
 * @returns the ids of those that lost: changed or held by somebody, so that nothing of theirs was written
 */
export async function saveMoves(db: Db, folded: readonly FoldedTask[]): Promise<ReadonlySet<string>> {
  const changed = folded.filter(({ before, after, entries, verdicts }) => {
    return after !== before || entries.length > 0 || verdicts.length > 0;
  });
  if (changed.length === 0) return new Set();
  const isWalk = changed.some(({ entries }) => statesOf(entries).length > 1);
  const isPayload = changed.some(({ metadata }) => metadata !== undefined);
  const won = await (isWalk || isPayload ? saveWhole(db, changed) : saveLast(db, changed, new Map()));
  return new Set(changed.map(({ before }) => before.id).filter((id) => !won.has(id)));
}

function saveWhole(db: Db, changed: readonly FoldedTask[]): Promise<ReadonlySet<string>> {
  return db.transaction(async (tx) => {
    const versions = await saveWaves(tx, changed);
    const left = changed.filter(({ before }) => versions.has(before.id));
    const won = await saveLast(tx, left, versions);
    await saveMetadata(
      tx,
      left.filter(({ before }) => won.has(before.id)),
    );
    return won;
  });
}

/** The last step of each task with everything that belongs to its move. */
async function saveLast(
  sql: Sql,
  changed: readonly FoldedTask[],
  versions: ReadonlyMap<string, number>,
): Promise<ReadonlySet<string>> {
  const rows = changed.map(({ before, after }) => ({
    ...taskChanges(after),
    version: versions.get(before.id) ?? before.version,
  }));
  const moved = await sql.query<{ id: string }>(saveStatement, [
    JSON.stringify(rows),
    JSON.stringify(changed.flatMap(attemptRows)),
    JSON.stringify(changed.flatMap(entryRows)),
    JSON.stringify(changed.flatMap(resultRows)),
    JSON.stringify(changed.flatMap(verdictRows)),
    changed.map(({ before }) => before.id),
  ]);
  return new Set(moved.map(({ id }) => id));
}

/** Saves all steps but each task's last; answers with the versions of those that are still in the race. */
async function saveWaves(tx: Sql, folded: readonly FoldedTask[]): Promise<Map<string, number>> {
  const versions = new Map(folded.map(({ before }) => [before.id, before.version]));
  const walks = folded.map(({ before, entries }) => ({ id: before.id, states: statesOf(entries) }));
  const longest = Math.max(...walks.map(({ states }) => states.length));
  for (let wave = 0; wave < longest - 1; wave += 1) {
    const rows = walks
      .filter(({ id, states }) => wave < states.length - 1 && versions.has(id))
      .map(({ id, states }) => ({ id, version: versions.get(id) ?? 0, state: states[wave] }));
    const saved = await tx.query<{ id: string }>(waveStatement, [
      JSON.stringify(rows),
      rows.map(({ id }) => id),
    ]);
    const won = new Set(saved.map(({ id }) => id));
    // Who lost the first wave must not meet its own guess of a version in a later one.
    for (const { id, version } of rows) {
      if (won.has(id)) versions.set(id, version + 1);
      else versions.delete(id);
    }
  }
  return versions;
}

async function saveMetadata(tx: Sql, won: readonly FoldedTask[]): Promise<void> {
  const metadata = won.flatMap((task) =>
    task.metadata === undefined ? [] : [{ task_id: task.after.id, metadata: task.metadata }],
  );
  if (metadata.length > 0) await tx.query(metadataStatement, [JSON.stringify(metadata)]);
}

const statesOf = (entries: readonly TimelineEntry[]): readonly TaskState[] =>
  entries.filter(({ from, to }) => from !== to).map(({ to }) => to);

function attemptRows({ before, after }: FoldedTask): Record<string, unknown>[] {
  return after.attempts
    .filter((attempt) => !before.attempts.includes(attempt))
    .map((attempt) => attemptChanges(after.id, attempt));
}

function entryRows({ before, entries, now }: FoldedTask): Record<string, unknown>[] {
  return entries.map((entry, index) => ({
    task_id: before.id,
    seq: before.seq + 1 + index,
    type: entry.type,
    from_state: entry.from,
    to_state: entry.to,
    at: now,
    attempt: entry.attempt,
    backend_id: entry.backendId,
    actor: entry.actor,
    detail: entry.detail,
  }));
}

function resultRows({ after, results }: FoldedTask): Record<string, unknown>[] {
  return results.map((source) =>
    'text' in source
      ? { task_id: after.id, text: source.text }
      : { task_id: after.id, callback_id: source.callbackId },
  );
}

function verdictRows({ after, verdicts }: FoldedTask): Record<string, unknown>[] {
  return verdicts.map((verdict) => ({ task_id: after.id, ...verdict }));
}
