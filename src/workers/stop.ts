import { insertAudit, type AuditEntry } from '../db/audit.js';
import { finishFence, listFenced, listOpenFences, type OpenFence } from '../db/fences.js';
import type { Db } from '../db/pool.js';
import type { Task } from '../domain/task.js';
import type { Duty } from './duty.js';
import type { Mover } from './mover.js';

const perBatch = 500;

/**
 * Carries a stop out: every task that it matches is cancelled or told to die, and each kill is audited. The stop
 * itself is a row, so a killed process' successor goes on where it was.
 */
export function makeStops(deps: { readonly db: Db; readonly mover: Mover }): Duty {
  const carryOut = async (fence: OpenFence, signal: AbortSignal): Promise<number> => {
    let stopped = 0;
    while (!signal.aborted) {
      const ids = await listFenced(deps.db, fence, perBatch);
      if (ids.length === 0) break;
      const kills = await Promise.all(ids.map((taskId) => cancel(fence, taskId)));
      const audited = kills.filter((entry) => entry !== null);
      if (audited.length === 0) break; // all of them are locked by others: next time
      await insertAudit(deps.db, audited);
      stopped += audited.length;
    }
    return stopped;
  };

  const cancel = async (fence: OpenFence, taskId: string): Promise<AuditEntry | null> => {
    const event = { type: 'cancelRequested', reason: fence.reason, actor: fence.actor } as const;
    const result = await deps.mover.move({ taskId, event });
    if (result.kind !== 'won') return null;
    return auditOf(fence, result.before);
  };

  return {
    name: 'stop',
    everyMs: 5000,
    wakenBy: 'fence',
    async runOnce(signal) {
      let stopped = 0;
      for (const fence of await listOpenFences(deps.db)) {
        stopped += await carryOut(fence, signal);
        // Creates that began before it may still be on their way: it stays open until none can be.
        const isDone = (await listFenced(deps.db, fence, 1)).length === 0;
        if (fence.isSettled && isDone) await finishFence(deps.db, fence.id);
      }
      return { stopped };
    },
  };
}

/** Who, what, why, and the state at that time; when is the row's own. */
const auditOf = (fence: OpenFence, task: Task): AuditEntry => ({
  actor: fence.actor,
  action: 'task.kill',
  target: task.id,
  workspaceId: task.workspaceId,
  reason: fence.reason,
  detail: { state: task.state, externalId: task.externalId, stop: fence.id },
});
