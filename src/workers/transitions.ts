import { noteSpoilt } from '../db/callbacks.js';
import { advanceTasks, type AdvanceLimits } from '../db/moves.js';
import { isDataError, type Db } from '../db/pool.js';
import type { Logger } from '../logger.js';
import type { Mover } from './mover.js';

export type TransitionDeps = {
  readonly db: Db;
  readonly mover: Mover;
  readonly limits: AdvanceLimits;
  readonly logger: Logger;
};

/**
 * Folds the stored callbacks of the tasks that were rung for. A task whose fold fails is folded alone, counted,
 * and set aside after five failures: one that is spoilt stops nobody (P15).
 */
export function makeTransitions(deps: TransitionDeps): (ids: readonly string[]) => Promise<void> {
  const foldAlone = async (taskId: string): Promise<void> => {
    try {
      await advanceTasks(deps.db, [{ taskId, event: null }], deps.limits);
    } catch (error) {
      const isOurs =
        isDataError(error) || error instanceof TypeError || error instanceof RangeError || isIllegal(error);
      if (!isOurs) throw error; // the database is away: the callbacks stay unapplied and are rung again
      const { parked } = await noteSpoilt(deps.db, taskId);
      deps.logger.error('callback.spoilt', { taskId, parked, error });
    }
  };
  return async (ids) => {
    const folded = await Promise.allSettled(ids.map((taskId) => deps.mover.move({ taskId, event: null })));
    const failed = ids.filter((_, index) => folded[index]?.status === 'rejected');
    for (const taskId of failed) await foldAlone(taskId);
  };
}

const isIllegal = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'illegal_move';
