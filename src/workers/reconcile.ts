import { takeSilent, type AgentRow } from '../db/agents.js';
import type { Sql } from '../db/pool.js';
import type { TaskEvent } from '../domain/event.js';
import type { Logger } from '../logger.js';
import type { Clients } from '../orchestrators/client.js';
import { findAgent } from './ask.js';
import type { Duty } from './duty.js';
import type { FleetView } from './fleet.js';
import type { Mover } from './mover.js';

export type ReconcileDeps = {
  readonly db: Sql;
  readonly fleet: Pick<FleetView, 'target' | 'now'>;
  readonly clients: Clients;
  readonly mover: Mover;
  readonly everyMs: number;
  readonly silenceMs: number;
  readonly logger: Logger;
};

const perRun = 100;

/** What a backend says of an agent, as the event that it is to the task; null when it said nothing of use. */
export async function askAbout(
  deps: Pick<ReconcileDeps, 'fleet' | 'clients' | 'silenceMs'>,
  agent: AgentRow,
  signal: AbortSignal,
): Promise<TaskEvent | null> {
  const target = await deps.fleet.target(agent.backendId);
  const client = target === null ? undefined : deps.clients[target.protocol];
  if (target === null || client === undefined) return null;
  const found = await findAgent(client, target, agent, signal);
  const laterBy = (ms: number): Date => new Date(deps.fleet.now().getTime() + ms);
  if (found.kind === 'seen') {
    return { type: 'sighted', ...found.sighting, attempt: agent.attempt, askAt: laterBy(deps.silenceMs) };
  }
  if (found.kind === 'absent' && agent.externalId !== null) {
    // Once may be a hiccup of a restart: it is asked again soon, and only then believed.
    return { type: 'missing', attempt: agent.attempt, askAt: laterBy(Math.min(deps.silenceMs, 5000)) };
  }
  return null;
}

/** Asks backends about tasks that have been silent: lost callbacks are healed, and so are lost agents. */
export function makeReconcile(deps: ReconcileDeps): Duty {
  return {
    name: 'reconcile',
    everyMs: deps.everyMs,
    async runOnce(signal) {
      const agents = await takeSilent(deps.db, perRun, deps.silenceMs);
      const moves = await Promise.allSettled(
        agents.map(async (agent) => {
          const event = await askAbout(deps, agent, signal);
          if (event === null) return false;
          const result = await deps.mover.move({ taskId: agent.taskId, event });
          return result.kind === 'won' && result.after.state !== result.before.state;
        }),
      );
      const healed = moves.filter((move) => move.status === 'fulfilled' && move.value).length;
      return { healed };
    },
  };
}
