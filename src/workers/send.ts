import { setTimeout as sleep } from 'node:timers/promises';
import type { TaskEvent } from '../domain/event.js';
import { DispatcherError } from '../domain/errors.js';
import { lessonOf } from '../domain/health.js';
import type { Outcome } from '../domain/outcome.js';
import { othersFit } from '../domain/routing.js';
import { settle } from '../domain/settle.js';
import type { Task } from '../domain/task.js';
import type { TaughtLesson } from '../db/backend-health.js';
import type { Claimed } from '../db/claim.js';
import { isStillClaimed } from '../db/due.js';
import type { Sql } from '../db/pool.js';
import type { Lease } from '../db/processes.js';
import { attemptOf } from '../db/attempt-row.js';
import type { Logger } from '../logger.js';
import type { CallbackTokens } from '../orchestrators/callback-token.js';
import type { Clients, OrchestratorClient, Target } from '../orchestrators/client.js';
import { spawnBody } from '../orchestrators/spawn-request.js';
import { findAgent } from './ask.js';
import type { FleetView } from './fleet.js';

export type SendDeps = {
  readonly db: Sql;
  readonly clients: Clients;
  readonly fleet: FleetView;
  readonly lease: Pick<Lease, 'id' | 'holds' | 'isFenced'>;
  readonly tokens: CallbackTokens;
  readonly teach: (lesson: TaughtLesson) => Promise<void>;
  readonly giveUpAfterMs: number;
  readonly silenceMs: number;
  readonly logger: Logger;
};

/**
 * Sends one claimed attempt, or asks for what became of its earlier send, and says what that is to the task.
 * Everything that goes wrong out there is a value; what throws here is a bug or a broken configuration of ours.
 */
export async function sendClaimed(
  deps: SendDeps,
  task: Task,
  claimed: Claimed,
  signal: AbortSignal,
): Promise<TaskEvent> {
  const attempt = attemptOf(claimed.attempt);
  const by = deps.lease.id;
  const unsent = (reason: string): TaskEvent => ({ type: 'notSent', attempt: attempt.number, reason, by });
  if (claimed.waitMs > 0) {
    await sleep(claimed.waitMs, undefined, { signal }).catch(() => undefined);
    // Much can happen in up to a second: what was cancelled or has ended meanwhile is not begun any more (P11).
    if (!(await isStillClaimed(deps.db, task.id, by))) return unsent('the task went on while it waited');
  }
  if (signal.aborted) return unsent('the process is stopping');
  const target = await findTarget(deps, attempt.backendId);
  if (target !== null && 'unusable' in target) {
    if (target.unusable === 'unread') return unsent('its backend could not be read');
    await teachUnreadable(deps, attempt.backendId);
    return unsent('the credential of its backend cannot be opened');
  }
  const client = target === null ? undefined : deps.clients[target.protocol];
  if (target === null || client === undefined) return unsent('the backend cannot be called any more');

  if (attempt.unknownSends > 0) {
    const found = await findAgent(
      client,
      target,
      { taskId: task.id, attempt: attempt.number, externalId: attempt.externalId },
      signal,
    );
    if (found.kind === 'seen')
      return { type: 'sighted', ...found.sighting, attempt: attempt.number, askAt: askAt(deps) };
    if (found.kind === 'tryAgain') {
      return settled(deps, task, claimed, target, { kind: 'notReceived', reason: found.reason });
    }
  }
  const outcome = await spawn(deps, client, target, task, claimed, signal);
  if (typeof outcome === 'string') return unsent(outcome);
  return settled(deps, task, claimed, target, outcome);
}

/** A credential that no key of ours opens is a fault of the configuration: it holds that backend, and poisons no task. */
async function findTarget(
  deps: SendDeps,
  backendId: string,
): Promise<Target | null | { readonly unusable: 'unreadable' | 'unread' }> {
  try {
    return await deps.fleet.target(backendId);
  } catch (error) {
    deps.logger.warn('backend.unusable', { backendId, error });
    const isUnreadable = error instanceof DispatcherError && error.code === 'credential_unreadable';
    return { unusable: isUnreadable ? 'unreadable' : 'unread' };
  }
}

async function teachUnreadable(deps: SendDeps, backendId: string): Promise<void> {
  const configVersion = deps.fleet.find(backendId)?.configVersion;
  if (configVersion === undefined) return;
  const reason = 'its credential was sealed with a key that is not configured any more';
  await deps.teach({ backendId, configVersion, lesson: { kind: 'misconfigured', reason } });
  deps.fleet.forget();
}

const askAt = (deps: SendDeps): Date => new Date(deps.fleet.now().getTime() + deps.silenceMs);

function refusalBeforeWrite(deps: SendDeps, task: Task, isUncertain: boolean, target: Target): string | null {
  if (!deps.lease.holds()) return 'the lease of the process ran out';
  if (deps.lease.isFenced(task)) return 'a stop was raised';
  const mode = deps.fleet.find(target.id)?.mode;
  if (mode === 'disabled' || (mode === 'draining' && !isUncertain)) return `the backend is ${mode}`;
  return null;
}

/**
 * The send itself, or why not a byte of it left: a paused process, a stop or a drained backend sends nothing. That is
 * looked at before connecting and again right before the socket is written, for a connection may take seconds to come
 * about, and a stop may have been answered meanwhile.
 */
async function spawn(
  deps: SendDeps,
  client: OrchestratorClient,
  target: Target,
  task: Task,
  claimed: Claimed,
  signal: AbortSignal,
): Promise<Outcome | string> {
  const { number, unknown_sends: doubts } = claimed.attempt;
  let refusal = refusalBeforeWrite(deps, task, doubts > 0, target);
  if (refusal !== null) return refusal;
  const { token } = deps.tokens.sign(task.id, number, claimed.signingKeyId);
  const body = spawnBody(
    { ...task, attempt: number },
    claimed.context,
    claimed.metadata,
    claimed.callbackUrl,
    token,
  );
  const outcome = await client.spawn(
    target,
    {
      taskId: task.id,
      attempt: number,
      idempotencyKey: claimed.idempotencyKey,
      body,
      traceparent: claimed.traceparent,
      timeoutMs: task.timeouts.dispatchMs,
      mayLeave: () => {
        refusal = refusalBeforeWrite(deps, task, doubts > 0, target);
        return refusal === null;
      },
    },
    signal,
  );
  return refusal ?? outcome;
}

async function settled(
  deps: SendDeps,
  task: Task,
  claimed: Claimed,
  target: Target,
  outcome: Outcome,
): Promise<TaskEvent> {
  const attempt = attemptOf(claimed.attempt);
  const backend = deps.fleet.find(target.id);
  const now = deps.fleet.now();
  const lesson = lessonOf(outcome, { now, random: Math.random(), failures: task.failures });
  if (lesson !== null) {
    // Before the task moves: whoever routes it next must not choose the same backend for want of this.
    await deps.teach({ backendId: target.id, configVersion: target.configVersion, lesson });
    if (lesson.kind !== 'fine') deps.fleet.forget();
  }
  const fleet = outcome.kind === 'notReceived' ? await deps.fleet.look() : null;
  const event = settle(task, attempt, outcome, {
    now,
    random: Math.random(),
    othersFit: fleet !== null && othersFit(task, target.id, fleet),
    backendGone: backend !== undefined && backend.deletedAt !== null,
    giveUpAfterMs: deps.giveUpAfterMs,
    silenceMs: deps.silenceMs,
  });
  return event.type === 'accepted' ? event : { ...event, by: deps.lease.id };
}
