import type { Rules } from '../../src/domain/rules.js';
import type { BackendLoad } from '../../src/domain/backend.js';
import { advance } from '../../src/domain/advance.js';
import type { Move, RefusalReason } from '../../src/domain/draft.js';
import type { Report, TaskEvent } from '../../src/domain/event.js';
import type { Attempt, RetryPolicy, Task } from '../../src/domain/task.js';

/** Values to begin from: a test names only what its fact is about. */
export const at = (seconds: number): Date => new Date(Date.UTC(2026, 2, 1, 12) + seconds * 1000);

export const rules: Rules = { now: at(100), random: 0.5, silenceMs: 60_000, giveUpAfterMs: 3_600_000 };

export const retry: RetryPolicy = {
  maxAttempts: 3,
  maxSends: 3,
  backoffBaseMs: 1000,
  backoffMaxMs: 8000,
  onUnknownOutcome: 'fail',
};

/** A task as it is born, due at once. */
export function aTask(fields: Partial<Task> = {}): Task {
  return {
    id: 'task_1',
    type: 'test',
    title: null,
    reference: null,
    workspaceId: null,
    priority: 3,
    tags: [],
    wish: {},
    timeouts: { dispatchMs: 20_000, startMs: 900_000, heartbeatMs: 30_000, runMs: 86_400_000 },
    retry,
    notifyUrl: null,
    retryOf: null,
    scheduledFor: null,
    deadlineAt: null,
    createdAt: at(0),
    state: 'PENDING',
    version: 0,
    seq: 1,
    dueAt: at(0),
    leasedBy: null,
    claims: 0,
    attempt: 0,
    spent: 0,
    failures: 0,
    backendId: null,
    externalId: null,
    avoid: [],
    waiting: null,
    lane: null,
    orderAt: at(1200),
    clockAt: null,
    lastHeardAt: null,
    progress: null,
    error: null,
    cancelRequestedAt: null,
    cancelReason: null,
    dispatchedAt: null,
    startedAt: null,
    finishedAt: null,
    updatedAt: at(0),
    attempts: [],
    ...fields,
  };
}

/** An attempt whose first send is under way. */
export function anAttempt(fields: Partial<Attempt> = {}): Attempt {
  return {
    number: 1,
    backendId: 'bknd_a',
    externalId: null,
    sends: 1,
    unknownSends: 0,
    outcome: null,
    httpStatus: null,
    error: null,
    reusable: true,
    startedAt: at(1),
    endedAt: null,
    awaySince: null,
    missing: 0,
    askAt: null,
    killDueAt: null,
    killSince: null,
    killTries: 0,
    killReason: null,
    ...fields,
  };
}

/** A task in the hands of a process, its attempt being sent. */
export function sendingTask(attempt: Partial<Attempt> = {}, fields: Partial<Task> = {}): Task {
  const tried = anAttempt(attempt);
  return aTask({
    attempt: tried.number,
    backendId: tried.backendId,
    leasedBy: 'proc_1',
    claims: 1,
    waiting: { reason: 'sending', detail: '', until: null },
    attempts: [tried],
    ...fields,
  });
}

export function dispatchedTask(attempt: Partial<Attempt> = {}, fields: Partial<Task> = {}): Task {
  const known = { outcome: 'accepted', externalId: 's1', askAt: at(60), ...attempt } as const;
  return sendingTask(known, {
    state: 'DISPATCHED',
    externalId: known.externalId,
    dueAt: null,
    leasedBy: null,
    claims: 0,
    waiting: null,
    dispatchedAt: at(2),
    seq: 3,
    ...fields,
  });
}

export function runningTask(attempt: Partial<Attempt> = {}, fields: Partial<Task> = {}): Task {
  return dispatchedTask(attempt, {
    state: 'RUNNING',
    startedAt: at(3),
    lastHeardAt: at(3),
    seq: 4,
    ...fields,
  });
}

export function endedTask(
  state: 'COMPLETED' | 'FAILED' | 'CANCELLED',
  attempt: Partial<Attempt> = {},
  fields: Partial<Task> = {},
): Task {
  const outcome = ({ COMPLETED: 'completed', FAILED: 'failed', CANCELLED: 'killed' } as const)[state];
  return runningTask(
    { outcome, endedAt: at(50), askAt: null, ...attempt },
    { state, finishedAt: at(50), ...fields },
  );
}

export function aReport(fields: Partial<Report> & Pick<Report, 'status'>): Report {
  return {
    callbackId: '7',
    eventId: null,
    sessionId: null,
    sequence: null,
    progress: null,
    error: null,
    hasResult: false,
    receivedAt: at(99),
    ...fields,
  };
}

export const reported = (
  report: Partial<Report> & Pick<Report, 'status'>,
  attempt = 1,
): Extract<TaskEvent, { type: 'reported' }> => ({ type: 'reported', attempt, report: aReport(report) });

/** A backend that is up, without limits. */
export function aBackend(fields: Partial<BackendLoad> = {}): BackendLoad {
  return {
    id: 'bknd_a',
    name: 'alpha',
    protocol: 'gateway',
    url: 'http://127.0.0.1:1',
    authType: 'none',
    healthPath: '/health',
    healthExpect: '2xx',
    labels: {},
    weight: 1,
    maxConcurrency: null,
    maxDispatchesPerMinute: null,
    mode: 'active',
    configVersion: 1,
    health: {
      status: 'up',
      reason: null,
      checkedAt: at(0),
      latencyMs: 1,
      consecutiveFailures: 0,
      consecutiveSuccesses: 5,
      lastError: null,
    },
    refusedSends: 0,
    blockedUntil: null,
    nextSendAt: null,
    trialAt: null,
    deletedAt: null,
    createdAt: at(0),
    updatedAt: at(0),
    inFlight: 0,
    ...fields,
  };
}

/** The move that an event makes; a refusal fails the test with its reason. */
export function moved(task: Task, event: TaskEvent, given: Partial<Rules> = {}): Move {
  const move = advance(task, event, { ...rules, ...given });
  if (!move.ok) throw new Error(`${event.type} was refused as ${move.reason}`);
  return move;
}

export function refused(task: Task, event: TaskEvent, given: Partial<Rules> = {}): RefusalReason {
  const move = advance(task, event, { ...rules, ...given });
  if (move.ok) throw new Error(`${event.type} was not refused: ${JSON.stringify(move.entries)}`);
  return move.reason;
}

/** The entries as `type` or, where the state moved, `type >STATE`. */
export const walk = (move: Move): string[] =>
  move.entries.map(({ type, from, to }) => (from === to ? type : `${type} >${to}`));

export const attemptOf = (move: Move, number = 1): Attempt => {
  const attempt = move.after.attempts.find((one) => one.number === number);
  if (attempt === undefined) throw new Error(`there is no attempt ${number}`);
  return attempt;
};
