import { later } from './backoff.js';
import type { Draft } from './draft.js';
import { endAttempt, goOnWithout } from './ending.js';
import type { Report, TaskEvent } from './event.js';
import { actorOf, beKilled, complete, fail, isEnding, reachRunning, takeProgress } from './following.js';
import type { Rules } from './rules.js';
import { learnId } from './sending.js';
import { isOpen, isTerminal, type Attempt, type Progress, type TaskError } from './task.js';

type Of<T extends TaskEvent['type']> = Extract<TaskEvent, { type: T }>;

/** A callback with a good token. What it says of an ended or superseded attempt is kept and moves nothing (P8). */
export function report(draft: Draft, event: Of<'reported'>, rules: Rules): undefined {
  const { report: said } = event;
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  const isCurrent = event.attempt === draft.task.attempt;
  if (attempt !== undefined) {
    learnId(draft, attempt, said.sessionId);
    if (isOpen(attempt) && isEnding(said.status))
      endAttempt(draft, attempt, said.status, said.error?.message);
  }
  if (isTerminal(draft.task.state)) {
    // Progress that its own end has overtaken still counts, or the order of arrival would show (P7).
    if (isCurrent && attempt?.outcome != null && isEnding(attempt.outcome))
      takeProgress(draft, progressOf(said));
    return aside(draft, 'callback.late', event, attempt);
  }
  if (!isCurrent || attempt === undefined || !attempt.reusable) {
    aside(draft, 'callback.superseded', event, attempt);
    goOnWithout(draft, rules);
    return undefined;
  }
  if (!isOpen(attempt)) return aside(draft, 'callback.late', event, attempt);
  hear(draft, attempt, said.receivedAt, rules);
  apply(draft, attempt, said, rules);
  return undefined;
}

function aside(
  draft: Draft,
  type: 'callback.late' | 'callback.superseded',
  event: Of<'reported'>,
  attempt: Attempt | undefined,
): undefined {
  const { status, eventId, error, callbackId } = event.report;
  const about = attempt ?? { number: event.attempt, backendId: null };
  draft.note(type, actorOf(attempt), { status, eventId, error, callbackId }, about);
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
  if (!isEnding(said.status)) {
    const moved = reachRunning(draft, attempt);
    const progressed = takeProgress(draft, progressOf(said));
    if (progressed) draft.note('task.progress', actor, { ...detail, ...said.progress });
    if (!moved && !progressed) draft.note('callback.duplicate', actor, { ...detail, status: said.status });
    return;
  }
  endAttempt(draft, attempt, said.status, said.error?.message);
  switch (said.status) {
    case 'completed':
      if (said.hasResult) draft.setResult({ callbackId: said.callbackId });
      complete(draft, attempt, detail);
      return;
    case 'failed':
      fail(draft, attempt, agentError(said.error), rules, detail);
      return;
    case 'killed':
      beKilled(draft, attempt, detail);
      return;
  }
}

function agentError(error: Report['error']): TaskError | null {
  return error === null
    ? null
    : { code: error.code ?? 'AGENT_FAILED', message: error.message, retryable: error.retryable };
}

const progressOf = ({ progress, sequence }: Report): Progress | null =>
  progress === null ? null : { ...progress, sequence };

export function repeat(draft: Draft, event: Of<'repeated'>): undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  // Duplicates too are a sign of life.
  if (event.attempt === draft.task.attempt && !isTerminal(draft.task.state))
    draft.set({ lastHeardAt: event.at });
  const detail = { status: event.status, eventId: event.eventId };
  draft.note('callback.duplicate', actorOf(attempt), detail, attempt ?? null);
}
