import { findUnapplied, findUnrung } from '../db/due.js';
import type { Sql } from '../db/pool.js';
import type { RingQueue } from '../queues/catalogue.js';
import type { Ring } from '../queues/ring.js';
import type { Duty } from './duty.js';

/** A fresh task or callback has a ring of its own on the way. */
const graceMs = 1000;
const limit = 1000;
/** While so many rings wait, more would only make the queue longer. */
const enoughWaiting = 50;

/** Rings again for work that no job is ringing for: whatever Valkey lost is due here again (I1). */
export function makeSweep(deps: { readonly db: Sql; readonly ring: Ring; readonly everyMs: number }): Duty {
  const ringFor = async (queue: RingQueue, find: () => Promise<readonly string[]>): Promise<number> => {
    const waiting = await deps.ring.depth(queue);
    // Unknown means that Valkey is away: then the workers take the work straight from Postgres.
    if (waiting === null || waiting >= enoughWaiting) return 0;
    const ids = await find();
    return (await deps.ring.ring(queue, ids)) ? ids.length : 0;
  };
  return {
    name: 'sweep',
    everyMs: deps.everyMs,
    async runOnce() {
      const [dispatch, transitions] = await Promise.all([
        ringFor('dispatch', () => findUnrung(deps.db, graceMs, limit)),
        ringFor('transitions', () => findUnapplied(deps.db, graceMs, limit)),
      ]);
      return { dispatch, transitions };
    },
  };
}
