import { takeKills, type AgentRow } from '../db/agents.js';
import type { Sql } from '../db/pool.js';
import type { TaskEvent } from '../domain/event.js';
import type { Logger } from '../logger.js';
import type {
  AgentRef,
  Clients,
  KillAnswer,
  OrchestratorClient,
  Sighting,
  Target,
} from '../orchestrators/client.js';
import { findAgent } from './ask.js';
import type { Duty } from './duty.js';
import type { FleetView } from './fleet.js';
import type { Mover } from './mover.js';

export type KillDeps = {
  readonly db: Sql;
  readonly fleet: Pick<FleetView, 'target' | 'now'>;
  readonly clients: Clients;
  readonly mover: Mover;
  readonly silenceMs: number;
  readonly logger: Logger;
};

type KillVerdict = Extract<TaskEvent, { type: 'killAnswered' }>['answer'];
type Verdict =
  | { readonly answer: KillVerdict; readonly detail: string }
  | { readonly seen: Extract<Sighting, { kind: 'seen' }> };

const perRun = 100;

/** Tells agents to die, again and again, until their backend confirms it: attempts with `kill_due_at` are the outbox. */
export function makeKills(deps: KillDeps): Duty {
  const killOne = async (agent: AgentRow, signal: AbortSignal): Promise<void> => {
    if (agent.isSending && agent.externalId === null) {
      // Its id is on the way: asking now would only hear "unknown".
      await answer(agent, { answer: 'pending', detail: 'its send is under way' }, 500);
      return;
    }
    const target = await deps.fleet.target(agent.backendId);
    const client = target === null ? undefined : deps.clients[target.protocol];
    const verdict: Verdict =
      target === null || client === undefined
        ? { answer: 'away', detail: 'its backend cannot be called any more' }
        : await tellAndAsk(client, target, agent, signal);
    await answer(agent, verdict, againMs(agent.killTries));
  };

  const answer = async (agent: AgentRow, verdict: Verdict, inMs: number): Promise<void> => {
    const nextAt = new Date(deps.fleet.now().getTime() + inMs);
    const event: TaskEvent =
      'seen' in verdict
        ? { type: 'sighted', ...verdict.seen, attempt: agent.attempt, askAt: nextAt }
        : { type: 'killAnswered', attempt: agent.attempt, ...verdict, nextAt };
    await deps.mover.move({ taskId: agent.taskId, event });
  };

  return {
    name: 'kill',
    everyMs: 1000,
    wakenBy: 'kills',
    restMs: 10,
    async runOnce(signal) {
      const agents = await takeKills(deps.db, perRun);
      const done = await Promise.allSettled(agents.map((agent) => killOne(agent, signal)));
      for (const result of done) {
        if (result.status === 'rejected')
          deps.logger.warn('kill.delayed', { error: result.reason as unknown });
      }
      return { told: agents.length };
    },
  };
}

/** The first answers are awaited impatiently: who cancels is watching. */
const againMs = (tries: number): number => Math.min(250 * 2 ** Math.min(tries, 8), 30_000);

/** Tells the agent to die and asks what became of it. Only a word of the backend confirms; a bare 2xx is none. */
async function tellAndAsk(
  client: OrchestratorClient,
  target: Target,
  agent: AgentRow,
  signal: AbortSignal,
): Promise<Verdict> {
  const ref: AgentRef = { taskId: agent.taskId, attempt: agent.attempt, externalId: agent.externalId };
  const externalId = agent.externalId ?? (await idOf(client, target, ref, signal));
  if (typeof externalId !== 'string') return externalId;
  const named = { ...ref, externalId };
  const told = await client.kill(target, named, agent.killReason ?? 'cancelled', signal);
  if (told.kind === 'killed') return { answer: 'confirmed', detail: 'the kill was answered with killed' };
  if (told.kind === 'tryAgain') return { answer: 'away', detail: told.reason };
  const asked = await client.status(target, named, signal);
  if (asked.kind === 'seen') return endOf(asked);
  return verdictOf(told.kind, asked);
}

/**
 * A 404 of the status route says that there is no such agent, or no such route: with whatever the kill was answered
 * it counts, but only when it comes twice.
 */
function verdictOf(told: KillAnswer['kind'], asked: Exclude<Sighting, { kind: 'seen' }>): Verdict {
  const isKillable = told !== 'cannotKill';
  if (asked.kind === 'unknownThere' && isKillable) {
    return {
      answer: 'missing',
      detail: `the status route does not know the agent; the kill: ${words[told]}`,
    };
  }
  if (asked.kind === 'cannotTell' && told === 'told') {
    return { answer: 'confirmed', detail: 'the kill was accepted and there is no status route to ask' };
  }
  if (asked.kind === 'cannotTell' && told === 'over') {
    return { answer: 'missing', detail: 'the kill says that it is over and there is no status route to ask' };
  }
  return { answer: 'pending', detail: 'reason' in asked ? asked.reason : 'nothing knows the agent' };
}

const words: Readonly<Record<KillAnswer['kind'], string>> = {
  killed: 'killed',
  told: 'accepted',
  over: 'it is over',
  unknownThere: 'unknown too',
  cannotKill: 'no such route',
  tryAgain: 'no answer',
};

function endOf(asked: Extract<Sighting, { kind: 'seen' }>): Verdict {
  const lives = asked.state === 'spawning' || asked.state === 'queued' || asked.state === 'running';
  return lives ? { answer: 'pending', detail: `the agent is still ${asked.state}` } : { seen: asked };
}

/** An agent whose id was never told is looked for by its task; where that is impossible nothing can confirm its end. */
async function idOf(
  client: OrchestratorClient,
  target: Target,
  agent: AgentRef,
  signal: AbortSignal,
): Promise<string | Verdict> {
  const found = await findAgent(client, target, agent, signal);
  switch (found.kind) {
    case 'seen':
      return found.sighting.externalId ?? endOf(found.sighting);
    case 'absent':
      return { answer: 'unlisted', detail: 'the backend lists no agent of this attempt' };
    case 'cannotTell':
      return { answer: 'pending', detail: 'the agent has no id that it could be killed by' };
    case 'tryAgain':
      return { answer: 'away', detail: found.reason };
  }
}
