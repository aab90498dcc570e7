import { dispatcher, refuse, type Draft, type Refusal } from './draft.js';
import { endAttempt, goOnWithout } from './ending.js';
import type { TaskEvent } from './event.js';
import {
  actorOf,
  beKilled,
  complete,
  fail,
  goBack,
  isEnding,
  reachDispatched,
  reachRunning,
  takeProgress,
} from './following.js';
import type { Rules } from './rules.js';
import { learnId } from './sending.js';
import { isOpen, isTerminal, type Attempt } from './task.js';

type Of<T extends TaskEvent['type']> = Extract<TaskEvent, { type: T }>;

/** What the backend says when asked. It heals lost callbacks, and is no sign of life to the heartbeat clock. */
export function sight(draft: Draft, event: Of<'sighted'>, rules: Rules): Refusal | undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  if (attempt === undefined || !isOpen(attempt)) return refuse('superseded');
  const isCurrent =
    attempt.number === draft.task.attempt && attempt.reusable && !isTerminal(draft.task.state);
  learnId(draft, attempt, event.externalId);
  if (isEnding(event.state)) endAttempt(draft, attempt, event.state, event.error?.message);
  if (isCurrent) {
    follow(draft, attempt, event, rules);
  } else if (isEnding(event.state)) {
    draft.note('task.killConfirmed', actorOf(attempt), { state: event.state }, attempt);
    goOnWithout(draft, rules);
  }
  return undefined;
}

function follow(draft: Draft, attempt: Attempt, event: Of<'sighted'>, rules: Rules): void {
  const detail = { seen: event.state };
  switch (event.state) {
    case 'spawning':
    case 'queued':
    case 'running': {
      const askAt = attempt.killDueAt === null ? event.askAt : null;
      draft.setAttempt(attempt.number, { outcome: 'accepted', missing: 0, awaySince: null, askAt });
      reachDispatched(draft);
      if (event.state === 'running') reachRunning(draft, attempt);
      const sequence = draft.task.progress?.sequence ?? null;
      if (takeProgress(draft, event.progress === null ? null : { ...event.progress, sequence }))
        draft.note('task.progress', actorOf(attempt), { ...detail, ...event.progress });
      return;
    }
    case 'completed':
      if (event.result !== null) draft.setResult({ text: event.result });
      complete(draft, attempt, detail);
      return;
    case 'failed':
      fail(draft, attempt, event.error, rules, detail);
      return;
    case 'killed':
      beKilled(draft, attempt, detail);
      return;
  }
}

/** The backend does not know the agent; twice, with an interval between, means that it is lost. */
export function miss(draft: Draft, event: Of<'missing'>, rules: Rules): Refusal | undefined {
  const attempt = draft.task.attempts.find(({ number }) => number === event.attempt);
  if (attempt === undefined || !isOpen(attempt)) return refuse('superseded');
  const { task } = draft;
  if (isTerminal(task.state) || attempt.number !== task.attempt || task.cancelRequestedAt !== null) {
    return refuse('superseded'); // the kill's own questions settle those
  }
  // What was never accepted cannot be lost: its send's outcome decides.
  if (task.state === 'PENDING') return refuse('stale');
  const missing = attempt.missing + 1;
  draft.setAttempt(attempt.number, { missing, askAt: event.askAt });
  if (missing < 2) return undefined;
  const message = 'the backend does not know the agent any more';
  endAttempt(draft, attempt, 'lost', message);
  const spent = task.spent + 1;
  draft.set({ spent });
  if (spent < task.retry.maxAttempts) goBack(draft, attempt, rules, { outcome: 'lost', reason: message });
  else draft.end('FAILED', dispatcher, { code: 'LOST_BY_BACKEND', message, retryable: false });
  return undefined;
}
