import type { Db } from '../db/pool.js';
import { removeOld } from '../db/retention.js';
import type { Duty } from './duty.js';

/** Removes what ended longer ago than it is kept, in small steps with a rest between them. */
export function makeRetention(deps: { readonly db: Db; readonly keepMs: number }): Duty {
  return {
    name: 'retention',
    everyMs: 60_000,
    async runOnce(signal) {
      let removed = 0;
      for (let step = 0; step < 20 && !signal.aborted; step += 1) {
        const done = await removeOld(deps.db, deps.keepMs);
        removed += done.removed;
        if (!done.more) break;
      }
      return { removed };
    },
  };
}
