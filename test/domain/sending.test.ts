import { describe, expect, test } from '@jest/globals';
import type { TaskEvent } from '../../src/domain/event.js';
import {
  anAttempt,
  at,
  attemptOf,
  aTask,
  dispatchedTask,
  endedTask,
  moved,
  refused,
  retry,
  rules,
  runningTask,
  sendingTask,
  walk,
} from '../support/domain.js';

const accepted: TaskEvent = { type: 'accepted', attempt: 1, externalId: 's1', httpStatus: 201 };
const notSent: TaskEvent = { type: 'notSent', attempt: 1, reason: 'the process is stopping' };
const postponed: Extract<TaskEvent, { type: 'postponed' }> = {
  type: 'postponed',
  attempt: 1,
  outcome: 'not_received',
  httpStatus: null,
  reason: 'refused',
  waiting: { reason: 'backing_off', detail: 'refused', until: at(110) },
  dueAt: at(110),
  avoids: true,
  toTheBack: false,
};
const rejected: TaskEvent = { type: 'rejected', attempt: 1, httpStatus: 422, reason: 'no such field' };
const unknown: Extract<TaskEvent, { type: 'outcomeUnknown' }> = {
  type: 'outcomeUnknown',
  attempt: 1,
  httpStatus: 502,
  reason: 'cut',
  dueAt: at(105),
  spends: true,
  awaySince: null,
};
const givenUp: TaskEvent = {
  type: 'outcomeGivenUp',
  attempt: 1,
  reason: 'sends are over',
  killFirstMs: 60_000,
};
const cancelled = { cancelRequestedAt: at(90), cancelReason: 'enough' };
const killing = { killDueAt: at(90), killSince: at(90), killReason: 'enough' };
const earlier = anAttempt({ number: 1, reusable: false, outcome: 'unknown', unknownSends: 1, ...killing });

describe('an acceptance', () => {
  test('dispatches the task, names its agent and asks about it after a silence', () => {
    const move = moved(sendingTask(), accepted);
    expect(walk(move)).toEqual(['task.dispatched >DISPATCHED']);
    expect(move.after).toMatchObject({
      state: 'DISPATCHED',
      externalId: 's1',
      dispatchedAt: rules.now,
      dueAt: null,
      leasedBy: null,
      claims: 0,
      waiting: null,
      clockAt: at(1000),
    });
    expect(attemptOf(move)).toMatchObject({ outcome: 'accepted', httpStatus: 201, askAt: at(160) });
  });

  test('of a task whose callback came first adds what it learned and moves nothing', () => {
    const move = moved(runningTask({ externalId: null }, { externalId: null }), accepted);
    expect(move.entries).toEqual([]);
    expect(move.after).toMatchObject({ state: 'RUNNING', externalId: 's1' });
  });

  test('keeps the first id that was learned', () => {
    const move = moved(dispatchedTask({ externalId: 'first' }, { externalId: 'first' }), accepted);
    expect(move.after.externalId).toBe('first');
  });

  test('of an attempt that has ended adds its id only, and then nothing', () => {
    const move = moved(endedTask('COMPLETED', { externalId: null }, { externalId: null }), accepted);
    expect(move.after).toMatchObject({ state: 'COMPLETED', externalId: 's1' });
    expect(attemptOf(move).killDueAt).toBeNull();
    expect(refused(move.after, accepted)).toBe('stale');
  });

  test('of an attempt that the task left behind names no agent of the task', () => {
    const task = aTask({ attempt: 1, attempts: [anAttempt({ outcome: 'failed', endedAt: at(50) })] });
    const move = moved(task, accepted);
    expect([move.after.externalId, attemptOf(move).externalId]).toEqual([null, 's1']);
  });

  test.each([
    ['has ended', endedTask('FAILED', { endedAt: null, outcome: null })],
    ['was given up', sendingTask({ reusable: false })],
    ['was superseded', sendingTask({ number: 2 }, { attempts: [anAttempt(), anAttempt({ number: 2 })] })],
  ])('of an attempt whose task %s has its agent killed', (_, task) => {
    const move = moved(task, accepted);
    expect(move.after.state).toBe(task.state);
    expect(attemptOf(move)).toMatchObject({
      killDueAt: rules.now,
      killSince: rules.now,
      killReason: 'it was accepted after the task had gone on',
      askAt: null,
    });
  });

  test('of a cancelled task is killed at once, for the reason of the cancel', () => {
    const move = moved(sendingTask({ ...killing, killDueAt: at(130) }, cancelled), accepted);
    expect(move.after.state).toBe('DISPATCHED');
    expect(attemptOf(move)).toMatchObject({ killDueAt: rules.now, killSince: at(90), killReason: 'enough' });
    expect(attemptOf(move).askAt).toBeNull();
  });

  test('of a cancelled task without a reason is killed all the same', () => {
    const move = moved(sendingTask({}, { ...cancelled, cancelReason: null }), accepted);
    expect(attemptOf(move).killReason).toBe('cancelled');
  });

  test('of an attempt that nobody knows is superseded', () => {
    expect(refused(sendingTask(), { ...accepted, attempt: 7 })).toBe('superseded');
  });
});

describe('a send that never began', () => {
  test('gives the task back at once and counts no send', () => {
    const move = moved(sendingTask(), notSent);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: rules.now, leasedBy: null, claims: 0 });
    expect(move.after.waiting).toMatchObject({ reason: 'queued' });
    expect(attemptOf(move)).toMatchObject({ sends: 0, outcome: 'not_received', endedAt: rules.now });
  });

  test('leaves an uncertain attempt open and uncertain', () => {
    const move = moved(sendingTask({ sends: 2, unknownSends: 1 }), notSent);
    expect(attemptOf(move)).toMatchObject({ sends: 1, outcome: 'unknown', endedAt: null, unknownSends: 1 });
    expect(move.after.waiting).toMatchObject({ reason: 'confirming_outcome' });
  });

  test('makes a cancel final', () => {
    const move = moved(sendingTask(killing, cancelled), notSent);
    expect(walk(move)).toEqual(['task.cancelled >CANCELLED']);
    expect(move.entries[0]?.detail).toEqual({ reason: 'enough' });
  });

  test('leaves a cancelled task of unknown outcome to its kill, neither due nor leased', () => {
    const move = moved(sendingTask({ sends: 2, unknownSends: 1, ...killing }, cancelled), notSent);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: null, leasedBy: null });
  });
});

describe('a send that provably was not received', () => {
  test('spends nothing, waits, and prefers other backends', () => {
    const move = moved(sendingTask({}, { avoid: ['bknd_z'], failures: 2 }), postponed);
    expect(walk(move)).toEqual(['task.retryScheduled']);
    expect(move.after).toMatchObject({
      state: 'PENDING',
      spent: 0,
      failures: 3,
      dueAt: at(110),
      leasedBy: null,
      avoid: ['bknd_z', 'bknd_a'],
      orderAt: at(1200),
    });
    expect(attemptOf(move)).toMatchObject({ outcome: 'not_received', endedAt: rules.now, reusable: true });
  });

  test('told to come later queues behind the others of its priority', () => {
    const move = moved(sendingTask(), { ...postponed, outcome: 'later', avoids: false, toTheBack: true });
    expect(move.after).toMatchObject({ avoid: [], orderAt: at(1300) });
  });

  test('says nothing after an unknown send (I8)', () => {
    const task = sendingTask({ unknownSends: 1 });
    expect(refused(task, postponed)).toBe('stale');
    expect(refused(task, rejected)).toBe('stale');
  });

  test('makes a cancel final; while an earlier agent lives its end is awaited', () => {
    expect(moved(sendingTask(killing, cancelled), postponed).after.state).toBe('CANCELLED');
    const second = anAttempt({ number: 2, ...killing });
    const task = sendingTask({ number: 2 }, { ...cancelled, attempts: [earlier, second] });
    const move = moved(task, { ...postponed, attempt: 2 });
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: null, lane: null });
  });
});

describe('a rejection', () => {
  test('fails the task by its own fault', () => {
    const move = moved(sendingTask(), rejected);
    expect(walk(move)).toEqual(['task.failed >FAILED']);
    expect(move.after.error).toEqual({
      code: 'BACKEND_REJECTED',
      message: 'no such field',
      retryable: false,
    });
    expect(move.after.clockAt).toBeNull();
    expect(attemptOf(move)).toMatchObject({ outcome: 'rejected', endedAt: rules.now, killDueAt: null });
  });

  test('of a cancelled task is the end of its cancel', () => {
    expect(moved(sendingTask(killing, cancelled), rejected).after).toMatchObject({
      state: 'CANCELLED',
      error: null,
    });
  });
});

describe('an outcome that stayed unknown', () => {
  test('keeps the attempt open and asks the same backend again', () => {
    const move = moved(sendingTask(), unknown);
    expect(walk(move)).toEqual(['task.outcomeUnknown']);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: at(105), failures: 1, leasedBy: null });
    expect(move.after.waiting).toMatchObject({ reason: 'confirming_outcome' });
    expect(attemptOf(move)).toMatchObject({ outcome: 'unknown', unknownSends: 1, endedAt: null });
  });

  test('spends no send while its backend is away', () => {
    const move = moved(sendingTask({ unknownSends: 2 }), { ...unknown, spends: false, awaySince: at(80) });
    expect(attemptOf(move)).toMatchObject({ unknownSends: 2, awaySince: at(80) });
  });

  test('is a doubt even where it spends nothing', () => {
    const move = moved(sendingTask(), { ...unknown, spends: false });
    expect(attemptOf(move).unknownSends).toBe(1);
  });

  test('of a cancelled task is left to its kill: it is never sent again', () => {
    const move = moved(sendingTask(killing, cancelled), unknown);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: null });
    expect(attemptOf(move).killDueAt).toEqual(at(90));
  });
});

describe('an outcome that is given up', () => {
  test('fails the task, says that nobody knows, and goes on killing', () => {
    const move = moved(sendingTask({ unknownSends: 2 }), givenUp);
    expect(move.after).toMatchObject({
      state: 'FAILED',
      spent: 1,
      error: { code: 'DISPATCH_OUTCOME_UNKNOWN' },
    });
    expect(attemptOf(move)).toMatchObject({ endedAt: null, killDueAt: rules.now, reusable: false });
  });

  test('goes to another backend if the task chose failover, after the old agent was told to die', () => {
    const failover = { ...retry, onUnknownOutcome: 'failover' as const };
    const move = moved(sendingTask({}, { retry: failover }), givenUp);
    expect(walk(move)).toEqual(['task.retryScheduled']);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: at(160), avoid: ['bknd_a'], spent: 1 });
    expect(attemptOf(move)).toMatchObject({ endedAt: null, killDueAt: rules.now, unknownSends: 1 });
    expect(refused(move.after, unknown)).toBe('stale');
    expect(refused(move.after, givenUp)).toBe('stale');
  });

  test('fails over no more once its attempts are spent', () => {
    const failover = { ...retry, onUnknownOutcome: 'failover' as const };
    const move = moved(sendingTask({}, { retry: failover, spent: 2 }), givenUp);
    expect(move.after.error?.code).toBe('DISPATCH_OUTCOME_UNKNOWN');
  });

  test('leaves a cancelled task to its kill', () => {
    const move = moved(sendingTask({ unknownSends: 1, ...killing }, cancelled), givenUp);
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: null, leasedBy: null, error: null });
  });
});

describe('an outcome that comes too late', () => {
  const outcomes = [notSent, postponed, rejected, unknown, givenUp];

  test.each(outcomes)('$type of a dispatched task is stale', (event) => {
    expect(refused(dispatchedTask(), event)).toBe('stale');
  });

  test.each([notSent, postponed, rejected, unknown])('$type that was saved before is stale', (event) => {
    expect(refused(sendingTask({ outcome: 'unknown', unknownSends: 1 }), event)).toBe('stale');
  });

  test.each(outcomes)('$type of a sender whose task another process has is stale', (event) => {
    expect(refused(sendingTask(), { ...event, by: 'proc_0' } as TaskEvent)).toBe('stale');
    expect(moved(sendingTask(), { ...event, by: 'proc_1' } as TaskEvent).ok).toBe(true);
  });

  test.each(outcomes)('$type of another attempt is superseded', (event) => {
    const second = anAttempt({ number: 2 });
    expect(refused(sendingTask({ number: 2 }, { attempts: [earlier, second] }), event)).toBe('superseded');
    expect(refused(aTask(), event)).toBe('superseded');
  });

  test.each([
    [notSent, 'not_received'],
    [postponed, 'not_received'],
    [rejected, 'rejected'],
  ] as const)('$type frees the slot of a task that has ended meanwhile', (event, outcome) => {
    const ended = endedTask('FAILED', { outcome: null, endedAt: null, ...killing });
    const move = moved(ended, event);
    expect(move.entries).toEqual([]);
    expect(attemptOf(move)).toMatchObject({ outcome, endedAt: rules.now, killDueAt: null });
  });

  test.each([
    ['was uncertain', endedTask('FAILED', { outcome: null, endedAt: null, unknownSends: 1 })],
    ['was accepted', endedTask('FAILED', { outcome: 'accepted', endedAt: null })],
    ['has ended', endedTask('COMPLETED')],
    ['is unknown', endedTask('FAILED', {}, { attempts: [] })],
  ])('nothing frees the slot of an ended task whose attempt %s', (_, task) => {
    for (const event of outcomes) expect(refused(task, event)).toBe('over');
  });
});

describe('a hold', () => {
  const held: TaskEvent = {
    type: 'held',
    waiting: { reason: 'backend_full', detail: 'alpha runs 4 of 4', until: null },
    lane: '[null,null,[]]',
  };

  test('takes the due time away and says once why', () => {
    const move = moved(aTask(), held);
    expect(walk(move)).toEqual(['task.held']);
    expect(move.after).toMatchObject({ dueAt: null, lane: '[null,null,[]]', spent: 0 });
    expect(walk(moved(move.after, held))).toEqual([]);
    const other = { ...held, waiting: { reason: 'backend_down', detail: '', until: null } } as const;
    expect(walk(moved(move.after, other))).toEqual(['task.held']);
  });

  test('never touches what is being sent, was sent, was cancelled or has ended', () => {
    expect(refused(sendingTask(), held)).toBe('stale');
    expect(refused(sendingTask({ outcome: 'unknown', unknownSends: 1 }, { leasedBy: null }), held)).toBe(
      'stale',
    );
    expect(refused(dispatchedTask(), held)).toBe('stale');
    expect(refused(sendingTask(earlier, { ...cancelled, leasedBy: null, dueAt: null }), held)).toBe('stale');
    expect(refused(endedTask('FAILED'), held)).toBe('over');
  });

  test('is void where the task was changed after it was looked at', () => {
    expect(refused(aTask({ dueAt: at(500), scheduledFor: at(500) }), held)).toBe('stale');
    expect(refused(aTask({ wish: { name: 'beta' } }), held)).toBe('stale');
  });

  test('holds a task whose given up attempt is still being killed', () => {
    expect(moved(sendingTask(earlier, { leasedBy: null }), held).after.lane).not.toBeNull();
  });
});
