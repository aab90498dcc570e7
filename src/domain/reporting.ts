import type { Rules } from './advance.js';
import { delayMs, later } from './backoff.js';
import { settled, type Draft, type Refusal } from './draft.js';
import type { Report, TaskEvent } from './event.js';
import { dispatched, dispatcher, learnId } from './sending.js';
import {
  isOpen,
  isTerminal,
  type Attempt,
  type AttemptOutcome,
  type Progress,
  type TaskError,
} from './task.js';

type Of<T extends TaskEvent['type']> = Extract<TaskEvent, { type: T }>;

export const endings = { completed: 'completed', failed: 'failed', killed: 'killed' } as const;
type Ending = keyof typeof endings;
export const isEnding = (word: string): word is Ending => word in endings;

/** A callback with a good token. What it says of an ended or superseded attempt is kept and moves nothing (P8). */
export function report(draft: Draft, event: Of<'reported'>, rules: Rules): Refusal | undefined {
  const { report: said } = event;
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  const isCurrent = event.attempt === draft.task.attempt;
  if (attempt !== undefined && isOpen(attempt)) {
    learnId(draft, attempt, said.sessionId);
    if (isEnding(said.status)) endAttempt(draft, attempt, endings[said.status]);
  }
  if (isTerminal(draft.task.state)) return aside(draft, 'callback.late', event);
  if (!isCurrent || attempt === undefined || !attempt.reusable)
    return aside(draft, 'callback.superseded', event);
  if (!isOpen(attempt)) return aside(draft, 'callback.late', event);
  hear(draft, attempt, said.receivedAt, rules);
  apply(draft, attempt, said, rules);
  return undefined;
}

function aside(
  draft: Draft,
  type: 'callback.late' | 'callback.superseded',
  event: Of<'reported'>,
): undefined {
  const { status, eventId, error } = event.report;
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  const about = attempt ?? ({ number: event.attempt, backendId: null } as unknown as Attempt);
  draft.note(type, actorOf(attempt), { status, eventId, error, callbackId: event.report.callbackId }, about);
}

/** A sign of life: clocks of silence start anew, and a doubt about the send is settled. */
function hear(draft: Draft, attempt: Attempt, at: Date, rules: Rules): void {
  const { lastHeardAt } = draft.task;
  draft.set({ lastHeardAt: lastHeardAt !== null && lastHeardAt > at ? lastHeardAt : at });
  const settles = attempt.outcome === null || attempt.outcome === 'unknown';
  if (!settles && attempt.missing === 0) return;
  draft.setAttempt(attempt.number, {
    missing: 0,
    awaySince: null,
    ...(settles ? { outcome: 'accepted' as const } : {}),
    ...(attempt.askAt === null && attempt.killDueAt === null ? { askAt: later(at, rules.silenceMs) } : {}),
  });
}

function apply(draft: Draft, attempt: Attempt, said: Report, rules: Rules): void {
  const actor = actorOf(attempt);
  const detail = { eventId: said.eventId, sequence: said.sequence };
  if (said.status === 'running' || said.status === 'progress') {
    const moved = reachRunning(draft, attempt);
    const progressed = takeProgress(draft, attempt, said.progress, said.sequence, detail);
    if (!moved && !progressed) draft.note('callback.duplicate', actor, { ...detail, status: said.status });
    return;
  }
  endAttempt(draft, attempt, endings[said.status]);
  if (said.status === 'completed') {
    reachRunning(draft, attempt);
    if (said.hasResult) draft.setResult({ callbackId: said.callbackId });
    draft.end('COMPLETED', actor, null, detail);
  } else if (said.status === 'failed') {
    fail(draft, attempt, agentError(said.error), rules, detail);
  } else {
    cancelled(draft, attempt, detail);
  }
}

function agentError(error: Report['error']): TaskError | null {
  return error === null
    ? null
    : { code: error.code ?? 'AGENT_FAILED', message: error.message, retryable: error.retryable };
}

export function reachDispatched(draft: Draft): boolean {
  if (draft.task.state !== 'PENDING') return false;
  dispatched(draft, { implied: true });
  return true;
}

export function reachRunning(draft: Draft, attempt: Attempt): boolean {
  reachDispatched(draft);
  if (draft.task.state !== 'DISPATCHED') return false;
  draft.go('RUNNING', 'task.started', actorOf(attempt), {
    startedAt: draft.now,
    lastHeardAt: draft.task.lastHeardAt ?? draft.now,
  });
  return true;
}

/** Order comes from `sequence`; without one, progress only grows. Timestamps never order anything (P7). */
export function takeProgress(
  draft: Draft,
  attempt: Attempt,
  next: { percent: number; message: string | null } | null,
  sequence: number | null,
  detail: object,
): boolean {
  if (next === null) return false;
  const last = draft.task.progress;
  if (last !== null && !isNewer({ ...next, sequence }, last)) return false;
  draft.set({ progress: { ...next, sequence } });
  draft.note('task.progress', actorOf(attempt), { ...detail, percent: next.percent, message: next.message });
  return true;
}

export function isNewer(next: Progress, last: Progress): boolean {
  if (next.sequence !== last.sequence) return (next.sequence ?? -1) > (last.sequence ?? -1);
  if (next.percent !== last.percent) return next.percent > last.percent;
  // Same place: any fixed order will do, so long as every arrival order converges to it.
  return (next.message ?? '') > (last.message ?? '');
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

export function cancelled(draft: Draft, attempt: Attempt, detail: object): void {
  const reason = draft.task.cancelReason;
  if (draft.task.cancelRequestedAt !== null) draft.note('task.killConfirmed', actorOf(attempt), detail);
  reachDispatched(draft);
  draft.end('CANCELLED', actorOf(attempt), null, reason === null ? detail : { ...detail, reason });
}

export function endAttempt(draft: Draft, attempt: Attempt, outcome: AttemptOutcome): void {
  draft.setAttempt(attempt.number, {
    outcome,
    endedAt: draft.now,
    awaySince: null,
    askAt: null,
    killDueAt: null,
  });
}

export const actorOf = (attempt: Attempt | undefined): string => attempt?.backendId ?? 'backend';

export function repeat(draft: Draft, event: Of<'repeated'>): Refusal | undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  // Duplicates too are a sign of life.
  if (event.attempt === draft.task.attempt && !isTerminal(draft.task.state))
    draft.set({ lastHeardAt: event.at });
  draft.note(
    'callback.duplicate',
    actorOf(attempt),
    { status: event.status, eventId: event.eventId },
    attempt ?? null,
  );
  return undefined;
}
