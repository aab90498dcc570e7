import type { Db } from './pool.js';

const rows = 500;

/* Small steps: each is one short statement, so that no lock and no bloat of it is ever felt. */
const removeTasks = {
  name: 'remove-old-tasks',
  text: `
WITH old AS (
  SELECT id FROM tasks WHERE finished_at < now() - $1 * interval '1 millisecond'
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.task_id = tasks.id AND a.ended_at IS NULL)
  ORDER BY finished_at LIMIT ${rows} FOR UPDATE SKIP LOCKED
), p AS (DELETE FROM task_payloads USING old WHERE task_id = old.id),
r AS (DELETE FROM task_results USING old WHERE task_id = old.id),
e AS (DELETE FROM task_events USING old WHERE task_id = old.id),
a AS (DELETE FROM attempts USING old WHERE task_id = old.id),
c AS (DELETE FROM callbacks USING old WHERE task_id = old.id)
DELETE FROM tasks USING old WHERE tasks.id = old.id RETURNING tasks.id`,
};

const removeHistory = {
  name: 'remove-old-history',
  text: `
DELETE FROM backend_health WHERE id IN (
  SELECT id FROM backend_health WHERE at < now() - $1 * interval '1 millisecond' ORDER BY id LIMIT ${rows})
RETURNING id`,
};

const removeProcesses = {
  name: 'remove-dead-processes',
  text: `DELETE FROM processes WHERE lease_until < now() - interval '1 day' RETURNING id`,
};

/** Removes one step of what is older than `keepMs`; `more` says that another step would find something. */
export async function removeOld(
  db: Db,
  keepMs: number,
): Promise<{ readonly removed: number; readonly more: boolean }> {
  const tasks = await db.query(removeTasks, [keepMs]);
  const history = await db.query(removeHistory, [keepMs]);
  const processes = await db.query(removeProcesses);
  const removed = tasks.length + history.length + processes.length;
  return { removed, more: tasks.length === rows || history.length === rows };
}
