import { clockThatRanOut } from './clocks.js';
import { dispatcher, refuse, type Draft, type Refusal } from './draft.js';
import { endAttempt, goOnWithout } from './ending.js';
import type { TaskEvent } from './event.js';
import type { Rules } from './rules.js';
import { isOpen, isTerminal, type Attempt } from './task.js';

type Of<T extends TaskEvent['type']> = Extract<TaskEvent, { type: T }>;

/** An agent that will not be confirmed dead is told so for this long; then its slot is freed, and the timeline says it. */
export const killForMs = 24 * 60 * 60 * 1000;

/** Final at once where no agent can be alive; else the kill is ordered and only its confirmation ends the task (P11). */
export function requestCancel(draft: Draft, event: Of<'cancelRequested'>): Refusal | undefined {
  const { task } = draft;
  if (isTerminal(task.state)) return refuse('over');
  if (task.cancelRequestedAt !== null) return refuse('stale');
  draft.set({ cancelRequestedAt: draft.now, cancelReason: event.reason });
  if (!task.attempts.some(isOpen)) {
    draft.end('CANCELLED', event.actor, null, { reason: event.reason });
    return undefined;
  }
  draft.note('task.cancelRequested', event.actor, { reason: event.reason });
  draft.orderKills(event.reason);
  // While a send is under way its outcome decides; otherwise nothing is sent any more.
  if (draft.task.leasedBy === null) draft.set({ dueAt: null, lane: null });
  return undefined;
}

/** What the backend said to a kill, and to the question after it. */
export function takeKillAnswer(draft: Draft, event: Of<'killAnswered'>, rules: Rules): Refusal | undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  if (attempt === undefined || !isOpen(attempt)) return refuse('superseded');
  // Nobody was told to kill it: such an answer is of another agent.
  if (attempt.killDueAt === null) return refuse('stale');
  const missing = provesAbsence(event, attempt, draft.now, rules) ? attempt.missing + 1 : 0;
  if (event.answer === 'confirmed' || missing >= 2) {
    endAttempt(draft, attempt, 'killed');
    draft.note('task.killConfirmed', attempt.backendId, { detail: event.detail }, attempt);
    goOnWithout(draft, rules);
    return undefined;
  }
  const awaySince = event.answer === 'away' ? (attempt.awaySince ?? draft.now) : null;
  draft.setAttempt(attempt.number, {
    missing,
    awaySince,
    killTries: attempt.killTries + 1,
    killDueAt: event.nextAt,
  });
  if (attempt.killTries === 0) draft.note('task.killSent', dispatcher, { detail: event.detail }, attempt);
  if (isOverdue(attempt, awaySince, draft.now, rules))
    abandon(draft, attempt, 'nobody confirmed the kill in time');
  return undefined;
}

/** What timed out here may be taken up there a little later: an empty list counts only after the usual silence. */
function provesAbsence(event: Of<'killAnswered'>, attempt: Attempt, now: Date, rules: Rules): boolean {
  if (event.answer === 'missing') return true;
  return event.answer === 'unlisted' && ageMs(attempt.killSince, now) >= rules.silenceMs;
}

const ageMs = (since: Date | null, now: Date): number =>
  since === null ? 0 : now.getTime() - since.getTime();

function isOverdue(attempt: Attempt, awaySince: Date | null, now: Date, rules: Rules): boolean {
  return ageMs(attempt.killSince, now) >= killForMs || ageMs(awaySince, now) >= rules.giveUpAfterMs;
}

/** The slot is freed and the timeline says that the agent may still run; a cancelled task ends KILL_UNCONFIRMED. */
function abandon(draft: Draft, attempt: Attempt, reason: string, actor: string = dispatcher): void {
  endAttempt(draft, attempt, 'given_up', reason);
  draft.note('task.killGivenUp', actor, { reason }, attempt);
  const { task } = draft;
  if (isTerminal(task.state) || task.cancelRequestedAt === null || task.attempts.some(isOpen)) return;
  const error = { code: 'KILL_UNCONFIRMED', message: `${reason}; the agent may still run`, retryable: false };
  draft.end('FAILED', actor, error);
}

export function giveUpKill(draft: Draft, event: Of<'gaveUp'>): Refusal | undefined {
  const open = draft.task.attempts.filter(isOpen);
  if (isTerminal(draft.task.state)) return refuse('over');
  if (draft.task.cancelRequestedAt === null) return refuse('stale');
  for (const attempt of open) abandon(draft, attempt, event.reason, event.actor);
  return undefined;
}

/** A clock has run out and the backend, asked once, knew no end: FAILED by the clock's own code (P10). */
export function runOut(draft: Draft, event: Of<'clockRanOut'>): Refusal | undefined {
  if (isTerminal(draft.task.state)) return refuse('over');
  const clock = clockThatRanOut(draft.task, draft.now, event.graceUntil);
  if (clock === null) return refuse('stale');
  const message = `${clock.code.toLowerCase().replaceAll('_', ' ')} at ${clock.at.toISOString()}`;
  draft.end('FAILED', dispatcher, { code: clock.code, message, retryable: false });
  return undefined;
}

export function quarantine(draft: Draft, event: Of<'quarantined'>): Refusal | undefined {
  if (isTerminal(draft.task.state)) return refuse('over');
  draft.end('FAILED', dispatcher, { code: 'QUARANTINED', message: event.reason, retryable: false });
  return undefined;
}
