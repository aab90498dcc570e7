import type { AgentRef, OrchestratorClient, Sighting, Target } from '../orchestrators/client.js';

export type Seen = Extract<Sighting, { kind: 'seen' }>;

/** What a backend tells of an agent, by whatever route it has: `absent` is its word, `cannotTell` is silence. */
export type Found =
  | { readonly kind: 'seen'; readonly sighting: Seen }
  | { readonly kind: 'absent' }
  | { readonly kind: 'cannotTell' }
  | { readonly kind: 'tryAgain'; readonly reason: string };

/** Asks the status route where the id is known, else the list for the task's session of this very attempt. */
export async function findAgent(
  client: OrchestratorClient,
  target: Target,
  agent: AgentRef,
  signal: AbortSignal,
): Promise<Found> {
  if (agent.externalId !== null) {
    const sighting = await client.status(target, { ...agent, externalId: agent.externalId }, signal);
    switch (sighting.kind) {
      case 'seen':
        return { kind: 'seen', sighting };
      case 'unknownThere':
        return sighting.proven === true ? { kind: 'absent' } : absentOrMute(client, target, agent, signal);
      case 'cannotTell':
        return { kind: 'cannotTell' };
      case 'tryAgain':
        return sighting;
    }
  }
  const listed = await client.find(target, agent.taskId, signal);
  if ('kind' in listed)
    return listed.kind === 'cannotTell'
      ? { kind: 'cannotTell' }
      : { kind: 'tryAgain', reason: listed.reason };
  const sighting = listed.find((one): one is Seen => one.kind === 'seen' && isOfAttempt(one, agent.attempt));
  return sighting === undefined ? { kind: 'absent' } : { kind: 'seen', sighting };
}

/**
 * A route that is missing and an agent that is gone answer with the same 404. A backend that has a list as well could
 * have told; one that has neither has told nothing, and its silent agents must not be taken for lost.
 */
async function absentOrMute(
  client: OrchestratorClient,
  target: Target,
  agent: AgentRef,
  signal: AbortSignal,
): Promise<Found> {
  const listed = await client.find(target, agent.taskId, signal);
  if ('kind' in listed)
    return listed.kind === 'cannotTell'
      ? { kind: 'cannotTell' }
      : { kind: 'tryAgain', reason: listed.reason };
  return { kind: 'absent' };
}

/**
 * A session that names its attempt is that attempt's. One that does not may be an earlier attempt's: it is
 * believed only while it lives and only for a first attempt, which has no earlier one.
 */
function isOfAttempt(sighting: Seen, attempt: number): boolean {
  if (sighting.attempt !== null) return sighting.attempt === attempt;
  const lives = sighting.state === 'spawning' || sighting.state === 'queued' || sighting.state === 'running';
  return lives && attempt === 1;
}
