import { findLapsed, postponeClocks, readIntake } from '../db/agents.js';
import type { Sql } from '../db/pool.js';
import type { Duty } from './duty.js';
import type { Mover } from './mover.js';
import { askAbout, type ReconcileDeps } from './reconcile.js';

export type DeadlineDeps = Pick<ReconcileDeps, 'fleet' | 'clients' | 'silenceMs' | 'logger'> & {
  readonly db: Sql;
  readonly mover: Mover;
  readonly everyMs: number;
};

const perRun = 200;
/** A clock that our own gap gave more time is looked at again this often. */
const graceLookMs = 5000;

/**
 * Ends tasks whose clocks ran out (P10). Their backend is asked once before, and an end that it reports is taken;
 * while no callback door is open no clock runs out at all.
 */
export function makeDeadlines(deps: DeadlineDeps): Duty {
  return {
    name: 'deadlines',
    everyMs: deps.everyMs,
    async runOnce(signal) {
      const intake = await readIntake(deps.db);
      if (!intake.isOpen) return { ended: 0 };
      const { ids, agents } = await findLapsed(deps.db, perRun);
      const ended = await Promise.all(
        ids.map(async (taskId) => {
          const agent = agents.find((one) => one.taskId === taskId);
          const sighted = agent === undefined ? null : await askAbout(deps, agent, signal).catch(() => null);
          if (sighted?.type === 'sighted') await deps.mover.move({ taskId, event: sighted });
          const event = { type: 'clockRanOut', graceUntil: intake.resumedAt } as const;
          return (await deps.mover.move({ taskId, event })).kind === 'won' ? null : taskId;
        }),
      );
      const spared = ended.filter((taskId) => taskId !== null);
      if (spared.length > 0) await postponeClocks(deps.db, spared, graceLookMs);
      return { ended: ids.length - spared.length };
    },
  };
}
