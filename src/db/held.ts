import type { Candidate } from '../domain/release.js';
import type { Sql } from './pool.js';

/*
 * The first few of each workspace in a lane, by a loose index scan over the workspaces: the cost follows what
 * is let out, not how many wait.
 */
const candidatesStatement = {
  name: 'held-candidates',
  text: `
WITH RECURSIVE spaces AS (
  (SELECT coalesce(workspace_id, '') AS space FROM tasks
   WHERE state = 'PENDING' AND lane IS NOT NULL AND lane = $1 ORDER BY coalesce(workspace_id, '') LIMIT 1)
  UNION ALL
  SELECT (SELECT coalesce(t.workspace_id, '') FROM tasks t
          WHERE t.state = 'PENDING' AND t.lane IS NOT NULL AND t.lane = $1 AND coalesce(t.workspace_id, '') > s.space
          ORDER BY coalesce(t.workspace_id, '') LIMIT 1)
  FROM spaces s WHERE s.space IS NOT NULL
)
SELECT first.id, s.space, first.order_at, first.is_released, first.turn
FROM (SELECT space FROM spaces WHERE space IS NOT NULL LIMIT 1000) AS s
CROSS JOIN LATERAL (
  SELECT t.id, t.order_at, t.due_at IS NOT NULL AS is_released, row_number() OVER (ORDER BY t.order_at)::integer AS turn
  FROM tasks t
  WHERE t.state = 'PENDING' AND t.lane IS NOT NULL AND t.lane = $1 AND coalesce(t.workspace_id, '') = s.space
    AND t.cancel_requested_at IS NULL
  ORDER BY t.order_at LIMIT $2
) AS first
-- At least the first of every workspace: whose turn it is is not decided here.
ORDER BY first.turn, first.order_at LIMIT $3 + (SELECT count(*) FROM spaces)`,
};

type CandidateRow = { id: string; space: string; order_at: Date; is_released: boolean; turn: number };

/** Those of a lane who may go next: the first of every workspace, then about twice `limit`, in turn. */
export async function findCandidates(sql: Sql, lane: string, limit: number): Promise<readonly Candidate[]> {
  const rows = await sql.query<CandidateRow>(candidatesStatement, [lane, limit, limit * 2]);
  return rows.map((row) => ({
    id: row.id,
    lane,
    workspace: row.space,
    turn: row.turn,
    orderAt: row.order_at,
    isReleased: row.is_released,
  }));
}

const releaseStatement = {
  name: 'release-held',
  text: `
UPDATE tasks t SET due_at = now()
FROM (SELECT id FROM tasks WHERE id = ANY($1) AND state = 'PENDING' AND lane IS NOT NULL AND due_at IS NULL
      AND cancel_requested_at IS NULL ORDER BY id FOR NO KEY UPDATE SKIP LOCKED) AS held
WHERE t.id = held.id RETURNING t.id`,
};

/** Lets held tasks out: they are due, and keep their lane until they are claimed, so that no newcomer overtakes them. */
export async function releaseHeld(sql: Sql, ids: readonly string[]): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(releaseStatement, [ids]);
  return rows.map(({ id }) => id);
}
