import { describe, expect, test } from '@jest/globals';
import { isNewer } from '../../src/domain/following.js';
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
  reported,
  retry,
  rules,
  runningTask,
  sendingTask,
  walk,
} from '../support/domain.js';

const cancelled = { cancelRequestedAt: at(90), cancelReason: 'enough' };
const killing = { killDueAt: at(90), killSince: at(90), killReason: 'enough' };
const failure = { code: 'E1', message: 'it broke', retryable: false };
const again = { ...failure, retryable: true };

describe('a callback', () => {
  test('that beats the answer of the send fills the walk in and settles the doubt', () => {
    const move = moved(
      sendingTask({ outcome: 'unknown', unknownSends: 1 }),
      reported({ status: 'running', sessionId: 's9' }),
    );
    expect(walk(move)).toEqual(['task.dispatched >DISPATCHED', 'task.started >RUNNING']);
    expect(move.entries[0]?.detail).toEqual({ implied: true });
    expect(move.after).toMatchObject({ externalId: 's9', leasedBy: null, lastHeardAt: at(99) });
    expect(attemptOf(move)).toMatchObject({ outcome: 'accepted', askAt: at(159) });
  });

  test('of an accepted agent starts the task', () => {
    const move = moved(dispatchedTask(), reported({ status: 'running' }));
    expect(walk(move)).toEqual(['task.started >RUNNING']);
    expect(attemptOf(move).askAt).toEqual(at(60));
  });

  test('never sets the clock of silence back', () => {
    const move = moved(runningTask({}, { lastHeardAt: at(99.5) }), reported({ status: 'running' }));
    expect(move.after.lastHeardAt).toEqual(at(99.5));
  });

  test('forgives an agent that the backend did not know once', () => {
    expect(attemptOf(moved(runningTask({ missing: 1 }), reported({ status: 'progress' }))).missing).toBe(0);
  });

  test('of a cancelled task asks nothing: its kill does', () => {
    const move = moved(sendingTask(killing, cancelled), reported({ status: 'running' }));
    expect(attemptOf(move)).toMatchObject({ askAt: null, killDueAt: at(90) });
  });

  test('that says nothing new is noted as a duplicate', () => {
    expect(walk(moved(runningTask(), reported({ status: 'running' })))).toEqual(['callback.duplicate']);
  });

  test('with progress is noted with it', () => {
    const move = moved(
      runningTask(),
      reported({ status: 'progress', sequence: 4, progress: { percent: 40, message: 'm' } }),
    );
    expect(move.after.progress).toEqual({ percent: 40, message: 'm', sequence: 4 });
    expect(move.entries[0]).toMatchObject({
      type: 'task.progress',
      detail: { percent: 40, message: 'm', sequence: 4 },
    });
    const late = reported({ status: 'progress', sequence: 3, progress: { percent: 90, message: null } });
    expect(moved(move.after, late).after.progress?.percent).toBe(40);
  });

  test('completed ends a task in whatever state it is', () => {
    for (const task of [sendingTask(), dispatchedTask(), runningTask()]) {
      const move = moved(task, reported({ status: 'completed', hasResult: true, callbackId: '12' }));
      expect(move.after).toMatchObject({
        state: 'COMPLETED',
        finishedAt: rules.now,
        error: null,
        clockAt: null,
      });
      expect(move.result).toEqual({ callbackId: '12' });
      expect(attemptOf(move)).toMatchObject({ outcome: 'completed', endedAt: rules.now, askAt: null });
    }
    expect(moved(runningTask(), reported({ status: 'completed' })).result).toBeNull();
  });

  test('failed ends the task with the error of the agent', () => {
    const move = moved(runningTask(), reported({ status: 'failed', error: failure }));
    expect(move.after).toMatchObject({ state: 'FAILED', error: failure, spent: 1 });
    const nameless = moved(runningTask(), reported({ status: 'failed', error: { ...failure, code: null } }));
    expect(nameless.after.error?.code).toBe('AGENT_FAILED');
  });

  test.each([
    ['one attempt was all it had', { spent: 0, retry: { ...retry, maxAttempts: 1 } }, 'AGENT_FAILED'],
    ['attempts were left', { spent: 0 }, 'AGENT_FAILED'],
    ['its attempts are over', { spent: 2 }, 'ATTEMPTS_EXHAUSTED'],
  ])('failed without an error, where %s, is named by us', (_, fields, code) => {
    expect(moved(runningTask({}, fields), reported({ status: 'failed' })).after.error?.code).toBe(code);
  });

  test('failed and retryable goes back, forgets the old agent, and prefers another backend', () => {
    const task = runningTask({}, { progress: { percent: 50, message: null, sequence: 2 } });
    const move = moved(task, reported({ status: 'failed', error: again }));
    expect(walk(move)).toEqual(['task.retryScheduled >PENDING']);
    expect(move.after).toMatchObject({
      state: 'PENDING',
      spent: 1,
      dueAt: at(100.5),
      avoid: ['bknd_a'],
      progress: null,
      externalId: null,
      startedAt: null,
      dispatchedAt: null,
      clockAt: null,
    });
  });

  test('failed and retryable on the last attempt is the end, with the error of the agent', () => {
    expect(
      moved(runningTask({}, { spent: 2 }), reported({ status: 'failed', error: again })).after,
    ).toMatchObject({
      state: 'FAILED',
      error: again,
    });
  });

  test('failed and retryable of a cancelled task is the end', () => {
    expect(
      moved(runningTask(killing, cancelled), reported({ status: 'failed', error: again })).after.state,
    ).toBe('FAILED');
  });

  test('killed confirms a cancel, and without one is a cancel all the same', () => {
    const asked = moved(runningTask(killing, cancelled), reported({ status: 'killed' }));
    expect(walk(asked)).toEqual(['task.killConfirmed', 'task.cancelled >CANCELLED']);
    expect(asked.entries[1]?.detail).toMatchObject({ reason: 'enough' });
    const unasked = moved(sendingTask(), reported({ status: 'killed' }));
    expect(walk(unasked)).toEqual(['task.dispatched >DISPATCHED', 'task.cancelled >CANCELLED']);
    expect(unasked.entries[1]?.detail).not.toHaveProperty('reason');
  });
});

describe('a callback that comes too late', () => {
  test.each(['running', 'progress', 'completed', 'failed', 'killed'] as const)(
    '%s of a superseded attempt is kept and moves nothing (P8)',
    (status) => {
      const task = runningTask({ number: 2 }, { backendId: 'bknd_b' });
      const move = moved(
        task,
        reported({ status, error: again, progress: { percent: 9, message: null } }, 1),
      );
      expect(walk(move)).toEqual(['callback.superseded']);
      expect(move.entries[0]).toMatchObject({ attempt: 1, backendId: null, actor: 'backend' });
      expect(move.after).toMatchObject({ state: 'RUNNING', progress: null, error: null });
      expect(move.result).toBeNull();
    },
  );

  test('ends the superseded agent that was still to be killed', () => {
    const attempts = [
      anAttempt({ outcome: 'unknown', reusable: false, ...killing }),
      anAttempt({ number: 2 }),
    ];
    const move = moved(sendingTask({ number: 2 }, { attempts }), reported({ status: 'killed' }, 1));
    expect(attemptOf(move)).toMatchObject({ outcome: 'killed', endedAt: rules.now, killDueAt: null });
    expect(move.after.leasedBy).toBe('proc_1');
  });

  test('is the end of a cancelled task whose last agent it was', () => {
    const task = sendingTask(
      { outcome: 'unknown', reusable: false, ...killing },
      { ...cancelled, leasedBy: null, dueAt: null },
    );
    const move = moved(task, reported({ status: 'killed' }));
    expect(walk(move)).toEqual(['callback.superseded', 'task.cancelled >CANCELLED']);
  });

  test('lets a task out that only waited for the end of an earlier agent', () => {
    const task = sendingTask(
      { outcome: 'unknown', reusable: false, ...killing },
      { leasedBy: null, dueAt: at(160), spent: 1 },
    );
    expect(moved(task, reported({ status: 'killed' })).after.dueAt).toEqual(at(100.5));
    const sooner = { ...task, dueAt: at(100.1) };
    expect(moved(sooner, reported({ status: 'killed' })).after.dueAt).toEqual(at(100.1));
    const held = { ...task, dueAt: null, lane: '[null,null,[]]' };
    expect(moved(held, reported({ status: 'killed' })).after.dueAt).toBeNull();
  });

  test('after the end changes neither state nor error nor result, and is noted as late', () => {
    for (const state of ['COMPLETED', 'FAILED', 'CANCELLED'] as const) {
      const move = moved(endedTask(state), reported({ status: 'completed', hasResult: true }));
      expect(walk(move)).toEqual(['callback.late']);
      expect(move.after.state).toBe(state);
      expect(move.result).toBeNull();
    }
  });

  test('after the end brings progress that the end has overtaken (P7)', () => {
    const late = reported({ status: 'progress', progress: { percent: 70, message: null } });
    expect(moved(endedTask('COMPLETED'), late).after.progress?.percent).toBe(70);
    // Of an agent that goes on after its task was ended without it, nothing is taken.
    expect(
      moved(endedTask('FAILED', { outcome: 'accepted', endedAt: null, ...killing }), late).after.progress,
    ).toBeNull();
    expect(
      moved(endedTask('FAILED', { outcome: null, endedAt: null, ...killing }), late).after.progress,
    ).toBeNull();
    expect(moved(endedTask('FAILED', {}, { attempts: [] }), late).after.progress).toBeNull();
  });

  test('confirms the kill of an agent whose task has ended', () => {
    const move = moved(
      endedTask('FAILED', { outcome: 'accepted', endedAt: null, ...killing }),
      reported({ status: 'killed' }),
    );
    expect(attemptOf(move)).toMatchObject({ outcome: 'killed', endedAt: rules.now, killDueAt: null });
    expect(move.after.state).toBe('FAILED');
  });

  test('of an attempt that failed before the next one began is late', () => {
    const task = aTask({ attempt: 1, attempts: [anAttempt({ outcome: 'failed', endedAt: at(50) })] });
    expect(walk(moved(task, reported({ status: 'completed' })))).toEqual(['callback.late']);
  });
});

describe('a repeated callback', () => {
  const repeated: TaskEvent = { type: 'repeated', attempt: 1, status: 'running', eventId: 'e1', at: at(100) };

  test('is a sign of life and moves nothing', () => {
    const move = moved(runningTask(), repeated);
    expect(walk(move)).toEqual(['callback.duplicate']);
    expect(move.after).toMatchObject({ lastHeardAt: at(100), state: 'RUNNING', clockAt: at(130) });
  });

  test('of an ended task or a superseded attempt is noted only', () => {
    expect(moved(endedTask('FAILED'), repeated).after.lastHeardAt).toEqual(at(3));
    const move = moved(runningTask({ number: 2 }), repeated);
    expect(move.after.lastHeardAt).toEqual(at(3));
    expect(move.entries[0]).toMatchObject({ attempt: null, actor: 'backend' });
  });
});

describe('what a backend says when it is asked', () => {
  const sighted = (
    state: Extract<TaskEvent, { type: 'sighted' }>['state'],
    more: object = {},
  ): TaskEvent => ({
    type: 'sighted',
    attempt: 1,
    state,
    externalId: 's9',
    progress: null,
    result: null,
    error: null,
    askAt: at(160),
    ...more,
  });

  test.each(['spawning', 'queued'] as const)('%s dispatches a task of unknown outcome', (state) => {
    const move = moved(sendingTask({ outcome: 'unknown', unknownSends: 1 }), sighted(state));
    expect(walk(move)).toEqual(['task.dispatched >DISPATCHED']);
    expect(attemptOf(move)).toMatchObject({ outcome: 'accepted', externalId: 's9', askAt: at(160) });
  });

  test('running starts it and brings its progress, in the place of the last known', () => {
    const task = runningTask({}, { progress: { percent: 10, message: null, sequence: 5 } });
    const move = moved(task, sighted('running', { progress: { percent: 30, message: null } }));
    expect(move.after.progress).toEqual({ percent: 30, message: null, sequence: 5 });
    expect(walk(move)).toEqual(['task.progress']);
    expect(walk(moved(dispatchedTask(), sighted('running')))).toEqual(['task.started >RUNNING']);
  });

  test('is no sign of life to the clock of silence', () => {
    expect(moved(runningTask(), sighted('running')).after.lastHeardAt).toEqual(at(3));
  });

  test('leaves a kill that was ordered as it is', () => {
    expect(attemptOf(moved(runningTask(killing, cancelled), sighted('running')))).toMatchObject({
      killDueAt: at(90),
      askAt: null,
    });
  });

  test('heals a lost end', () => {
    const done = moved(runningTask(), sighted('completed', { result: '[1]' }));
    expect([done.after.state, done.result]).toEqual(['COMPLETED', { text: '[1]' }]);
    expect(moved(runningTask(), sighted('completed')).result).toBeNull();
    expect(moved(runningTask(), sighted('failed', { error: failure })).after.error).toEqual(failure);
    expect(moved(runningTask(), sighted('failed', { error: again })).after.state).toBe('PENDING');
    expect(moved(runningTask(), sighted('killed')).after.state).toBe('CANCELLED');
  });

  test('of an agent whose task has gone on confirms its kill, or says nothing', () => {
    const task = endedTask('FAILED', { outcome: 'accepted', endedAt: null, ...killing });
    const move = moved(task, sighted('completed', { result: '1' }));
    expect(walk(move)).toEqual(['task.killConfirmed']);
    expect(move.result).toBeNull();
    expect(attemptOf(move).endedAt).toEqual(rules.now);
    expect(refused(task, sighted('running', { externalId: null }))).toBe('stale');
  });

  test('is the end of a cancelled task whose last agent it was', () => {
    const task = sendingTask(
      { outcome: 'unknown', reusable: false, ...killing },
      { ...cancelled, leasedBy: null, dueAt: null },
    );
    expect(moved(task, sighted('killed')).after.state).toBe('CANCELLED');
  });

  test('of an unknown or ended attempt is superseded', () => {
    expect(refused(endedTask('FAILED'), sighted('running'))).toBe('superseded');
    expect(refused(aTask(), sighted('running'))).toBe('superseded');
  });
});

describe('an agent that its backend does not know', () => {
  const missing: TaskEvent = { type: 'missing', attempt: 1, askAt: at(105) };

  test('is believed lost at the second time, and another attempt follows', () => {
    const once = moved(runningTask(), missing);
    expect(once.entries).toEqual([]);
    expect(attemptOf(once)).toMatchObject({ missing: 1, askAt: at(105) });
    const twice = moved(once.after, missing);
    expect(walk(twice)).toEqual(['task.retryScheduled >PENDING']);
    expect(twice.after.spent).toBe(1);
    expect(attemptOf(twice)).toMatchObject({ outcome: 'lost', endedAt: rules.now });
  });

  test('fails the task once its attempts are over', () => {
    const move = moved(dispatchedTask({ missing: 1 }, { spent: 2 }), missing);
    expect(move.after.error?.code).toBe('LOST_BY_BACKEND');
  });

  test('is no news of a task that was not accepted, was cancelled, went on or ended', () => {
    expect(refused(sendingTask(), missing)).toBe('stale');
    expect(refused(runningTask(killing, cancelled), missing)).toBe('superseded');
    expect(refused(endedTask('FAILED', { endedAt: null, outcome: 'accepted' }), missing)).toBe('superseded');
    expect(refused(endedTask('FAILED'), missing)).toBe('superseded');
    expect(refused(aTask(), missing)).toBe('superseded');
    const attempts = [
      anAttempt({ reusable: false, ...killing }),
      anAttempt({ number: 2, outcome: 'accepted' }),
    ];
    expect(refused(runningTask({ number: 2 }, { attempts }), missing)).toBe('superseded');
  });
});

describe('of two progress reports', () => {
  const report = (sequence: number | null, percent = 50, message: string | null = null) => ({
    sequence,
    percent,
    message,
  });

  test.each([
    ['the higher sequence wins', report(2, 1), report(1, 99)],
    ['one with a sequence wins over one without', report(0, 1), report(null, 99)],
    ['without a sequence the higher percentage wins', report(null, 51), report(null, 50)],
    ['at the same place the later text wins', report(1, 50, 'b'), report(1, 50, 'a')],
    ['any text wins over none', report(1, 50, ''), report(1, 50)],
  ])('%s', (_, winner, loser) => {
    expect(isNewer(winner, loser)).toBe(true);
    expect(isNewer(loser, winner)).toBe(false);
    expect(isNewer(winner, winner)).toBe(false);
    expect(isNewer(loser, loser)).toBe(false);
  });
});
