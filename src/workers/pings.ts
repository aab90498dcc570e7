import { listBackendIds } from '../db/backend-health.js';
import type { Sql } from '../db/pool.js';
import type { Pings } from '../queues/pings.js';
import type { Duty } from './duty.js';

/** Keeps one repeatable ping job a backend in Valkey, and puts them again when a wipe has forgotten them. */
export function makePingJobs(deps: { readonly db: Sql; readonly pings: Pings }): Duty {
  return {
    name: 'pings',
    everyMs: 30_000,
    wakenBy: 'backends',
    restMs: 100,
    async runOnce() {
      await deps.pings.put(await listBackendIds(deps.db));
      return {};
    },
  };
}
