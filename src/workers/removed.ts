import { findUnsettledOnRemoved } from '../db/agents.js';
import type { Sql } from '../db/pool.js';
import type { TaskEvent } from '../domain/event.js';
import type { Duty } from './duty.js';
import type { Mover } from './mover.js';

/** Settles what a removed backend can never settle: unknown outcomes at once, unconfirmed kills after their time. */
export function makeRemoved(deps: {
  readonly db: Sql;
  readonly mover: Mover;
  readonly giveUpAfterMs: number;
  readonly silenceMs: number;
}): Duty {
  return {
    name: 'removed',
    everyMs: 10_000,
    wakenBy: 'backends',
    restMs: 250,
    async runOnce() {
      const unsettled = await findUnsettledOnRemoved(deps.db, deps.giveUpAfterMs, 500);
      await Promise.all(
        unsettled.map(({ id, attempt, isCancelling }) => {
          const reason = 'its backend was removed';
          const event: TaskEvent = isCancelling
            ? { type: 'gaveUp', reason, actor: 'dispatcher' }
            : { type: 'outcomeGivenUp', attempt, reason, killFirstMs: deps.silenceMs };
          return deps.mover.move({ taskId: id, event });
        }),
      );
      return { settled: unsettled.length };
    },
  };
}
