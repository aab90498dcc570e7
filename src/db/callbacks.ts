import type { Report } from '../domain/event.js';
import type { Sql } from './pool.js';

/** A callback whose token was good, ready to be stored. `result` is raw JSON text; no text holds a NUL. */
export type NewCallback = {
  readonly taskId: string;
  readonly attempt: number;
  /** What makes it a duplicate of another for this attempt. */
  readonly dedupeKey: string;
  readonly status: Report['status'];
  readonly eventId: string | null;
  readonly sessionId: string | null;
  readonly sequence: number | null;
  readonly occurredAt: Date | null;
  readonly progressPercent: number | null;
  readonly progressMessage: string | null;
  readonly errorCode: string | null;
  readonly errorMessage: string | null;
  readonly errorRetryable: boolean | null;
  readonly result: string | null;
};

/*
 * A duplicate opens the stored row again (applied_at NULL, repeats + 1): its verdict stays, and the fold only
 * notes that it came again. So a duplicate is as durable as the first, and moves nothing.
 */
const insertStatement = {
  name: 'insert-callbacks',
  text: `
INSERT INTO callbacks (task_id, attempt, dedupe_key, status, event_id, session_id, sequence, occurred_at,
  progress_percent, progress_message, error_code, error_message, error_retryable, result, repeats)
SELECT task_id, attempt, dedupe_key, status, event_id, session_id, sequence, occurred_at,
  progress_percent, progress_message, error_code, error_message, error_retryable, result, repeats
FROM json_to_recordset($1) AS i(
  task_id text, attempt integer, dedupe_key text, status text, event_id text, session_id text, sequence bigint,
  occurred_at timestamptz, progress_percent real, progress_message text, error_code text, error_message text,
  error_retryable boolean, result text, repeats integer)
ON CONFLICT (task_id, attempt, dedupe_key)
  DO UPDATE SET repeats = callbacks.repeats + excluded.repeats + 1, applied_at = NULL`,
};

/** Stores callbacks; when it returns they are where a crash cannot lose them. A duplicate is no error. */
export async function insertCallbacks(
  sql: Sql,
  callbacks: readonly NewCallback[],
): Promise<readonly { taskId: string }[]> {
  const folded = new Map<string, Record<string, unknown> & { repeats: number }>();
  for (const callback of callbacks) {
    const key = `${callback.taskId}\n${callback.attempt}\n${callback.dedupeKey}`;
    const first = folded.get(key);
    if (first === undefined) folded.set(key, { ...rowOf(callback), repeats: 0 });
    else first.repeats += 1;
  }
  // Sorted by the unique key, so that two batches with the same duplicates cannot block each other.
  const rows = [...folded].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  await sql.query(insertStatement, [JSON.stringify(rows)]);
  return callbacks.map(({ taskId }) => ({ taskId }));
}

function rowOf(callback: NewCallback): Record<string, unknown> {
  return {
    task_id: callback.taskId,
    attempt: callback.attempt,
    dedupe_key: callback.dedupeKey,
    status: callback.status,
    event_id: callback.eventId,
    session_id: callback.sessionId,
    sequence: callback.sequence,
    occurred_at: callback.occurredAt,
    progress_percent: callback.progressPercent,
    progress_message: callback.progressMessage,
    error_code: callback.errorCode,
    error_message: callback.errorMessage,
    error_retryable: callback.errorRetryable,
    result: callback.result,
  };
}

/** A stored callback without its result, which stays in the database until the move that takes it. */
export type StoredCallback = {
  readonly attempt: number;
  readonly report: Report;
  readonly repeats: number;
  /** Null until a fold has decided about it; afterwards only its repetitions are noted. */
  readonly verdict: string | null;
};

/** A stored callback as JSON: what a fold needs of it, in the order in which they came. */
export const unappliedJson = (taskId: string): string => `
SELECT json_agg(c ORDER BY c.id) FROM (
  SELECT id, attempt, status, event_id, session_id, sequence, progress_percent, progress_message, error_code,
    error_message, error_retryable, result IS NOT NULL AS has_result, received_at, repeats, verdict
  FROM callbacks WHERE task_id = ${taskId} AND applied_at IS NULL) AS c`;

export type CallbackJson = {
  id: number;
  attempt: number;
  status: Report['status'];
  event_id: string | null;
  session_id: string | null;
  sequence: number | null;
  progress_percent: number | null;
  progress_message: string | null;
  error_code: string | null;
  error_message: string | null;
  error_retryable: boolean | null;
  has_result: boolean;
  received_at: string;
  repeats: number;
  verdict: string | null;
};

export function storedOf(json: CallbackJson): StoredCallback {
  const { attempt, repeats, verdict } = json;
  return { attempt, repeats, verdict, report: reportOf(json) };
}

function reportOf(json: CallbackJson): Report {
  return {
    callbackId: String(json.id),
    status: json.status,
    eventId: json.event_id,
    sessionId: json.session_id,
    sequence: json.sequence,
    progress:
      json.progress_percent === null
        ? null
        : { percent: json.progress_percent, message: json.progress_message },
    error:
      json.error_message === null
        ? null
        : { code: json.error_code, message: json.error_message, retryable: json.error_retryable ?? false },
    hasResult: json.has_result,
    receivedAt: new Date(json.received_at),
  };
}

const spoiltStatement = {
  name: 'spoilt-callbacks',
  text: `
UPDATE callbacks SET tries = tries + 1,
  applied_at = CASE WHEN tries >= 4 THEN now() END,
  verdict = CASE WHEN tries >= 4 THEN 'parked' ELSE verdict END
WHERE task_id = $1 AND applied_at IS NULL RETURNING id, applied_at`,
};

/** Counts a fold that failed; after five the callbacks are parked, so that they stop nobody (P15). */
export async function noteSpoilt(sql: Sql, taskId: string): Promise<{ parked: number }> {
  const rows = await sql.query<{ applied_at: Date | null }>(spoiltStatement, [taskId]);
  return { parked: rows.filter((row) => row.applied_at !== null).length };
}
