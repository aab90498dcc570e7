import { insertAudit } from '../db/audit.js';
import { countFenced, raiseFence } from '../db/fences.js';
import type { Db } from '../db/pool.js';
import { requireScope } from './auth.js';
import { bodyLimits, parseEnvelope, readBytes, textOf } from './body.js';
import { queryOf, sendJson, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { invalid } from './problems.js';
import { workspaceId as workspaceIdSchema } from './schema-parts.js';
import { dryRunQuery, stopInput } from './schema-task.js';

/** Kill-all and emergency stop: stored, and past every sender, before they are answered. */
export function stopRoutes(deps: { readonly db: Db }): readonly Route[] {
  const killAll = async (exchange: Exchange): Promise<void> => {
    const { caller, params } = exchange;
    const workspaceId = params['id'] ?? '';
    if (!workspaceIdSchema.safeParse(workspaceId).success) {
      throw invalid([{ pointer: '/id', detail: 'is not a workspace id' }]);
    }
    // Of its own workspace a key may; of any other, or without one, only an admin.
    if (caller.workspaceId !== workspaceId) requireScope(caller, 'admin');
    await stop(deps.db, exchange, workspaceId);
  };
  return [
    { method: 'POST', path: '/v1/workspaces/:id/kill-all', scope: 'tasks:write', handle: killAll },
    {
      method: 'POST',
      path: '/v1/emergency-stop',
      scope: 'admin',
      handle: (exchange) => stop(deps.db, exchange, null),
    },
  ];
}

async function stop(db: Db, { req, res, caller }: Exchange, workspaceId: string | null): Promise<void> {
  const { dryRun = false } = queryOf(req, dryRunQuery);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const { reason } = check(stopInput, parseEnvelope(text, { payloads: [] }));
  if (dryRun) {
    const matched = await countFenced(db, workspaceId);
    sendJson(res, 202, JSON.stringify({ matched, requested: 0 }));
    return;
  }
  const { id, matched } = await raiseFence(db, { workspaceId, actor: caller.actor, reason });
  const action = workspaceId === null ? 'emergency-stop' : 'workspace.killAll';
  const target = workspaceId ?? 'all';
  await insertAudit(db, [
    { actor: caller.actor, action, target, workspaceId, reason, detail: { matched, stop: id } },
  ]);
  sendJson(res, 202, JSON.stringify({ matched, requested: matched }));
}
