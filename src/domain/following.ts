import { delayMs, later } from './backoff.js';
import { dispatcher, settled, type Draft } from './draft.js';
import { dispatched } from './sending.js';
import type { Rules } from './rules.js';
import type { Attempt, Progress, TaskError } from './task.js';

/** How a task follows its agent, whether the agent called back or was seen by asking: both tell the same tale. */

const endings = { completed: 'completed', failed: 'failed', killed: 'killed' } as const;
export type Ending = keyof typeof endings;
export const isEnding = (word: string): word is Ending => word in endings;

export const actorOf = (attempt: Attempt | undefined): string => attempt?.backendId ?? 'backend';

export function reachDispatched(draft: Draft): void {
  if (draft.task.state === 'PENDING') dispatched(draft, { implied: true });
}

/** @returns whether it was not there yet */
export function reachRunning(draft: Draft, attempt: Attempt): boolean {
  reachDispatched(draft);
  if (draft.task.state !== 'DISPATCHED') return false;
  draft.go('RUNNING', 'task.started', actorOf(attempt), {
    startedAt: draft.now,
    lastHeardAt: draft.task.lastHeardAt ?? draft.now,
  });
  return true;
}

export function complete(draft: Draft, attempt: Attempt, detail: object): void {
  reachRunning(draft, attempt);
  draft.end('COMPLETED', actorOf(attempt), null, detail);
}

/** The agent failed: a new attempt if it says so and one is left, else the end with the agent's own error. */
export function fail(
  draft: Draft,
  attempt: Attempt,
  error: TaskError | null,
  rules: Rules,
  detail: object,
): void {
  reachDispatched(draft);
  const { task } = draft;
  const spent = task.spent + 1;
  draft.set({ spent });
  const retryable = error?.retryable === true && task.cancelRequestedAt === null;
  if (retryable && spent < task.retry.maxAttempts) {
    goBack(draft, attempt, rules, { ...detail, outcome: 'failed', error });
    return;
  }
  const message = 'the agent failed and gave no reason';
  const code =
    task.retry.maxAttempts > 1 && spent >= task.retry.maxAttempts ? 'ATTEMPTS_EXHAUSTED' : 'AGENT_FAILED';
  draft.end('FAILED', actorOf(attempt), error ?? { code, message, retryable: false }, detail);
}

/** Another attempt follows, on another backend if one fits. */
export function goBack(draft: Draft, attempt: Attempt, rules: Rules, detail: object): void {
  const { task } = draft;
  const dueAt = later(draft.now, delayMs(task.spent, task.retry, rules.random));
  const waiting = { reason: 'backing_off', detail: 'another attempt follows', until: dueAt } as const;
  draft.go(
    'PENDING',
    'task.retryScheduled',
    dispatcher,
    {
      ...settled,
      dueAt,
      waiting,
      avoid: [attempt.backendId],
      progress: null,
      lastHeardAt: null,
      dispatchedAt: null,
      startedAt: null,
      externalId: null,
    },
    { ...detail, until: dueAt },
  );
}

export function beKilled(draft: Draft, attempt: Attempt, detail: object): void {
  const reason = draft.task.cancelReason;
  if (draft.task.cancelRequestedAt !== null) draft.note('task.killConfirmed', actorOf(attempt), detail);
  reachDispatched(draft);
  draft.end('CANCELLED', actorOf(attempt), null, reason === null ? detail : { ...detail, reason });
}

/** Order comes from `sequence`; without one, progress only grows. Timestamps never order anything (P7). */
export function takeProgress(draft: Draft, next: Progress | null): boolean {
  if (next === null) return false;
  const last = draft.task.progress;
  if (last !== null && !isNewer(next, last)) return false;
  draft.set({ progress: next });
  return true;
}

export function isNewer(next: Progress, last: Progress): boolean {
  if (next.sequence !== last.sequence) return (next.sequence ?? -1) > (last.sequence ?? -1);
  if (next.percent !== last.percent) return next.percent > last.percent;
  // Same place: any fixed order will do, so long as every arrival order converges to it.
  if (next.message === null || last.message === null) return last.message === null && next.message !== null;
  return next.message > last.message;
}
