import { notify } from '../db/notify.js';
import { saveProbe } from '../db/backend-health.js';
import type { Db } from '../db/pool.js';
import type { HealthPolicy } from '../domain/health.js';
import type { Logger } from '../logger.js';
import type { Clients } from '../orchestrators/client.js';
import type { FleetView } from './fleet.js';

export type PingDeps = {
  readonly db: Db;
  readonly fleet: Pick<FleetView, 'target'>;
  readonly clients: Clients;
  readonly policy: HealthPolicy & { readonly timeoutMs: number };
  readonly logger: Logger;
};

/** Tests whether one backend can be reached, and saves what that makes of its health. */
export function makePing(deps: PingDeps): (backendId: string) => Promise<void> {
  return async (backendId) => {
    const target = await deps.fleet.target(backendId);
    const client = target === null ? undefined : deps.clients[target.protocol];
    if (target === null || client === undefined) return;
    const probe = await client.probe(
      target,
      deps.policy.timeoutMs,
      AbortSignal.timeout(deps.policy.timeoutMs + 1000),
    );
    const saved = await saveProbe(deps.db, backendId, target.configVersion, probe, deps.policy);
    if (saved === null || saved.before.status === saved.after.status) return;
    const { status, reason, lastError } = saved.after;
    deps.logger.info(`backend.${status}`, {
      backendId,
      name: saved.name,
      was: saved.before.status,
      reason,
      lastError,
    });
    await notify(deps.db, 'backends', [backendId]);
    if (status === 'up') await notify(deps.db, 'release', []);
  };
}
