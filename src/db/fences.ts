import { setTimeout as sleep } from 'node:timers/promises';
import { leaseMs } from './processes.js';
import { notify } from './notify.js';
import type { Db, Sql } from './pool.js';

/** A stop: every task made before it, of one workspace or of all, is cancelled, and none is sent after it. */
export type RaisedFence = { readonly id: number; readonly matched: number };

export type OpenFence = {
  readonly id: number;
  readonly workspaceId: string | null;
  readonly at: Date;
  readonly actor: string;
  readonly reason: string;
  /** Old enough that no create that began before it can still be committed. */
  readonly isSettled: boolean;
};

const matching = `state IN ('PENDING', 'DISPATCHED', 'RUNNING') AND cancel_requested_at IS NULL
  AND ($1::text IS NULL OR workspace_id = $1)`;

const countStatement = {
  name: 'count-fenced',
  text: `SELECT count(*)::integer AS matched FROM tasks WHERE ${matching}`,
};

const raiseStatement = {
  name: 'raise-fence',
  text: `
INSERT INTO fences (workspace_id, actor, reason, at, matched)
SELECT $1, $2, $3, clock_timestamp(), count(*) FROM tasks WHERE ${matching} RETURNING id, matched`,
};

/** Ids are committed in their order: a process that knows the last stop knows every one before it. */
const orderStatement = { name: 'order-fences', text: 'LOCK TABLE fences IN SHARE ROW EXCLUSIVE MODE' };

/** What passed its last look in the very instant in which its process learnt of the stop has left by then. */
const leavingMs = 50;

const unseenStatement = {
  name: 'fence-unseen',
  text: `
SELECT 1 FROM processes WHERE name = 'dispatch' AND fence_seen < $1 AND lease_until > clock_timestamp() LIMIT 1`,
};

/** How many tasks a stop would match now. */
export async function countFenced(sql: Sql, workspaceId: string | null): Promise<number> {
  const [row] = await sql.query<{ matched: number }>(countStatement, [workspaceId]);
  return row?.matched ?? 0;
}

/**
 * Stores a stop and returns when no process can send past it any more: each one that lives has said so, and
 * whoever does not answer has lost its lease by then. Cancelling the matched tasks is the scheduler's.
 */
export async function raiseFence(
  db: Db,
  stop: { readonly workspaceId: string | null; readonly actor: string; readonly reason: string },
): Promise<RaisedFence> {
  const [row] = await db.transaction(async (tx) => {
    await tx.query(orderStatement);
    return tx.query<{ id: string; matched: number }>(raiseStatement, [
      stop.workspaceId,
      stop.actor,
      stop.reason,
    ]);
  });
  if (row === undefined) throw new Error('the stop was not stored');
  await notify(db, 'fence', [row.id]);
  const deadline = performance.now() + leaseMs + 500;
  while (performance.now() < deadline) {
    const unseen = await db.query(unseenStatement, [row.id]);
    if (unseen.length === 0) break;
    await sleep(15);
  }
  await sleep(leavingMs);
  return { id: Number(row.id), matched: row.matched };
}

const openStatement = {
  name: 'open-fences',
  text: `
SELECT id, workspace_id, at, actor, reason, at < now() - interval '10 seconds' AS is_settled
FROM fences WHERE finished_at IS NULL ORDER BY id`,
};

type OpenRow = {
  id: string;
  workspace_id: string | null;
  at: Date;
  actor: string;
  reason: string;
  is_settled: boolean;
};

export async function listOpenFences(sql: Sql): Promise<readonly OpenFence[]> {
  const rows = await sql.query<OpenRow>(openStatement);
  return rows.map((row) => ({
    id: Number(row.id),
    workspaceId: row.workspace_id,
    at: row.at,
    actor: row.actor,
    reason: row.reason,
    isSettled: row.is_settled,
  }));
}

const fencedStatement = {
  name: 'list-fenced',
  text: `SELECT id FROM tasks WHERE ${matching} AND created_at <= $2 ORDER BY id LIMIT $3`,
};

/** Tasks that a stop matches and that nobody has cancelled yet. */
export async function listFenced(sql: Sql, fence: OpenFence, limit: number): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(fencedStatement, [fence.workspaceId, fence.at, limit]);
  return rows.map(({ id }) => id);
}

const finishStatement = { name: 'finish-fence', text: 'UPDATE fences SET finished_at = now() WHERE id = $1' };

export async function finishFence(sql: Sql, id: number): Promise<void> {
  await sql.query(finishStatement, [id]);
}
