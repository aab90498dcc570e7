import { describe, expect, test } from '@jest/globals';
import { openDraft } from '../../src/domain/draft.js';
import { clocksOf, clockThatRanOut, nextClockAt } from '../../src/domain/clocks.js';
import { delayMs, later } from '../../src/domain/backoff.js';
import { DispatcherError } from '../../src/domain/errors.js';
import { assess, lessonOf, trialDelayMs, type ProbeResult } from '../../src/domain/health.js';
import { isLegal, legalMoves } from '../../src/domain/lifecycle.js';
import { newTask } from '../../src/domain/new-task.js';
import { maxRetryAfterMs, outcomeOfAnswer, retryAfterToMs, type Outcome } from '../../src/domain/outcome.js';
import { settle, type SettleContext } from '../../src/domain/settle.js';
import { taskStates } from '../../src/domain/task.js';
import {
  aBackend,
  anAttempt,
  at,
  aTask,
  dispatchedTask,
  endedTask,
  retry,
  runningTask,
  sendingTask,
} from '../support/domain.js';

describe('the table of legal moves', () => {
  test('holds eleven of the thirty-six pairs', () => {
    const pairs = taskStates.flatMap((from) => taskStates.map((to) => isLegal(from, to)));
    expect([pairs.length, pairs.filter(Boolean).length]).toEqual([36, 11]);
    expect(legalMoves.COMPLETED).toEqual([]);
  });

  test('is kept by the draft itself: an illegal move is a bug, and is thrown', () => {
    const draft = openDraft(aTask(), at(100));
    expect(() => draft.end('COMPLETED', 'dispatcher', null)).toThrow(
      expect.objectContaining({ code: 'illegal_move' }),
    );
  });
});

describe('an error', () => {
  test('carries its code, its cause and what the answer may show', () => {
    const cause = new Error('deep');
    const error = new DispatcherError('busy', 'try later', { cause, details: { n: 1 } });
    expect([error.name, error.code, error.cause, error.details]).toEqual([
      'DispatcherError',
      'busy',
      cause,
      { n: 1 },
    ]);
    const bare = new DispatcherError('busy', 'try later');
    expect([bare.details, 'cause' in bare]).toEqual([{}, false]);
  });
});

describe('settling a send', () => {
  const context: SettleContext = {
    now: at(100),
    random: 0.5,
    othersFit: false,
    backendGone: false,
    giveUpAfterMs: 3_600_000,
    silenceMs: 60_000,
  };
  const outcomes = {
    accepted: { kind: 'accepted', externalId: 's1', httpStatus: 201 },
    notReceived: { kind: 'notReceived', reason: 'refused' },
    rejected: { kind: 'rejected', reason: 'bad', httpStatus: 400 },
    misconfigured: { kind: 'misconfigured', reason: 'no key', httpStatus: 401 },
    laterAll: { kind: 'later', reason: 'busy', retryAfterMs: 7000, holds: 'backend', httpStatus: 429 },
    laterOne: { kind: 'later', reason: 'early', retryAfterMs: 7000, holds: 'task', httpStatus: 425 },
    laterOwn: { kind: 'later', reason: 'early', retryAfterMs: null, holds: 'task', httpStatus: 408 },
    unknown: { kind: 'unknown', reason: 'cut', httpStatus: null },
  } as const satisfies Record<string, Outcome>;
  const say = (outcome: Outcome, attempt = {}, more: Partial<SettleContext> = {}, fields = {}) =>
    settle(sendingTask(attempt, fields), anAttempt(attempt), outcome, { ...context, ...more });

  test.each([
    ['accepted', outcomes.accepted, { type: 'accepted', externalId: 's1', httpStatus: 201 }],
    [
      'not received',
      outcomes.notReceived,
      { type: 'postponed', outcome: 'not_received', avoids: true, dueAt: at(100.5) },
    ],
    ['rejected', outcomes.rejected, { type: 'rejected', httpStatus: 400 }],
    [
      'misconfigured',
      outcomes.misconfigured,
      { type: 'postponed', outcome: 'misconfigured', dueAt: at(100), waiting: { reason: 'backend_down' } },
    ],
    [
      'later, the backend',
      outcomes.laterAll,
      {
        type: 'postponed',
        outcome: 'later',
        dueAt: at(100),
        toTheBack: true,
        waiting: { reason: 'rate_limited' },
      },
    ],
    [
      'later, the task',
      outcomes.laterOne,
      {
        type: 'postponed',
        outcome: 'later',
        dueAt: at(107),
        waiting: { reason: 'backing_off', until: at(107) },
      },
    ],
    ['later, it does not say when', outcomes.laterOwn, { type: 'postponed', dueAt: at(100.5) }],
    [
      'unknown',
      outcomes.unknown,
      { type: 'outcomeUnknown', spends: true, awaySince: null, dueAt: at(100.5) },
    ],
  ])('%s, on a certain attempt', (_, outcome, event) => {
    expect(say(outcome)).toMatchObject({ attempt: 1, ...event });
  });

  test('not received goes to another backend at once where one fits', () => {
    expect(say(outcomes.notReceived, {}, { othersFit: true })).toMatchObject({ dueAt: at(100) });
  });

  test.each([
    ['not received', outcomes.notReceived, { spends: false, awaySince: at(100), httpStatus: null }],
    ['misconfigured', outcomes.misconfigured, { spends: false, awaySince: at(100), httpStatus: 401 }],
    ['rejected', outcomes.rejected, { spends: true, awaySince: null, httpStatus: 400 }],
    ['later', outcomes.laterAll, { spends: false, awaySince: null, dueAt: at(107) }],
    ['later, it does not say when', outcomes.laterOwn, { spends: false, dueAt: at(100.5) }],
    ['unknown', outcomes.unknown, { spends: true, awaySince: null }],
  ])('%s settles nothing on an uncertain attempt (I8)', (_, outcome, event) => {
    expect(say(outcome, { unknownSends: 1 })).toMatchObject({ type: 'outcomeUnknown', ...event });
  });

  test('only an acceptance settles an uncertain attempt', () => {
    expect(say(outcomes.accepted, { unknownSends: 2 }).type).toBe('accepted');
  });

  test('gives up when the sends are over, and only sends that spend count', () => {
    expect(say(outcomes.unknown, { unknownSends: 2 })).toMatchObject({
      type: 'outcomeGivenUp',
      killFirstMs: 60_000,
      reason: 'whether the backend started an agent stayed unknown: cut',
    });
    expect(say(outcomes.notReceived, { unknownSends: 2 }).type).toBe('outcomeUnknown');
  });

  test('gives up when the backend was away too long, or was removed', () => {
    const away = { unknownSends: 1, awaySince: at(100 - 3600) };
    expect(say(outcomes.notReceived, away).type).toBe('outcomeGivenUp');
    expect(say(outcomes.laterAll, away).type).toBe('outcomeUnknown');
    expect(say(outcomes.unknown, {}, { backendGone: true }).type).toBe('outcomeGivenUp');
  });

  test('asks about a doubt at least every ten seconds, however far the backoff has grown', () => {
    const grown = { failures: 20, retry: { ...retry, backoffMaxMs: 300_000 } };
    expect(say(outcomes.unknown, {}, { random: 0.99 }, grown)).toMatchObject({ dueAt: at(110) });
  });
});

describe('an answer to a spawn', () => {
  const classOf = (httpStatus: number, externalId: string | null = null): string =>
    outcomeOfAnswer({ httpStatus, externalId, retryAfter: null }, at(0)).kind;

  test('has the class of the table for every status', () => {
    const classes = new Map<string, number[]>();
    for (let status = 100; status < 600; status += 1)
      classes.set(classOf(status), [...(classes.get(classOf(status)) ?? []), status]);
    expect(classes.get('accepted')).toEqual(Array.from({ length: 100 }, (_, index) => 200 + index));
    expect(classes.get('rejected')).toEqual([400, 413, 415, 422]);
    expect(classes.get('later')).toEqual([408, 425, 429, 503]);
    expect(classes.get('unknown')).toEqual([
      ...Array.from({ length: 100 }, (_, index) => 100 + index),
      409,
      ...Array.from({ length: 100 }, (_, index) => 500 + index).filter((status) => status !== 503),
    ]);
    expect(classes.get('misconfigured')).toHaveLength(100 + 100 - 4 - 3 - 1);
  });

  test('409 with a session id was accepted before', () => {
    expect(classOf(409, 's1')).toBe('accepted');
  });

  test('429 and 503 hold the backend, 408 and 425 the task', () => {
    const holds = (httpStatus: number): unknown =>
      outcomeOfAnswer({ httpStatus, externalId: null, retryAfter: '7' }, at(0));
    expect(holds(429)).toMatchObject({ holds: 'backend', retryAfterMs: 7000 });
    expect(holds(425)).toMatchObject({ holds: 'task', retryAfterMs: 7000 });
  });

  test.each([
    [null, null],
    ['7', 7000],
    [' 7 ', 7000],
    ['0', null],
    ['-1', null],
    ['1.5', null],
    ['soon', null],
    ['', null],
    ['1000000000', maxRetryAfterMs],
    ['Sun, 01 Mar 2026 12:00:30 GMT', 30_000],
    ['Sun, 01 Mar 2026 11:00:00 GMT', null],
    ['Sun, the first', null],
  ])('Retry-After %j is %j ms', (header, ms) => {
    expect(retryAfterToMs(header, at(0))).toBe(ms);
  });
});

describe('a delay', () => {
  test('doubles from the base to the maximum, with full jitter', () => {
    const most = [0, 1, 2, 3, 4, 5, 99].map((failures) => delayMs(failures, retry, 1));
    expect(most).toEqual([1000, 1000, 2000, 4000, 8000, 8000, 8000]);
    expect(delayMs(3, retry, 0)).toBe(0);
    expect(later(at(0), 250)).toEqual(at(0.25));
  });
});

describe('the clocks of a task', () => {
  const codes = (task: Parameters<typeof clocksOf>[0]): string[] => clocksOf(task).map(({ code }) => code);

  test('run by its state', () => {
    expect(codes(aTask())).toEqual([]);
    expect(codes(aTask({ deadlineAt: at(9) }))).toEqual(['DEADLINE_EXCEEDED']);
    expect(codes(dispatchedTask())).toEqual(['START_TIMEOUT']);
    expect(codes(runningTask({}, { deadlineAt: at(9) }))).toEqual([
      'DEADLINE_EXCEEDED',
      'HEARTBEAT_TIMEOUT',
      'RUN_TIMEOUT',
    ]);
    expect(
      codes(runningTask({}, { timeouts: { dispatchMs: 1, startMs: 0, heartbeatMs: 0, runMs: 0 } })),
    ).toEqual([]);
    expect(codes(runningTask({}, { lastHeardAt: null }))).toEqual(['RUN_TIMEOUT']);
    expect(codes(endedTask('FAILED', {}, { deadlineAt: at(9) }))).toEqual([]);
  });

  test('the next to run out is the earliest', () => {
    expect(nextClockAt(aTask())).toBeNull();
    expect(nextClockAt(runningTask({}, { deadlineAt: at(99) }))).toEqual(at(33));
    expect(nextClockAt(runningTask({}, { deadlineAt: at(9) }))).toEqual(at(9));
  });

  test('the one that ran out first is named', () => {
    const task = runningTask({}, { deadlineAt: at(40) });
    expect(clockThatRanOut(task, at(32), null)).toBeNull();
    expect(clockThatRanOut(task, at(33), null)?.code).toBe('HEARTBEAT_TIMEOUT');
    expect(clockThatRanOut({ ...task, deadlineAt: at(20) }, at(50), null)?.code).toBe('DEADLINE_EXCEEDED');
  });

  test('after a gap of ours each one that was running gets a full window (P10)', () => {
    const task = runningTask(); // heard at 3, silent for 30 s allowed
    expect(clockThatRanOut(task, at(79), at(50))).toBeNull();
    expect(clockThatRanOut(task, at(80), at(50))?.code).toBe('HEARTBEAT_TIMEOUT');
    // A gap that ended just before the clock would have run out counts as much.
    expect(clockThatRanOut(task, at(34), at(30))).toBeNull();
    expect(clockThatRanOut(task, at(60), at(30))?.code).toBe('HEARTBEAT_TIMEOUT');
    // One that was over before it was heard last does not.
    expect(clockThatRanOut(task, at(33), at(2))?.code).toBe('HEARTBEAT_TIMEOUT');
  });

  test('a deadline that lapsed in a gap waits a minute for what could not be delivered', () => {
    const task = aTask({ deadlineAt: at(40) });
    expect(clockThatRanOut(task, at(109), at(50))).toBeNull();
    expect(clockThatRanOut(task, at(110), at(50))?.code).toBe('DEADLINE_EXCEEDED');
    expect(clockThatRanOut(task, at(40), at(30))?.code).toBe('DEADLINE_EXCEEDED');
  });
});

describe('the health of a backend', () => {
  const policy = { rise: 2, fall: 3 };
  const good: ProbeResult = { ok: true, httpStatus: 200, latencyMs: 4, error: null };
  const bad: ProbeResult = { ok: false, httpStatus: 500, latencyMs: 4, error: 'answered 500' };
  const away: ProbeResult = { ok: false, httpStatus: null, latencyMs: 2000, error: 'refused' };
  const up = aBackend().health;
  const unknown = { ...up, status: 'unknown', checkedAt: null, consecutiveSuccesses: 0 } as const;
  const through = (start: typeof up, ...probes: ProbeResult[]) =>
    probes.reduce((health, probe) => assess(health, probe, policy, at(9)), start);

  test('rises from unknown at the first good ping', () => {
    expect(through(unknown, good)).toMatchObject({ status: 'up', latencyMs: 4, checkedAt: at(9) });
    expect(through(unknown, bad).status).toBe('unknown');
    expect(through(unknown, bad, bad, bad)).toMatchObject({ status: 'down', reason: 'unhealthy' });
  });

  test('falls at the third bad ping in a row and rises at the second good one', () => {
    expect(through(up, away, away).status).toBe('up');
    expect(through(up, away, away, good, away, away).status).toBe('up');
    const down = through(up, away, away, away);
    expect(down).toMatchObject({
      status: 'down',
      reason: 'unreachable',
      lastError: 'refused',
      latencyMs: null,
    });
    expect(through(down, good)).toMatchObject({ status: 'down', lastError: 'refused' });
    expect(through(down, good, good)).toMatchObject({ status: 'up', reason: null, lastError: null });
    expect(through(down, bad)).toMatchObject({ status: 'down', reason: 'unhealthy' });
  });

  test('is not raised by pings while it is misconfigured (P13)', () => {
    const misconfigured = {
      ...up,
      status: 'down',
      reason: 'misconfigured',
      lastError: 'answered 401',
    } as const;
    expect(through(misconfigured, good, good, good)).toMatchObject({
      status: 'down',
      reason: 'misconfigured',
      lastError: 'answered 401',
      consecutiveSuccesses: 8,
    });
  });

  test('learns from each outcome of a send', () => {
    const about = { now: at(0), random: 0.5, failures: 0 };
    const learn = (outcome: Outcome) => lessonOf(outcome, about);
    const busy = { kind: 'later', reason: 'busy', httpStatus: 429 } as const;
    expect(learn({ kind: 'accepted', externalId: null, httpStatus: 200 })).toEqual({ kind: 'fine' });
    expect(learn({ kind: 'rejected', reason: 'r', httpStatus: 400 })).toEqual({ kind: 'fine' });
    expect(learn({ kind: 'notReceived', reason: 'r' })).toEqual({ kind: 'refused', reason: 'r' });
    expect(learn({ kind: 'misconfigured', reason: 'r', httpStatus: 401 })).toEqual({
      kind: 'misconfigured',
      reason: 'r',
    });
    expect(learn({ ...busy, retryAfterMs: 7000, holds: 'backend' })).toEqual({
      kind: 'blocked',
      until: at(7),
    });
    expect(learn({ ...busy, retryAfterMs: null, holds: 'backend' })).toEqual({
      kind: 'blocked',
      until: at(0.75),
    });
    expect(learn({ ...busy, retryAfterMs: null, holds: 'task' })).toEqual({ kind: 'fine' });
    expect(learn({ kind: 'unknown', reason: 'r', httpStatus: null })).toBeNull();
  });

  test('gets its trials after a growing wait of five minutes at most', () => {
    expect([0, 1, 2, 6, 7, 99].map(trialDelayMs)).toEqual([5000, 10_000, 20_000, 300_000, 300_000, 300_000]);
  });
});

describe('a new task', () => {
  const defaults = { timeouts: { dispatchMs: 1, startMs: 2, heartbeatMs: 3, runMs: 4 }, retry };
  const given = { id: 'task_1', context: '{}', metadata: null, createdBy: 'key_1', idempotency: null };

  test('has every limit decided', () => {
    expect(newTask({ type: 't' }, given, defaults)).toEqual({
      ...given,
      type: 't',
      title: null,
      reference: null,
      workspaceId: null,
      priority: 3,
      tags: [],
      wish: {},
      ...defaults,
      notifyUrl: null,
      retryOf: null,
      scheduledFor: null,
      deadlineAt: null,
    });
  });

  test('keeps what was asked for, and only that', () => {
    const asked = {
      type: 't',
      title: 'T',
      reference: 'r',
      workspaceId: 'w',
      priority: 1,
      backend: { name: 'alpha' },
      tags: ['x'],
      notifyUrl: 'http://n',
      scheduledFor: at(1),
      deadlineAt: at(2),
      timeouts: { startMs: 9, runMs: undefined } as object,
      retry: { maxAttempts: 1 },
    };
    expect(newTask(asked, { ...given, retryOf: 'task_0' }, defaults)).toMatchObject({
      title: 'T',
      reference: 'r',
      workspaceId: 'w',
      priority: 1,
      wish: { name: 'alpha' },
      tags: ['x'],
      notifyUrl: 'http://n',
      retryOf: 'task_0',
      scheduledFor: at(1),
      deadlineAt: at(2),
      timeouts: { dispatchMs: 1, startMs: 9, heartbeatMs: 3, runMs: 4 },
      retry: { ...retry, maxAttempts: 1 },
    });
  });
});
