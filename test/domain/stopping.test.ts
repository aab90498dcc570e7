import { describe, expect, test } from '@jest/globals';
import type { TaskEvent } from '../../src/domain/event.js';
import { killForMs } from '../../src/domain/stopping.js';
import {
  anAttempt,
  at,
  attemptOf,
  aTask,
  dispatchedTask,
  endedTask,
  moved,
  refused,
  rules,
  runningTask,
  sendingTask,
  walk,
} from '../support/domain.js';

const cancelled = { cancelRequestedAt: at(90), cancelReason: 'enough' };
const killing = { killDueAt: at(90), killSince: at(90), killReason: 'enough' };

describe('a cancel', () => {
  const cancel: TaskEvent = { type: 'cancelRequested', reason: 'enough', actor: 'key_1' };

  test('is final where no agent can be alive (P11)', () => {
    for (const task of [
      aTask(),
      aTask({ attempt: 1, attempts: [anAttempt({ outcome: 'later', endedAt: at(50) })] }),
    ]) {
      const move = moved(task, cancel);
      expect(walk(move)).toEqual(['task.cancelled >CANCELLED']);
      expect(move.entries[0]).toMatchObject({ actor: 'key_1', detail: { reason: 'enough' } });
      expect(move.after).toMatchObject({ cancelRequestedAt: rules.now, finishedAt: rules.now, dueAt: null });
    }
  });

  test('orders the kill where one may live, and waits for its word', () => {
    const move = moved(runningTask(), cancel);
    expect(walk(move)).toEqual(['task.cancelRequested']);
    expect(move.after).toMatchObject({ state: 'RUNNING', cancelReason: 'enough' });
    expect(attemptOf(move)).toMatchObject({ killDueAt: rules.now, killReason: 'enough', askAt: null });
  });

  test('leaves a send that is under way its outcome, and routes nothing else any more', () => {
    expect(moved(sendingTask(), cancel).after.leasedBy).toBe('proc_1');
    const doubtful = sendingTask({ outcome: 'unknown', unknownSends: 1 }, { leasedBy: null });
    expect(moved(doubtful, cancel).after).toMatchObject({ state: 'PENDING', dueAt: null, lane: null });
  });

  test('comes once, and not after the end', () => {
    expect(refused(runningTask(killing, cancelled), cancel)).toBe('stale');
    expect(refused(endedTask('COMPLETED'), cancel)).toBe('over');
  });
});

describe('an answer to a kill', () => {
  const answer = (word: Extract<TaskEvent, { type: 'killAnswered' }>['answer']): TaskEvent => ({
    type: 'killAnswered',
    attempt: 1,
    answer: word,
    detail: 'd',
    nextAt: at(130),
  });

  test('that confirms it ends a cancelled task', () => {
    const move = moved(runningTask(killing, cancelled), answer('confirmed'));
    expect(walk(move)).toEqual(['task.killConfirmed', 'task.cancelled >CANCELLED']);
    expect(attemptOf(move)).toMatchObject({ outcome: 'killed', endedAt: rules.now, killDueAt: null });
  });

  test('of the first of two agents leaves the task to the second', () => {
    const attempts = [anAttempt(killing), anAttempt({ number: 2, ...killing })];
    const task = sendingTask({ number: 2 }, { ...cancelled, attempts, leasedBy: null, dueAt: null });
    const move = moved(task, answer('confirmed'));
    expect(move.after.state).toBe('PENDING');
    expect(moved(move.after, { ...answer('confirmed'), attempt: 2 } as TaskEvent).after.state).toBe(
      'CANCELLED',
    );
  });

  test('counts as confirmed when neither kill nor status knows the agent, twice in a row', () => {
    const once = moved(runningTask(killing, cancelled), answer('missing'));
    expect(once.after.state).toBe('RUNNING');
    expect(attemptOf(once)).toMatchObject({ missing: 1, killDueAt: at(130), killTries: 1 });
    expect(moved(once.after, answer('missing')).after.state).toBe('CANCELLED');
    const between = moved(once.after, answer('pending'));
    expect(attemptOf(between).missing).toBe(0);
  });

  test('that only finds it unlisted counts after the usual silence: a list may be behind', () => {
    const early = moved(runningTask(killing, cancelled), answer('unlisted'));
    expect(attemptOf(early)).toMatchObject({ missing: 0, endedAt: null });
    const once = moved(early.after, answer('unlisted'), { now: at(150) });
    expect(attemptOf(once).missing).toBe(1);
    expect(moved(once.after, answer('unlisted'), { now: at(155) }).after.state).toBe('CANCELLED');
  });

  test('that proves nothing is asked again; the timeline says once that it was sent', () => {
    const once = moved(runningTask(killing, cancelled), answer('pending'));
    expect(walk(once)).toEqual(['task.killSent']);
    const twice = moved(once.after, answer('pending'));
    expect(walk(twice)).toEqual([]);
    expect(attemptOf(twice)).toMatchObject({ killTries: 2, killDueAt: at(130), endedAt: null });
  });

  test('of a superseded agent lets the waiting task go on', () => {
    const task = sendingTask(
      { outcome: 'unknown', reusable: false, ...killing },
      { leasedBy: null, dueAt: at(160) },
    );
    const move = moved(task, answer('confirmed'));
    expect(move.after).toMatchObject({ state: 'PENDING', dueAt: at(100.5) });
  });

  test('of an agent whose task has ended frees its slot', () => {
    const move = moved(
      endedTask('FAILED', { outcome: 'accepted', endedAt: null, ...killing }),
      answer('confirmed'),
    );
    expect(move.after.state).toBe('FAILED');
    expect(attemptOf(move).endedAt).toEqual(rules.now);
  });

  test('is given up after a day, or when its backend was away too long', () => {
    const old = { ...killing, killSince: at(100 - killForMs / 1000) };
    const day = moved(runningTask(old, cancelled), answer('pending'));
    expect(walk(day)).toEqual(['task.killSent', 'task.killGivenUp', 'task.failed >FAILED']);
    expect(day.after.error?.code).toBe('KILL_UNCONFIRMED');
    expect(attemptOf(day)).toMatchObject({ outcome: 'given_up', endedAt: rules.now, killDueAt: null });

    const away = moved(runningTask(killing, cancelled), answer('away'));
    expect(attemptOf(away).awaySince).toEqual(rules.now);
    const gone = moved(away.after, answer('away'), { now: at(100 + 3600) });
    expect(gone.after.error?.code).toBe('KILL_UNCONFIRMED');
  });

  test('that is given up frees the slot of a task that was not cancelled, and changes nothing else', () => {
    const old = { ...killing, killSince: at(100 - killForMs / 1000) };
    const ended = moved(
      endedTask('FAILED', { outcome: 'accepted', endedAt: null, ...old }),
      answer('pending'),
    );
    expect([ended.after.state, attemptOf(ended).outcome]).toEqual(['FAILED', 'given_up']);
    const attempts = [anAttempt(old), anAttempt({ number: 2, outcome: 'accepted' })];
    const running = moved(runningTask({ number: 2 }, { attempts }), answer('pending'));
    expect(running.after.state).toBe('RUNNING');
  });

  test('for which nobody asked, or of an attempt that has ended, says nothing', () => {
    expect(refused(runningTask(), answer('confirmed'))).toBe('stale');
    expect(refused(endedTask('FAILED'), answer('confirmed'))).toBe('superseded');
    expect(refused(aTask(), answer('confirmed'))).toBe('superseded');
  });
});

describe('giving up a kill', () => {
  const gaveUp: TaskEvent = { type: 'gaveUp', reason: 'an admin gave up', actor: 'key_1' };

  test('ends a cancelled task, and says that its agents may still run', () => {
    const attempts = [anAttempt(killing), anAttempt({ number: 2, ...killing })];
    const move = moved(sendingTask({ number: 2 }, { ...cancelled, attempts }), gaveUp);
    expect(walk(move)).toEqual(['task.killGivenUp', 'task.killGivenUp', 'task.failed >FAILED']);
    expect(move.after.error).toEqual({
      code: 'KILL_UNCONFIRMED',
      message: 'an admin gave up; the agent may still run',
      retryable: false,
    });
    expect(move.entries[2]?.actor).toBe('key_1');
  });

  test('is for tasks that are being cancelled', () => {
    expect(refused(runningTask(), gaveUp)).toBe('stale');
    expect(refused(endedTask('FAILED'), gaveUp)).toBe('over');
  });
});

describe('a clock', () => {
  const ranOut: TaskEvent = { type: 'clockRanOut', graceUntil: null };

  test('that ran out fails the task with its own code and has the agent killed', () => {
    const move = moved(runningTask(), ranOut);
    expect(move.after.error).toEqual({
      code: 'HEARTBEAT_TIMEOUT',
      message: 'heartbeat timeout at 2026-03-01T12:00:33.000Z',
      retryable: false,
    });
    expect(attemptOf(move)).toMatchObject({ killDueAt: rules.now, endedAt: null });
    expect(moved(aTask({ deadlineAt: at(99) }), ranOut).after.error?.code).toBe('DEADLINE_EXCEEDED');
  });

  test('that has not run out changes nothing', () => {
    expect(refused(dispatchedTask(), ranOut)).toBe('stale');
    expect(refused(endedTask('FAILED'), ranOut)).toBe('over');
  });
});

describe('a quarantine', () => {
  const quarantined: TaskEvent = { type: 'quarantined', reason: 'claimed five times' };

  test('ends the task, and once', () => {
    const move = moved(sendingTask(), quarantined);
    expect(move.after).toMatchObject({ state: 'FAILED', leasedBy: null, error: { code: 'QUARANTINED' } });
    expect(attemptOf(move).killDueAt).toEqual(rules.now);
    expect(refused(move.after, quarantined)).toBe('over');
  });
});

describe('a change', () => {
  const changed = (patch: Extract<TaskEvent, { type: 'changed' }>['patch']): TaskEvent => ({
    type: 'changed',
    patch,
    actor: 'key_1',
  });

  test('of what was never sent is taken and named', () => {
    const move = moved(aTask(), changed({ tags: ['x'], priority: 1, metadata: '{}', deadlineAt: at(900) }));
    expect(move.after).toMatchObject({
      tags: ['x'],
      priority: 1,
      orderAt: at(0),
      deadlineAt: at(900),
      clockAt: at(900),
    });
    expect(move.entries[0]).toMatchObject({
      actor: 'key_1',
      detail: { changed: ['deadlineAt', 'metadata', 'priority', 'tags'] },
    });
    expect(move.after).not.toHaveProperty('metadata');
  });

  test('of its time schedules it, and of its time away makes it due', () => {
    const later = moved(aTask(), changed({ scheduledFor: at(500) }));
    expect(later.after).toMatchObject({
      dueAt: at(500),
      waiting: { reason: 'scheduled' },
      orderAt: at(1700),
    });
    const now = moved(later.after, changed({ scheduledFor: null }));
    expect(now.after).toMatchObject({ dueAt: rules.now, waiting: null, orderAt: at(1200) });
    expect(moved(later.after, changed({ priority: 1 })).after).toMatchObject({
      dueAt: at(500),
      orderAt: at(500),
    });
    // Its age counts from then also when that time has come.
    expect(moved(later.after, changed({ priority: 1 }), { now: at(600) }).after.orderAt).toEqual(at(500));
  });

  test('of its wish routes a held task anew', () => {
    const held = aTask({ dueAt: null, lane: '[null,null,[]]', avoid: ['bknd_a'] });
    const move = moved(held, changed({ wish: { name: 'beta' } }));
    expect(move.after).toMatchObject({ lane: null, dueAt: rules.now, avoid: [], wish: { name: 'beta' } });
  });

  test('forbids that an attempt made with other bytes is sent again', () => {
    const task = aTask({ attempt: 1, attempts: [anAttempt({ outcome: 'not_received', endedAt: at(50) })] });
    expect(attemptOf(moved(task, changed({ tags: [] }))).reusable).toBe(false);
  });

  test('comes too late once anything was sent, or is being sent', () => {
    const patch = changed({ priority: 1 });
    expect(refused(sendingTask(), patch)).toBe('sent');
    expect(refused(dispatchedTask(), patch)).toBe('sent');
    expect(refused(aTask(cancelled), patch)).toBe('sent');
    expect(refused(aTask({ spent: 1 }), patch)).toBe('sent');
    expect(
      refused(aTask({ attempt: 1, attempts: [anAttempt({ outcome: 'later', endedAt: at(50) })] }), patch),
    ).toBe('sent');
    expect(refused(sendingTask({ outcome: 'unknown' }, { leasedBy: null }), patch)).toBe('sent');
    expect(refused(endedTask('FAILED'), patch)).toBe('over');
  });
});
