import { rateHorizonMs } from '../domain/routing.js';
import { unleased } from './due.js';
import type { Db, Sql } from './pool.js';
import { attemptColumns, type AttemptRow } from './attempt-row.js';

/** What a claim is asked for: a due task, as it was read, and the attempt that it shall be sent as. */
export type ClaimRequest = {
  readonly taskId: string;
  readonly version: number;
  readonly backendId: string;
  /** The current attempt's number when it is taken up again, else the next. */
  readonly number: number;
  /** Used only where the attempt is new; one that is taken up keeps its own (I7). */
  readonly idempotencyKey: string;
  readonly callbackUrl: string;
  readonly signingKeyId: string;
  readonly traceparent: string;
};

/** A task that this process has now, with what its send consists of. */
export type Claimed = {
  readonly taskId: string;
  readonly attempt: AttemptRow;
  readonly idempotencyKey: string;
  readonly callbackUrl: string;
  readonly signingKeyId: string;
  readonly traceparent: string;
  readonly context: string;
  readonly metadata: string | null;
  /** How long the send must still wait for its place in the backend's rate, ms. */
  readonly waitMs: number;
};

/** Backends with a limit are locked first, in id order, so that the claim's count is of what is committed. */
const lockStatement = {
  name: 'lock-limited-backends',
  text: `
SELECT id FROM backends WHERE id = ANY($1) AND (max_concurrency IS NOT NULL
  OR max_dispatches_per_minute IS NOT NULL OR health_reason = 'misconfigured')
ORDER BY id FOR UPDATE`,
};

/*
 * Takes the lease, the slot and the rate, and writes the attempt, in one statement; nothing of it comes from a
 * cache. What is not returned was not claimed: another has it, the row moved on, or the backend cannot take it.
 */
const claimStatement = {
  name: 'claim',
  text: `
WITH input AS (
  SELECT * FROM json_to_recordset($1) AS i(
    ord integer, task_id text, version integer, backend_id text, number integer, idempotency_key text,
    callback_url text, signing_key_id text, traceparent text)
-- Locked by key alone: a planner without statistics would rather walk all that is due.
), locked AS (
  SELECT id, version, seq, state, due_at, cancel_requested_at, leased_by, created_at, workspace_id
  FROM tasks WHERE id = ANY($3) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
-- The tasks themselves: still due, nobody's, not stopped, with every callback folded; and we still live.
), picked AS (
  SELECT i.*, t.seq FROM locked t JOIN input i ON i.task_id = t.id
  WHERE t.state = 'PENDING' AND t.version = i.version AND t.due_at <= now() AND t.cancel_requested_at IS NULL
    AND ${unleased('t')}
    AND EXISTS (SELECT 1 FROM processes p WHERE p.id = $2 AND p.lease_until > clock_timestamp())
    AND NOT EXISTS (SELECT 1 FROM callbacks c WHERE c.task_id = t.id AND c.applied_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM fences f
      WHERE f.at >= t.created_at AND (f.workspace_id IS NULL OR f.workspace_id = t.workspace_id))
-- An attempt that is open already has its slot, and is followed to its end also on a draining backend.
), ranked AS (
  SELECT p.*, a.number IS NOT NULL AND a.ended_at IS NULL AS is_open,
    row_number() OVER (PARTITION BY p.backend_id, a.number IS NOT NULL AND a.ended_at IS NULL ORDER BY p.ord) AS place
  FROM picked p LEFT JOIN attempts a ON a.task_id = p.task_id AND a.number = p.number
), load AS (
  SELECT backend_id, count(*) AS in_flight FROM attempts
  WHERE ended_at IS NULL AND backend_id IN (SELECT backend_id FROM input) GROUP BY backend_id
), placed AS (
  SELECT r.*, b.max_dispatches_per_minute AS per_minute, greatest(b.next_send_at, clock_timestamp()) AS first_at,
    row_number() OVER (PARTITION BY r.backend_id ORDER BY r.ord) AS turn
  FROM ranked r JOIN backends b ON b.id = r.backend_id LEFT JOIN load l ON l.backend_id = r.backend_id
  WHERE coalesce(b.blocked_until, now()) <= now()
    AND (r.is_open OR (b.deleted_at IS NULL AND b.mode = 'active'
      AND (b.health_status = 'up' OR (b.health_reason = 'misconfigured' AND b.trial_at <= now() AND r.place = 1))
      AND (b.max_concurrency IS NULL OR coalesce(l.in_flight, 0) + r.place <= b.max_concurrency)))
    AND (b.mode <> 'disabled' OR b.deleted_at IS NOT NULL)
-- Each spawn request, a repeated one too, moves its backend's next instant on: evenly, without bursts.
), paced AS (
  SELECT p.*, CASE WHEN per_minute IS NULL THEN clock_timestamp()
    ELSE first_at + (turn - 1) * interval '60 seconds' / per_minute END AS send_at
  FROM placed p
), taken AS (
  SELECT * FROM paced WHERE send_at <= clock_timestamp() + interval '${rateHorizonMs} milliseconds'
), leased AS (
  UPDATE tasks t SET leased_by = $2, version = t.version + 1, seq = t.seq + 1, claims = t.claims + 1,
    attempt = k.number, backend_id = k.backend_id, lane = NULL,
    external_id = CASE WHEN t.attempt = k.number THEN t.external_id END,
    waiting_reason = 'sending', waiting_detail = NULL, waiting_until = NULL, updated_at = now()
  FROM taken k WHERE t.id = k.task_id
), tried AS (
  INSERT INTO attempts AS a (task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent)
  SELECT task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent FROM taken
  ON CONFLICT (task_id, number) DO UPDATE SET sends = a.sends + 1, ended_at = NULL, outcome = NULL,
    -- A send that left no outcome behind, since its process died, is an unknown one (I8).
    unknown_sends = a.unknown_sends + CASE WHEN a.ended_at IS NULL AND a.outcome IS NULL THEN 1 ELSE 0 END
  RETURNING ${attemptColumns('a')}, a.idempotency_key, a.callback_url, a.signing_key_id, a.traceparent
), told AS (
  INSERT INTO task_events (task_id, seq, type, from_state, to_state, at, attempt, backend_id, actor)
  SELECT task_id, seq + 1, 'task.claimed', 'PENDING', 'PENDING', now(), number, backend_id, 'dispatcher' FROM taken
), used AS (
  UPDATE backends b SET
    next_send_at = CASE WHEN b.max_dispatches_per_minute IS NULL THEN b.next_send_at
      ELSE u.last_at + interval '60 seconds' / b.max_dispatches_per_minute END,
    trial_at = CASE WHEN b.health_reason = 'misconfigured'
      THEN now() + least(5 * power(2, least(b.trial_failures, 7)), 300) * interval '1 second' ELSE b.trial_at END
  FROM (SELECT backend_id, max(send_at) AS last_at FROM taken GROUP BY backend_id) AS u
  WHERE b.id = u.backend_id AND (b.max_dispatches_per_minute IS NOT NULL OR b.health_reason = 'misconfigured')
)
SELECT a.*, y.context, y.metadata,
  greatest(0, extract(epoch FROM k.send_at - clock_timestamp()) * 1000)::float8 AS wait_ms
FROM tried a JOIN taken k ON k.task_id = a.task_id JOIN task_payloads y ON y.task_id = a.task_id
ORDER BY k.ord`,
};

type ClaimRow = AttemptRow & {
  idempotency_key: string;
  callback_url: string;
  signing_key_id: string;
  traceparent: string;
  context: string;
  metadata: string | null;
  wait_ms: number;
};

/**
 * Claims what can go now, in the order given. `limited` tells that one of the backends has a limit, so that a
 * transaction with a lock before the count is needed; a limit that was set this instant binds from the next claim.
 */
export async function claim(
  db: Db,
  requests: readonly ClaimRequest[],
  by: { readonly processId: string; readonly limited: boolean },
): Promise<readonly Claimed[]> {
  if (requests.length === 0) return [];
  if (!by.limited) return claimOn(db, requests, by.processId);
  const backendIds = [...new Set(requests.map(({ backendId }) => backendId))];
  return db.transaction(async (tx) => {
    await tx.query(lockStatement, [backendIds]);
    return claimOn(tx, requests, by.processId);
  });
}

async function claimOn(
  sql: Sql,
  requests: readonly ClaimRequest[],
  processId: string,
): Promise<readonly Claimed[]> {
  const input = requests.map((request, ord) => ({
    ord,
    task_id: request.taskId,
    version: request.version,
    backend_id: request.backendId,
    number: request.number,
    idempotency_key: request.idempotencyKey,
    callback_url: request.callbackUrl,
    signing_key_id: request.signingKeyId,
    traceparent: request.traceparent,
  }));
  const rows = await sql.query<ClaimRow>(claimStatement, [
    JSON.stringify(input),
    processId,
    requests.map(({ taskId }) => taskId),
  ]);
  return rows.map((row) => ({
    taskId: row.task_id,
    attempt: row,
    idempotencyKey: row.idempotency_key,
    callbackUrl: row.callback_url,
    signingKeyId: row.signing_key_id,
    traceparent: row.traceparent,
    context: row.context,
    metadata: row.metadata,
    waitMs: row.wait_ms,
  }));
}

const disownStatement = {
  name: 'disown',
  text: `
UPDATE tasks SET leased_by = NULL, version = version + 1
WHERE id = ANY($1) AND leased_by = $2 AND state = 'PENDING'`,
};

/** Gives back tasks of which this process does not know whether it claimed them: the next claim counts a doubt. */
export async function disown(sql: Sql, taskIds: readonly string[], processId: string): Promise<void> {
  await sql.query(disownStatement, [taskIds, processId]);
}
