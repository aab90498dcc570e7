import { setTimeout as sleep } from 'node:timers/promises';
import { makeGather } from '../db/gather.js';
import { advanceTasks, type Advanced, type AdvanceLimits, type AdvanceRequest } from '../db/moves.js';
import { notifyAll } from '../db/notify.js';
import { isDataError, type Db } from '../db/pool.js';
import type { Logger } from '../logger.js';

/** Moves tasks, gathered: what comes while one batch is saved is the next batch (I9). */
export type Mover = {
  /** Once. A row that another holds is tried again for a while, and is `skipped` then. */
  move(request: AdvanceRequest): Promise<Advanced>;
  /** Until it is saved or `signal` says stop: for what would be forgotten otherwise, such as a send's outcome. */
  moveSurely(request: AdvanceRequest, signal: AbortSignal): Promise<Advanced>;
};

const skippedTries = 12;
/** Soon at first, since most locks are held for one short transaction; about 1.5 s in all. */
const skippedWaitMs = (tries: number): number => Math.min(10 * 2 ** (tries - 1), 200);

export function makeMover(options: {
  readonly db: Db;
  readonly limits: AdvanceLimits;
  readonly logger: Logger;
}): Mover {
  const { db, limits, logger } = options;
  const gather = makeGather<AdvanceRequest, Advanced>(
    async (requests) => {
      const results = await advanceTasks(db, requests, limits);
      ringFor(db, results);
      return results;
    },
    { rows: 200, bytes: 4 << 20, waitingBytes: 64 << 20 },
  );

  const move = async (request: AdvanceRequest): Promise<Advanced> => {
    for (let tries = 1; ; tries += 1) {
      const result = await gather(request);
      if (result.kind !== 'skipped' || tries >= skippedTries) return result;
      await sleep(skippedWaitMs(tries));
    }
  };

  return {
    move,
    async moveSurely(request, signal) {
      for (let waitMs = 50; ; waitMs = Math.min(waitMs * 2, 1000)) {
        try {
          const result = await move(request);
          if (result.kind !== 'skipped' || signal.aborted) return result;
        } catch (error) {
          // A fault of the data cannot heal by itself; everything else is a database that will be back.
          if (signal.aborted || isDataError(error)) throw error;
          logger.warn('move.delayed', { taskId: request.taskId, error });
        }
        await sleep(waitMs);
      }
    },
  };
}

/** Tells who waits for it: readers of these tasks, the kills, and whoever waits for a freed place. */
function ringFor(db: Db, results: readonly Advanced[]): void {
  const moved = results.filter(
    (result): result is Moved => 'after' in result && result.after !== result.before,
  );
  if (moved.length === 0) return;
  void notifyAll(db, [
    { channel: 'tasks', ids: [...new Set(moved.map(({ after }) => after.id))] },
    ...(moved.some(ordersKill) ? [{ channel: 'kills', ids: [] } as const] : []),
    ...(moved.some(freesPlace) ? [{ channel: 'release', ids: [] } as const] : []),
  ]);
}

type Moved = Extract<Advanced, { after: unknown }>;

const ordersKill = ({ before, after }: Moved): boolean =>
  after.attempts.some(
    (attempt, index) =>
      attempt.killDueAt !== null &&
      attempt.killTries === 0 &&
      attempt.killDueAt !== before.attempts[index]?.killDueAt,
  );

/** An agent ended, or a task came to wait: both want the release to look. */
const freesPlace = ({ before, after }: Moved): boolean =>
  (after.lane !== null && before.lane === null) ||
  after.attempts.some(({ endedAt }, index) => endedAt !== null && before.attempts[index]?.endedAt === null);
