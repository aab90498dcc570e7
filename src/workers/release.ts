import { findFleet } from '../db/fleet.js';
import { findCandidates, releaseHeld } from '../db/held.js';
import type { Sql } from '../db/pool.js';
import { countPasses, placesFor, planRelease, type Candidate, type Passes } from '../domain/release.js';
import type { Ring } from '../queues/ring.js';
import type { Duty } from './duty.js';

/** More lanes than this take turns from run to run. */
const lanesPerRun = 100;

/**
 * Lets held tasks out, as many as can go. Level-triggered: each run looks at what is free and who waits; a bell
 * only calls it early.
 */
export function makeRelease(deps: {
  readonly db: Sql;
  readonly ring: Pick<Ring, 'ring'>;
  readonly everyMs: number;
}): Duty {
  let from = 0;
  let passes: Passes = new Map();
  return {
    name: 'release',
    everyMs: deps.everyMs,
    wakenBy: 'release',
    restMs: 20,
    async runOnce() {
      const fleet = await findFleet(deps.db);
      const lanes = fleet.heldLanes;
      if (lanes.length === 0) return { released: 0 };
      from = from >= lanes.length ? 0 : from;
      const candidates: Candidate[] = [];
      for (const lane of [...lanes.slice(from), ...lanes.slice(0, from)].slice(0, lanesPerRun)) {
        const places = placesFor(lane, fleet);
        if (places > 0) candidates.push(...(await findCandidates(deps.db, lane, Math.min(places, 1000))));
      }
      from += lanesPerRun;
      const ids = planRelease(candidates, fleet, passes);
      if (ids.length === 0) return { released: 0 };
      const released = await releaseHeld(deps.db, ids);
      passes = countPasses(candidates, released, passes);
      // In the planned order: who was first in line is first to be claimed.
      const ringing = ids.filter((id) => released.includes(id));
      await deps.ring.ring('dispatch', ringing);
      return { released: released.length };
    },
  };
}
