import { delayMs, later } from './backoff.js';
import { dispatcher, type Draft } from './draft.js';
import type { Rules } from './rules.js';
import { isOpen, isTerminal, type Attempt, type AttemptOutcome } from './task.js';

/** The end of an attempt, and what its task, which may have waited for just that, makes of it. */

/**
 * No agent of this attempt lives any more, or nobody will ever know better: its slot is free. `error` is what is told
 * of that end; the doubts of earlier sends, and their statuses, are not.
 */
export function endAttempt(
  draft: Draft,
  attempt: Attempt,
  outcome: AttemptOutcome,
  error: string | null = null,
): void {
  draft.setAttempt(attempt.number, {
    outcome,
    error,
    httpStatus: attempt.outcome === 'accepted' ? attempt.httpStatus : null,
    endedAt: draft.now,
    awaySince: null,
    askAt: null,
    killDueAt: null,
  });
}

/**
 * A cancel that waited for an outcome is final as soon as no agent can be alive; until then the task waits for
 * their end alone, and is neither due nor held.
 *
 * @returns whether the task is cancelled, so that nothing else is to be made of it
 */
export function settleCancel(draft: Draft): boolean {
  const { task } = draft;
  if (task.cancelRequestedAt === null || isTerminal(task.state)) return false;
  if (task.attempts.some(isOpen)) draft.set({ dueAt: null, leasedBy: null, claims: 0, lane: null });
  else draft.end('CANCELLED', dispatcher, null, { reason: task.cancelReason });
  return true;
}

/**
 * After the end of an attempt that its task had gone on from: a cancelled task ends with its last agent, and one
 * that only waited for an earlier agent's end may go out now.
 */
export function goOnWithout(draft: Draft, rules: Rules): void {
  const { task } = draft;
  if (task.attempts.some(isOpen) || settleCancel(draft)) return;
  if (task.state !== 'PENDING' || task.dueAt === null || task.leasedBy !== null) return;
  const soon = later(draft.now, delayMs(task.spent, task.retry, rules.random));
  if (soon < task.dueAt) draft.set({ dueAt: soon });
}
