import { delayMs, later } from './backoff.js';
import type { TaskEvent } from './event.js';
import type { Outcome } from './outcome.js';
import type { Attempt, Task, WaitingReason } from './task.js';

/** What settling may look at besides the task and its outcome. */
export type SettleContext = {
  readonly now: Date;
  readonly random: number;
  /** Another backend that this task may use is up. */
  readonly othersFit: boolean;
  /** The backend was deleted: nobody will ever answer. */
  readonly backendGone: boolean;
  readonly giveUpAfterMs: number;
  /** How long an earlier agent is told to die before the next attempt is sent. */
  readonly silenceMs: number;
};

/** What a send can be to its task. */
export type SendVerdict = Extract<
  TaskEvent,
  { type: 'accepted' | 'postponed' | 'rejected' | 'outcomeUnknown' | 'outcomeGivenUp' }
>;

/** A doubt is asked about at least this often, however far the backoff has grown. */
const askAgainWithinMs = 10_000;

/**
 * The event that one send's outcome is to its task. The attempt brings its earlier sends: it is as uncertain as
 * the most uncertain of them, and after an unknown one only an acceptance settles it (I8).
 */
export function settle(task: Task, attempt: Attempt, outcome: Outcome, context: SettleContext): SendVerdict {
  const attemptNumber = { attempt: attempt.number };
  if (outcome.kind === 'accepted') {
    return {
      type: 'accepted',
      ...attemptNumber,
      externalId: outcome.externalId,
      httpStatus: outcome.httpStatus,
    };
  }
  if (outcome.kind === 'unknown' || attempt.unknownSends > 0)
    return stayOrGiveUp(task, attempt, outcome, context);
  const failures = task.failures + 1;
  const backoffMs = delayMs(failures, task.retry, context.random);
  switch (outcome.kind) {
    case 'rejected':
      return { type: 'rejected', ...attemptNumber, httpStatus: outcome.httpStatus, reason: outcome.reason };
    case 'notReceived': {
      const dueAt = context.othersFit ? context.now : later(context.now, backoffMs);
      return {
        type: 'postponed',
        ...attemptNumber,
        outcome: 'not_received',
        httpStatus: null,
        reason: outcome.reason,
        waiting: waiting('backing_off', outcome.reason, dueAt),
        dueAt,
        avoids: true,
        toTheBack: false,
      };
    }
    case 'misconfigured': {
      // The backend is marked down beside this; routing holds the task or finds another for it.
      const { httpStatus, reason } = outcome;
      return {
        type: 'postponed',
        ...attemptNumber,
        outcome: 'misconfigured',
        httpStatus,
        reason,
        waiting: waiting('backend_down', reason, null),
        dueAt: context.now,
        avoids: true,
        toTheBack: false,
      };
    }
    case 'later': {
      const { httpStatus, reason } = outcome;
      const whole = outcome.holds === 'backend';
      const dueAt = whole ? context.now : later(context.now, outcome.retryAfterMs ?? backoffMs);
      return {
        type: 'postponed',
        ...attemptNumber,
        outcome: 'later',
        httpStatus,
        reason,
        waiting: waiting(whole ? 'rate_limited' : 'backing_off', reason, whole ? null : dueAt),
        dueAt,
        avoids: false,
        toTheBack: true,
      };
    }
  }
}

const waiting = (reason: WaitingReason, detail: string, until: Date | null) => ({ reason, detail, until });

/** The same backend is asked again, until it answers, its sends are over, or it has been away too long. */
function stayOrGiveUp(
  task: Task,
  attempt: Attempt,
  outcome: Exclude<Outcome, { kind: 'accepted' }>,
  context: SettleContext,
): SendVerdict {
  const { now } = context;
  // A refusal after a doubt is no verdict, but it was an answer to a whole send: it counts like one.
  const spends = outcome.kind === 'unknown' || outcome.kind === 'rejected';
  const isAway = outcome.kind === 'notReceived' || outcome.kind === 'misconfigured';
  const awaySince = isAway ? (attempt.awaySince ?? now) : null;
  const sendsAreOver = spends && attempt.unknownSends + 1 >= task.retry.maxSends;
  const awayTooLong = awaySince !== null && now.getTime() - awaySince.getTime() >= context.giveUpAfterMs;
  if (sendsAreOver || awayTooLong || context.backendGone) {
    const reason = `whether the backend started an agent stayed unknown: ${outcome.reason}`;
    return { type: 'outcomeGivenUp', attempt: attempt.number, reason, killFirstMs: context.silenceMs };
  }
  const backoffMs = Math.min(delayMs(task.failures + 1, task.retry, context.random), askAgainWithinMs);
  const waitMs = outcome.kind === 'later' ? (outcome.retryAfterMs ?? backoffMs) : backoffMs;
  return {
    type: 'outcomeUnknown',
    attempt: attempt.number,
    httpStatus: 'httpStatus' in outcome ? outcome.httpStatus : null,
    reason: outcome.reason,
    dueAt: later(now, waitMs),
    spends,
    awaySince,
  };
}
