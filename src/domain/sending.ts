import { later } from './backoff.js';
import { dispatcher, refuse, settled, type Draft, type Refusal } from './draft.js';
import { endAttempt, settleCancel } from './ending.js';
import type { TaskEvent } from './event.js';
import { laneOf } from './routing.js';
import type { Rules } from './rules.js';
import { currentAttempt, isOpen, isTerminal, orderOf, type Attempt, type AttemptOutcome } from './task.js';

/** What the outcome of a send makes of a task. Each event names its attempt; a superseded one moves nothing (I7). */
type Of<T extends TaskEvent['type']> = Extract<TaskEvent, { type: T }>;

export function accept(draft: Draft, event: Of<'accepted'>, rules: Rules): Refusal | undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  if (attempt === undefined) return refuse('superseded');
  const isCurrent = attempt.number === draft.task.attempt;
  const wasOpen = isOpen(attempt);
  learnId(draft, attempt, event.externalId);
  if (wasOpen) {
    draft.setAttempt(attempt.number, {
      outcome: 'accepted',
      httpStatus: event.httpStatus,
      error: null,
      awaySince: null,
      missing: 0,
      askAt: attempt.killDueAt === null ? later(draft.now, rules.silenceMs) : null,
    });
  }
  if (!wasOpen) {
    // Nobody was thought to live any more, and here it is: its slot is taken again until it is killed, and nothing
    // but its end is of interest, for its task has ended or gone on.
    if (!wasThoughtGone(attempt)) return undefined;
    draft.setAttempt(attempt.number, { endedAt: null, outcome: 'accepted', missing: 0, reusable: false });
    killNow(draft, attempt, 'it was accepted after it had been given up');
    return undefined;
  }
  // It was given up, replaced or ended meanwhile: what was started by it has to go.
  if (!isCurrent || isTerminal(draft.task.state) || !attempt.reusable) {
    killNow(draft, attempt, 'it was accepted after the task had gone on');
    return undefined;
  }
  if (draft.task.state === 'PENDING')
    dispatched(draft, { externalId: event.externalId, httpStatus: event.httpStatus });
  if (draft.task.cancelRequestedAt !== null) killNow(draft, attempt, draft.task.cancelReason ?? 'cancelled');
  return undefined;
}

/** Ended without a word of the agent or of whoever killed it. */
function wasThoughtGone({ outcome, killTries }: Attempt): boolean {
  return outcome === 'given_up' || outcome === 'lost' || (outcome === 'killed' && killTries > 0);
}

/** PENDING → DISPATCHED, by the backend's answer or because something it said implies it. */
export function dispatched(draft: Draft, detail: object): void {
  draft.go(
    'DISPATCHED',
    'task.dispatched',
    dispatcher,
    { ...settled, failures: 0, avoid: [], dispatchedAt: draft.now },
    detail,
  );
}

export function learnId(draft: Draft, attempt: Attempt, externalId: string | null): void {
  if (externalId === null || attempt.externalId !== null) return;
  draft.setAttempt(attempt.number, { externalId });
  // A task that went back to PENDING has left this agent behind.
  const isShown = isOpen(attempt) || isTerminal(draft.task.state);
  if (attempt.number === draft.task.attempt && isShown) draft.set({ externalId });
}

function killNow(draft: Draft, attempt: Attempt, reason: string): void {
  draft.setAttempt(attempt.number, {
    killDueAt: draft.now,
    killSince: attempt.killSince ?? draft.now,
    killReason: attempt.killReason ?? reason,
    askAt: null,
  });
}

type Sent = { readonly attempt: number; readonly by?: string };

/** The attempt whose send is under way; an outcome that was saved before and comes again says nothing new. */
function sending(draft: Draft, event: Sent): Attempt | Refusal {
  const attempt = unsettled(draft, event);
  return isRefusal(attempt) || attempt.outcome === null ? attempt : refuse('stale');
}

/** The attempt that is not settled yet: current, open and not given up, on a PENDING task that is still this sender's. */
function unsettled(draft: Draft, { attempt: number, by }: Sent): Attempt | Refusal {
  const { task } = draft;
  if (isTerminal(task.state)) return refuse('over');
  if (by !== undefined && task.leasedBy !== by) return refuse('stale');
  const attempt = currentAttempt(task);
  if (attempt === null || attempt.number !== number) return refuse('superseded');
  if (task.state !== 'PENDING' || !isOpen(attempt) || !attempt.reusable) return refuse('stale');
  return attempt;
}

/**
 * Nothing was received by the only send of an attempt whose task has ended meanwhile: nobody is there to be
 * killed, and the slot is free. After an unclear send, or once it was accepted, only its agent's end says that.
 */
function freeUnreceived(draft: Draft, number: number, outcome: AttemptOutcome): Refusal | undefined {
  const attempt = draft.task.attempts.find((one) => one.number === number);
  const isFree =
    attempt !== undefined && isOpen(attempt) && attempt.outcome === null && attempt.unknownSends === 0;
  if (!isFree) return refuse('over');
  endAttempt(draft, attempt, outcome);
  return undefined;
}

const isRefusal = (value: Attempt | Refusal): value is Refusal => 'ok' in value;

export function returnUnsent(draft: Draft, event: Of<'notSent'>): Refusal | undefined {
  if (isTerminal(draft.task.state)) return freeUnreceived(draft, event.attempt, 'not_received');
  const attempt = sending(draft, event);
  if (isRefusal(attempt)) return attempt;
  // The claim counted a send that never was. An attempt that was uncertain before stays open and uncertain.
  const certain = attempt.unknownSends === 0;
  draft.setAttempt(attempt.number, {
    sends: attempt.sends - 1,
    ...(certain
      ? { endedAt: draft.now, outcome: 'not_received', error: event.reason }
      : { outcome: 'unknown' }),
  });
  const reason = certain ? 'queued' : 'confirming_outcome';
  draft.set({ ...settled, dueAt: draft.now, waiting: { reason, detail: event.reason, until: null } });
  settleCancel(draft);
  return undefined;
}

export function postpone(draft: Draft, event: Of<'postponed'>): Refusal | undefined {
  if (isTerminal(draft.task.state)) return freeUnreceived(draft, event.attempt, event.outcome);
  const attempt = sending(draft, event);
  if (isRefusal(attempt)) return attempt;
  if (attempt.unknownSends > 0) return refuse('stale'); // only certainty settles an uncertain attempt (I8)
  const { task } = draft;
  draft.setAttempt(attempt.number, {
    outcome: event.outcome,
    httpStatus: event.httpStatus,
    error: event.reason,
    endedAt: draft.now,
  });
  draft.set({
    ...settled,
    dueAt: event.dueAt,
    waiting: event.waiting,
    failures: task.failures + 1,
    avoid: event.avoids ? [...new Set([...task.avoid, attempt.backendId])] : task.avoid,
    orderAt: event.toTheBack ? orderOf(draft.now, task.priority) : task.orderAt,
  });
  draft.note('task.retryScheduled', dispatcher, {
    outcome: event.outcome,
    reason: event.reason,
    httpStatus: event.httpStatus,
    until: event.dueAt,
  });
  settleCancel(draft);
  return undefined;
}

export function reject(draft: Draft, event: Of<'rejected'>): Refusal | undefined {
  if (isTerminal(draft.task.state)) return freeUnreceived(draft, event.attempt, 'rejected');
  const attempt = sending(draft, event);
  if (isRefusal(attempt)) return attempt;
  if (attempt.unknownSends > 0) return refuse('stale');
  draft.setAttempt(attempt.number, {
    outcome: 'rejected',
    httpStatus: event.httpStatus,
    error: event.reason,
    endedAt: draft.now,
  });
  if (settleCancel(draft)) return undefined;
  const error = { code: 'BACKEND_REJECTED', message: event.reason, retryable: false };
  draft.end('FAILED', dispatcher, error, { httpStatus: event.httpStatus });
  return undefined;
}

export function stayUnknown(draft: Draft, event: Of<'outcomeUnknown'>): Refusal | undefined {
  const attempt = sending(draft, event);
  if (isRefusal(attempt)) return attempt;
  draft.setAttempt(attempt.number, {
    outcome: 'unknown',
    httpStatus: event.httpStatus,
    error: event.reason,
    unknownSends: Math.max(attempt.unknownSends + (event.spends ? 1 : 0), 1),
    awaySince: event.awaySince,
  });
  draft.set({
    ...settled,
    dueAt: event.dueAt,
    failures: draft.task.failures + 1,
    waiting: { reason: 'confirming_outcome', detail: event.reason, until: event.dueAt },
  });
  draft.note('task.outcomeUnknown', dispatcher, { reason: event.reason, httpStatus: event.httpStatus });
  // A cancelled task is never sent again: its agent, if there is one, is found and killed instead.
  settleCancel(draft);
  return undefined;
}

export function giveUpOutcome(draft: Draft, event: Of<'outcomeGivenUp'>): Refusal | undefined {
  const attempt = unsettled(draft, event);
  if (isRefusal(attempt)) return attempt;
  const { task } = draft;
  const spent = task.spent + 1;
  draft.setAttempt(attempt.number, {
    outcome: 'unknown',
    error: event.reason,
    reusable: false,
    unknownSends: Math.max(attempt.unknownSends, 1),
  });
  draft.set({ spent });
  // A cancelled task goes on waiting for the kill that was ordered then: it is no failure of its own.
  if (settleCancel(draft)) return undefined;
  if (task.retry.onUnknownOutcome === 'failover' && spent < task.retry.maxAttempts) {
    draft.orderKills('its outcome is unknown and another attempt follows');
    const dueAt = later(draft.now, event.killFirstMs);
    const detail = 'an earlier agent is being stopped first';
    const waiting = { reason: 'backing_off', detail, until: dueAt } as const;
    draft.set({ ...settled, dueAt, waiting, avoid: [...new Set([...task.avoid, attempt.backendId])] });
    draft.note('task.retryScheduled', dispatcher, { outcome: 'unknown', reason: event.reason, until: dueAt });
    return undefined;
  }
  const error = { code: 'DISPATCH_OUTCOME_UNKNOWN', message: event.reason, retryable: false };
  draft.end('FAILED', dispatcher, error);
  return undefined;
}

export function hold(draft: Draft, event: Of<'held'>): Refusal | undefined {
  const { task } = draft;
  const attempt = currentAttempt(task);
  if (isTerminal(task.state)) return refuse('over');
  // A doubled ring must not hold a task whose send is under way, nor one that was cancelled.
  if (task.state !== 'PENDING' || task.leasedBy !== null || task.cancelRequestedAt !== null)
    return refuse('stale');
  if (attempt !== null && isOpen(attempt) && attempt.reusable) return refuse('stale');
  // It was changed after it was looked at: its time has not come, or it may use other backends.
  if ((task.dueAt !== null && task.dueAt > draft.now) || event.lane !== laneOf(task.wish))
    return refuse('stale');
  const isNews = task.lane === null || task.waiting?.reason !== event.waiting.reason;
  draft.set({ dueAt: null, waiting: event.waiting, lane: event.lane });
  if (isNews)
    draft.note('task.held', dispatcher, { reason: event.waiting.reason, detail: event.waiting.detail });
  return undefined;
}
