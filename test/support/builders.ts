import type { Db } from '../../src/db/pool.js';

/** The least a task needs; whatever a test is about is given. */
export function taskBody(given: Record<string, unknown> = {}): Record<string, unknown> {
  return { type: 'demo.echo', context: { text: 'hello' }, ...given };
}

export function backendBody(given: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    name: `backend ${Math.random().toString(36).slice(2)}`,
    protocol: 'gateway',
    url: 'http://127.0.0.1:9',
    ...given,
  };
}

/** A backend row that is up, without a ping. */
export async function insertUpBackend(db: Db, id: string, name = id): Promise<void> {
  await db.query(
    {
      text: `INSERT INTO backends (id, name, protocol, url, health_status) VALUES ($1, $2, 'gateway', 'http://127.0.0.1:9', 'up')`,
    },
    [id, name],
  );
}

/** What a dispatcher would have left behind: an accepted attempt of a task on a backend. */
export async function acceptTask(
  db: Db,
  taskId: string,
  backendId: string,
  state: 'DISPATCHED' | 'RUNNING' = 'DISPATCHED',
): Promise<void> {
  await db.query(
    {
      text: `INSERT INTO attempts (task_id, number, backend_id, idempotency_key, callback_url, signing_key_id, traceparent, outcome, external_id)
        VALUES ($1, 1, $2, $1 || '.1', '', '', '', 'accepted', 'agent-1')`,
    },
    [taskId, backendId],
  );
  const moves = state === 'RUNNING' ? (['DISPATCHED', 'RUNNING'] as const) : (['DISPATCHED'] as const);
  for (const to of moves) {
    await db.query(
      {
        text: `WITH moved AS (
          UPDATE tasks SET state = $2, version = version + 1, seq = seq + 1, attempt = 1, backend_id = $3, due_at = NULL,
            external_id = 'agent-1', dispatched_at = coalesce(dispatched_at, now()), started_at = CASE WHEN $2 = 'RUNNING' THEN now() END,
            updated_at = now() WHERE id = $1 RETURNING id, seq)
          INSERT INTO task_events (task_id, seq, type, from_state, to_state, at, attempt, backend_id, actor)
          SELECT id, seq, CASE WHEN $2 = 'RUNNING' THEN 'task.started' ELSE 'task.dispatched' END,
            CASE WHEN $2 = 'RUNNING' THEN 'DISPATCHED' ELSE 'PENDING' END, $2, now(), 1, $3, 'dispatcher' FROM moved`,
      },
      [taskId, to, backendId],
    );
  }
}
