import type { Sql } from './pool.js';

/** An attempt whose agent a duty has something to say to or to ask about. */
export type AgentRow = {
  readonly taskId: string;
  readonly attempt: number;
  readonly backendId: string;
  readonly externalId: string | null;
  readonly killTries: number;
  readonly killReason: string | null;
  /** Its send is under way in a living process: its id may come any moment. */
  readonly isSending: boolean;
};

type Row = {
  task_id: string;
  number: number;
  backend_id: string;
  external_id: string | null;
  kill_tries: number;
  kill_reason: string | null;
  is_sending: boolean;
};

const agentOf = (row: Row): AgentRow => ({
  taskId: row.task_id,
  attempt: row.number,
  backendId: row.backend_id,
  externalId: row.external_id,
  killTries: row.kill_tries,
  killReason: row.kill_reason,
  isSending: row.is_sending,
});

const returned = `a.task_id, a.number, a.backend_id, a.external_id, a.kill_tries, a.kill_reason,
  EXISTS (SELECT 1 FROM tasks t JOIN processes p ON p.id = t.leased_by
          WHERE t.id = a.task_id AND t.attempt = a.number AND p.lease_until > now()) AS is_sending`;

const takeKillsStatement = {
  name: 'take-kills',
  text: `
UPDATE attempts a SET kill_due_at = now() + interval '30 seconds'
FROM (SELECT task_id, number FROM attempts WHERE kill_due_at <= now()
      ORDER BY kill_due_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) AS due
WHERE a.task_id = due.task_id AND a.number = due.number
RETURNING ${returned}`,
};

/** Takes kills that are due. Each comes back by itself if whoever took it dies: the column is the outbox. */
export async function takeKills(sql: Sql, limit: number): Promise<readonly AgentRow[]> {
  return (await sql.query<Row>(takeKillsStatement, [limit])).map(agentOf);
}

const takeSilentStatement = {
  name: 'take-silent',
  text: `
WITH due AS (
  SELECT a.task_id, a.number FROM attempts a
  WHERE a.ask_at <= now() ORDER BY a.ask_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
), looked AS (
  SELECT d.*, t.state IN ('COMPLETED', 'FAILED', 'CANCELLED') AS is_over,
    greatest(t.last_heard_at, t.dispatched_at) + $2 * interval '1 millisecond' AS silent_at
  FROM due d JOIN tasks t ON t.id = d.task_id
), put AS (
  -- Who was heard meanwhile is asked later; who is asked now comes back in case the asker dies.
  UPDATE attempts a SET ask_at = CASE WHEN l.is_over THEN NULL
    WHEN l.silent_at > now() AND a.missing = 0 THEN l.silent_at ELSE now() + $2 * interval '1 millisecond' END
  FROM looked l WHERE a.task_id = l.task_id AND a.number = l.number
  RETURNING a.*, NOT l.is_over AND (coalesce(l.silent_at, now()) <= now() OR a.missing > 0) AS is_silent
)
SELECT ${returned} FROM put a WHERE is_silent`,
};

/** Agents that have said nothing for `silenceMs`, oldest first. */
export async function takeSilent(sql: Sql, limit: number, silenceMs: number): Promise<readonly AgentRow[]> {
  return (await sql.query<Row>(takeSilentStatement, [limit, silenceMs])).map(agentOf);
}

const lapsedStatement = {
  name: 'find-lapsed',
  text: `SELECT id FROM tasks WHERE clock_at <= now() ORDER BY clock_at LIMIT $1`,
};

const lapsedAgentsStatement = {
  name: 'lapsed-agents',
  text: `
SELECT ${returned} FROM attempts a JOIN tasks t ON t.id = a.task_id AND t.attempt = a.number
WHERE a.task_id = ANY($1) AND a.ended_at IS NULL`,
};

/** Tasks one of whose clocks has run out, and their agents where one may live. */
export async function findLapsed(
  sql: Sql,
  limit: number,
): Promise<{ readonly ids: readonly string[]; readonly agents: readonly AgentRow[] }> {
  const ids = (await sql.query<{ id: string }>(lapsedStatement, [limit])).map(({ id }) => id);
  const agents = ids.length === 0 ? [] : await sql.query<Row>(lapsedAgentsStatement, [ids]);
  return { ids, agents: agents.map(agentOf) };
}

const postponeStatement = {
  name: 'postpone-clocks',
  text: "UPDATE tasks SET clock_at = now() + $2 * interval '1 millisecond' WHERE id = ANY($1) AND clock_at <= now()",
};

/** Looks again later at clocks that a gap of our own has given more time. */
export async function postponeClocks(sql: Sql, ids: readonly string[], ms: number): Promise<void> {
  await sql.query(postponeStatement, [ids, ms]);
}

const intakeStatement = {
  name: 'read-intake',
  text: 'SELECT resumed_at, open_until > now() AS is_open FROM intake',
};

/** When a callback door last opened after a gap, and whether one is open now. */
export async function readIntake(
  sql: Sql,
): Promise<{ readonly resumedAt: Date | null; readonly isOpen: boolean }> {
  const [row] = await sql.query<{ resumed_at: Date | null; is_open: boolean }>(intakeStatement);
  return { resumedAt: row?.resumed_at ?? null, isOpen: row?.is_open ?? false };
}

const unsettledStatement = {
  name: 'unsettled-on-removed',
  text: `
SELECT t.id, t.attempt, t.cancel_requested_at IS NOT NULL AS is_cancelling FROM attempts a
JOIN backends b ON b.id = a.backend_id AND b.deleted_at IS NOT NULL
JOIN tasks t ON t.id = a.task_id AND t.attempt = a.number
WHERE a.ended_at IS NULL AND t.finished_at IS NULL
  AND ((t.cancel_requested_at IS NOT NULL AND b.deleted_at <= now() - $1 * interval '1 millisecond')
    OR (t.cancel_requested_at IS NULL AND t.state = 'PENDING' AND t.leased_by IS NULL))
LIMIT $2`,
};

export type Unsettled = { readonly id: string; readonly attempt: number; readonly isCancelling: boolean };

/** Tasks that nobody will ever settle, since their backend was removed: unknown outcomes, and kills after `giveUpAfterMs`. */
export async function findUnsettledOnRemoved(
  sql: Sql,
  giveUpAfterMs: number,
  limit: number,
): Promise<readonly Unsettled[]> {
  const rows = await sql.query<{ id: string; attempt: number; is_cancelling: boolean }>(unsettledStatement, [
    giveUpAfterMs,
    limit,
  ]);
  return rows.map((row) => ({ id: row.id, attempt: row.attempt, isCancelling: row.is_cancelling }));
}
