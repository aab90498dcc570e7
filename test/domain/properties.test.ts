import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { advance } from '../../src/domain/advance.js';
import { delayMs } from '../../src/domain/backoff.js';
import type { Move } from '../../src/domain/draft.js';
import type { Report, TaskEvent } from '../../src/domain/event.js';
import { isLegal } from '../../src/domain/lifecycle.js';
import { laneOf } from '../../src/domain/routing.js';
import { currentAttempt, isOpen, isTerminal, type Attempt, type Task } from '../../src/domain/task.js';
import { anAttempt, aReport, aTask, at, retry, rules } from '../support/domain.js';

const isTakenUp = (attempt: Attempt): boolean => isOpen(attempt) && attempt.reusable;
const isSameAgain = (attempt: Attempt, backendId: string): boolean =>
  attempt.reusable &&
  attempt.backendId === backendId &&
  ['not_received', 'later', 'misconfigured'].includes(attempt.outcome ?? '');

/** What a claim does to a task; the statement of the database does the same. Null where it would refuse. */
function claimed(task: Task, backendId: string, now: Date): Task | null {
  const isDue = task.dueAt !== null && task.dueAt <= now;
  if (task.state !== 'PENDING' || !isDue || task.leasedBy !== null || task.cancelRequestedAt !== null)
    return null;
  const current = currentAttempt(task);
  const lease = { leasedBy: 'proc_1', claims: task.claims + 1, lane: null, seq: task.seq + 1 };
  if (current !== null && (isTakenUp(current) || isSameAgain(current, backendId))) {
    const isDoubt = isOpen(current) && current.outcome === null;
    const again: Attempt = {
      ...current,
      sends: current.sends + 1,
      endedAt: null,
      outcome: null,
      unknownSends: current.unknownSends + (isDoubt ? 1 : 0),
    };
    const attempts = task.attempts.map((one) => (one.number === current.number ? again : one));
    return { ...task, ...lease, backendId: again.backendId, attempts };
  }
  const fresh = anAttempt({ number: task.attempt + 1, backendId, startedAt: now });
  const attempts = [...task.attempts.filter(isOpen), fresh];
  return { ...task, ...lease, attempt: fresh.number, backendId, externalId: null, attempts };
}

type Step =
  | { readonly type: 'claim'; readonly backendId: string }
  | { readonly type: 'lapse' }
  | { readonly type: 'release' }
  | { readonly type: 'event'; readonly event: TaskEvent }
  | { readonly type: 'wait'; readonly ms: number };

/** 0 stands for the attempt that is current then. */
const attemptNumbers = fc.oneof(
  { weight: 3, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) },
);
const instants = fc.nat(120).map((seconds) => at(seconds));
const words = fc.constantFrom('a', 'b', null);
const progresses = fc.option(
  fc.record({ percent: fc.constantFrom(0, 10, 50, 100), message: fc.constantFrom(null, '', 'm', 'n') }),
);
const sequences = fc.option(fc.nat(3));
const agentErrors = fc.option(
  fc.record({ code: words, message: fc.constantFrom('x', 'y'), retryable: fc.boolean() }),
);
const reports: fc.Arbitrary<Report> = fc
  .record({
    status: fc.constantFrom('running', 'progress', 'completed', 'failed', 'killed'),
    sessionId: words,
    sequence: sequences,
    progress: progresses,
    error: agentErrors,
    hasResult: fc.boolean(),
    receivedAt: instants,
  })
  .map(aReport);

const anyEvent: readonly fc.Arbitrary<TaskEvent>[] = [
  fc.record({
    type: fc.constant('accepted'),
    attempt: attemptNumbers,
    externalId: words,
    httpStatus: fc.constant(201),
  }),
  fc.record({ type: fc.constant('notSent'), attempt: attemptNumbers, reason: fc.constant('r') }),
  fc.record({
    type: fc.constant('postponed'),
    attempt: attemptNumbers,
    outcome: fc.constantFrom('not_received', 'later', 'misconfigured'),
    httpStatus: fc.constant(null),
    reason: fc.constant('r'),
    waiting: fc.constant({ reason: 'backing_off', detail: 'd', until: null } as const),
    dueAt: instants,
    avoids: fc.boolean(),
    toTheBack: fc.boolean(),
  }),
  fc.record({
    type: fc.constant('rejected'),
    attempt: attemptNumbers,
    httpStatus: fc.constant(400),
    reason: fc.constant('r'),
  }),
  fc.record({
    type: fc.constant('outcomeUnknown'),
    attempt: attemptNumbers,
    httpStatus: fc.constant(null),
    reason: fc.constant('r'),
    dueAt: instants,
    spends: fc.boolean(),
    awaySince: fc.option(instants, { nil: null }),
  }),
  fc.record({
    type: fc.constant('outcomeGivenUp'),
    attempt: attemptNumbers,
    reason: fc.constant('r'),
    killFirstMs: fc.constant(60_000),
  }),
  fc.record({
    type: fc.constant('held'),
    waiting: fc.constant({ reason: 'no_backend', detail: 'd', until: null } as const),
    lane: fc.constant(laneOf({})),
  }),
  fc.record({ type: fc.constant('reported'), attempt: attemptNumbers, report: reports }),
  fc.record({
    type: fc.constant('repeated'),
    attempt: attemptNumbers,
    status: fc.constant('running'),
    eventId: words,
    at: instants,
  }),
  fc.record({
    type: fc.constant('sighted'),
    attempt: attemptNumbers,
    state: fc.constantFrom('spawning', 'queued', 'running', 'completed', 'failed', 'killed'),
    externalId: words,
    progress: progresses,
    result: fc.constantFrom(null, '1'),
    error: fc.option(
      fc.record({ code: fc.constant('E'), message: fc.constant('m'), retryable: fc.boolean() }),
      { nil: null },
    ),
    askAt: instants,
  }),
  fc.record({ type: fc.constant('missing'), attempt: attemptNumbers, askAt: instants }),
  fc.record({ type: fc.constant('clockRanOut'), graceUntil: fc.option(instants, { nil: null }) }),
  fc.record({ type: fc.constant('cancelRequested'), reason: fc.constant('r'), actor: fc.constant('key') }),
  fc.record({
    type: fc.constant('killAnswered'),
    attempt: attemptNumbers,
    answer: fc.constantFrom('confirmed', 'missing', 'unlisted', 'pending', 'away'),
    detail: fc.constant('d'),
    nextAt: instants,
  }),
  fc.record({ type: fc.constant('gaveUp'), reason: fc.constant('r'), actor: fc.constant('key') }),
  fc.record({
    type: fc.constant('changed'),
    patch: fc.record(
      {
        priority: fc.integer({ min: 1, max: 5 }),
        scheduledFor: fc.option(instants),
        deadlineAt: fc.option(instants),
        tags: fc.constant(['t']),
      },
      { requiredKeys: [] },
    ),
    actor: fc.constant('key'),
  }),
  fc.record({ type: fc.constant('quarantined'), reason: fc.constant('r') }),
];
/** What ends a task at once comes seldom, or every walk would be short. */
const seldom = new Set(['rejected', 'clockRanOut', 'cancelRequested', 'outcomeGivenUp', 'quarantined']);
const events: fc.Arbitrary<TaskEvent> = fc.oneof(
  ...anyEvent.map((arbitrary) => {
    const [sample] = fc.sample(arbitrary, { numRuns: 1, seed: 1 });
    return { arbitrary, weight: seldom.has(sample?.type ?? '') ? 1 : 4 };
  }),
);

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ type: fc.constant('claim'), backendId: fc.constantFrom('bknd_a', 'bknd_b') }),
  },
  { weight: 1, arbitrary: fc.constant({ type: 'lapse' } as const) },
  { weight: 1, arbitrary: fc.constant({ type: 'release' } as const) },
  { weight: 12, arbitrary: fc.record({ type: fc.constant('event'), event: events }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant('wait'), ms: fc.constantFrom(1000, 60_000, 4_000_000) }),
  },
);
const walks = fc.array(steps, { minLength: 1, maxLength: 40, size: 'max' });

const policies = fc.constantFrom(
  retry,
  { ...retry, onUnknownOutcome: 'failover' as const },
  { ...retry, maxAttempts: 1, maxSends: 1 },
);

const named = (event: TaskEvent, task: Task): TaskEvent =>
  'attempt' in event && event.attempt === 0 ? { ...event, attempt: task.attempt } : event;

type Seen = { readonly before: Task; readonly event: TaskEvent; readonly move: ReturnType<typeof advance> };

/** Takes a task through the steps; `onMove` sees every event, `onRest` the task after every step. */
function take(
  policy: Task['retry'],
  stepsToTake: readonly Step[],
  onMove: (seen: Seen) => void,
  onRest: (task: Task) => void = () => undefined,
): Task {
  let task = aTask({ retry: policy, timeouts: { ...aTask().timeouts, heartbeatMs: 30_000 } });
  let now = at(0);
  for (const step of stepsToTake) {
    now = new Date(now.getTime() + 1000);
    if (step.type === 'wait') now = new Date(now.getTime() + step.ms);
    if (step.type === 'claim') task = claimed(task, step.backendId, now) ?? task;
    // The process died: its lease is void, and what it had is due again.
    if (step.type === 'lapse') task = { ...task, leasedBy: null };
    if (step.type === 'release' && task.lane !== null) task = { ...task, dueAt: now };
    if (step.type === 'event') {
      const event = named(step.event, task);
      const move = advance(task, event, { ...rules, now });
      onMove({ before: task, event, move });
      if (move.ok) {
        // The database forgets ended attempts that are not the current one.
        const attempts = move.after.attempts.filter(
          (one) => isOpen(one) || one.number === move.after.attempt,
        );
        task = { ...move.after, attempts };
      }
    }
    onRest(task);
  }
  return task;
}

const check = (property: (policy: Task['retry'], taken: readonly Step[]) => void, numRuns = 1000): void =>
  fc.assert(fc.property(policies, walks, property), { numRuns });

const made = (seen: Seen): Move | null => (seen.move.ok ? seen.move : null);

describe('any order and repetition of any events', () => {
  test('is a legal walk whose entries are contiguous and numbered', () => {
    check((policy, taken) => {
      take(policy, taken, (seen) => {
        const move = made(seen);
        if (move === null) return;
        let state = seen.before.state;
        for (const { from, to } of move.entries) {
          expect(from).toBe(state);
          if (from !== to) expect(isLegal(from, to)).toBe(true);
          state = to;
        }
        expect(move.after.state).toBe(state);
        expect(move.after.seq).toBe(seen.before.seq + move.entries.length);
      });
    });
  });

  test('reaches every state, and each event both moves and is refused: the walks are no idle talk', () => {
    const reached = new Set<string>();
    const outcomes = new Set<string>();
    check((policy, taken) => {
      take(policy, taken, ({ event, move }) => {
        outcomes.add(`${event.type} ${move.ok ? 'moved' : 'refused'}`);
        if (move.ok) reached.add(move.after.state);
      });
    });
    expect([...reached].sort()).toEqual([
      'CANCELLED',
      'COMPLETED',
      'DISPATCHED',
      'FAILED',
      'PENDING',
      'RUNNING',
    ]);
    const always = new Set(['reported refused', 'repeated refused']);
    const types: readonly TaskEvent['type'][] = [
      'accepted',
      'notSent',
      'postponed',
      'rejected',
      'outcomeUnknown',
      'outcomeGivenUp',
      'held',
      'reported',
      'repeated',
      'sighted',
      'missing',
      'clockRanOut',
      'cancelRequested',
      'killAnswered',
      'gaveUp',
      'changed',
      'quarantined',
    ];
    for (const type of types) {
      for (const outcome of ['moved', 'refused']) {
        const name = `${type} ${outcome}`;
        expect([name, outcomes.has(name)]).toEqual([name, !always.has(name)]);
      }
    }
  });

  test('never leaves a terminal state, nor changes its error or its times', () => {
    check((policy, taken) => {
      take(policy, taken, (seen) => {
        const move = made(seen);
        if (move === null || !isTerminal(seen.before.state)) return;
        const kept = ({ state, error, dispatchedAt, startedAt, finishedAt }: Task): object => ({
          ...{ state, error, dispatchedAt, startedAt, finishedAt },
        });
        expect(kept(move.after)).toEqual(kept(seen.before));
        expect(move.result).toBeNull();
      });
    });
  });

  test('leaves a kill due for every open attempt of a task that has ended', () => {
    check((policy, taken) => {
      take(
        policy,
        taken,
        () => undefined,
        (task) => {
          if (!isTerminal(task.state)) return;
          for (const attempt of task.attempts.filter(isOpen)) expect(attempt.killDueAt).not.toBeNull();
        },
      );
    });
  });

  test('leaves every living task due, leased, held, or under an open attempt (P10)', () => {
    check((policy, taken) => {
      take(
        policy,
        taken,
        () => undefined,
        (task) => {
          if (isTerminal(task.state)) return;
          const reasons = [
            task.dueAt !== null,
            task.leasedBy !== null,
            task.lane !== null,
            task.attempts.some(isOpen),
          ];
          expect(reasons).toContain(true);
          if (task.state !== 'PENDING') expect(currentAttempt(task)).toMatchObject({ endedAt: null });
          // A cancelled task that nobody is sending waits for the end of an agent, and for nothing else.
          if (task.cancelRequestedAt !== null && task.leasedBy === null)
            expect(task.attempts.some(isOpen)).toBe(true);
        },
      );
    });
  });

  test('never routes a cancelled task again', () => {
    check((policy, taken) => {
      take(policy, taken, (seen) => {
        const move = made(seen);
        if (move === null || move.after.cancelRequestedAt === null || isTerminal(move.after.state)) return;
        expect(move.after.lane).toBeNull();
        if (move.after.leasedBy === null) expect(claimed(move.after, 'bknd_a', at(1e6))).toBeNull();
        if (seen.before.cancelRequestedAt !== null && seen.before.state !== 'PENDING')
          expect(move.after.state).not.toBe('PENDING');
      });
    });
  });

  test('of a superseded attempt never changes state, error, progress or result (I7, P8)', () => {
    let superseded = 0;
    check((policy, taken) => {
      take(policy, taken, (seen) => {
        const move = made(seen);
        const { event, before } = seen;
        if (move === null || !('attempt' in event) || event.attempt === before.attempt) return;
        superseded += 1;
        expect(move.result).toBeNull();
        expect(move.after.progress).toEqual(before.progress);
        // It may be the last agent that a cancelled task, or one that was given up, waited for.
        const waited = before.cancelRequestedAt !== null && !move.after.attempts.some(isOpen);
        const abandoned = before.cancelRequestedAt !== null && move.after.error?.code === 'KILL_UNCONFIRMED';
        if (!waited && !abandoned)
          expect([move.after.state, move.after.error]).toEqual([before.state, before.error]);
      });
    });
    expect(superseded).toBeGreaterThan(50);
  });

  test('leaves an attempt as uncertain as its most uncertain send (I8)', () => {
    const certain = new Set<TaskEvent['type']>(['accepted', 'sighted', 'reported', 'killAnswered', 'gaveUp']);
    let doubts = 0;
    check((policy, taken) => {
      take(policy, taken, (seen) => {
        const move = made(seen);
        if (move === null) return;
        for (const attempt of seen.before.attempts) {
          if (!isOpen(attempt) || attempt.unknownSends === 0) continue;
          doubts += 1;
          const after = move.after.attempts.find(({ number }) => number === attempt.number);
          expect(after?.unknownSends).toBeGreaterThanOrEqual(attempt.unknownSends);
          // Whatever ends it, or lets it count as accepted, must be a word about its agent.
          if (after?.endedAt !== null && !certain.has(seen.event.type))
            expect([seen.event.type, attempt.outcome]).toEqual(['missing', 'accepted']);
          const goesElsewhere =
            seen.before.state === 'PENDING' && move.after.state === 'PENDING' && after?.reusable === false;
          if (goesElsewhere && attempt.reusable) expect(seen.event.type).toBe('outcomeGivenUp');
        }
      });
    });
    expect(doubts).toBeGreaterThan(100);
  });

  test('spends at most maxAttempts', () => {
    check((policy, taken) => {
      const task = take(policy, taken, () => undefined);
      expect(task.spent).toBeLessThanOrEqual(policy.maxAttempts);
      expect(task.attempts.every(({ sends }) => sends >= 0)).toBe(true);
    });
  });
});

describe('one set of callbacks with at most one distinct end', () => {
  type Told = { readonly report: Report; readonly dedupeKey: string | null };

  /** As the database keeps them: by id and status; an end without an id by its bytes; the rest always anew. */
  function stored(told: readonly Told[]): Told[] {
    const kept = new Set<string>();
    return told.filter(({ dedupeKey }) => {
      if (dedupeKey === null) return true;
      if (kept.has(dedupeKey)) return false;
      kept.add(dedupeKey);
      return true;
    });
  }

  const living: fc.Arbitrary<Told> = fc
    .record({
      status: fc.constantFrom('running' as const, 'progress' as const),
      eventId: fc.option(fc.constantFrom('e1', 'e2', 'e3', 'e4'), { freq: 2 }),
      sequence: sequences,
      progress: progresses,
      sessionId: fc.constantFrom(null, 's1'),
    })
    .map((fields) => ({
      report: aReport(fields),
      dedupeKey: fields.eventId === null ? null : `${fields.eventId} ${fields.status}`,
    }));
  const ends: fc.Arbitrary<Told> = fc
    .record({
      status: fc.constantFrom('completed' as const, 'failed' as const, 'killed' as const),
      error: fc.option(
        fc.record({ code: words, message: fc.constantFrom('x', 'y'), retryable: fc.boolean() }),
      ),
      hasResult: fc.boolean(),
    })
    .map((fields) => ({ report: aReport(fields), dedupeKey: `${fields.status} bytes` }));

  /** Two callbacks with one id and status are one callback: the set holds each key once. */
  const sets = fc
    .tuple(
      fc.uniqueArray(living, { maxLength: 6, selector: ({ dedupeKey, report }) => dedupeKey ?? report }),
      fc.option(ends),
    )
    .map(([some, end]) => (end === null ? some : [...some, end]))
    .filter((told) => told.length > 0);

  const orders = sets.chain((set) =>
    fc.tuple(
      fc.shuffledSubarray(set, { minLength: set.length, maxLength: set.length }),
      fc
        .tuple(
          fc.shuffledSubarray(set, { minLength: set.length, maxLength: set.length }),
          fc.array(fc.tuple(fc.nat(20), fc.constantFrom(...set)), { maxLength: 6 }),
        )
        .map(([order, again]) =>
          again.reduce((told, [place, one]) => told.toSpliced(place % (told.length + 1), 0, one), order),
        ),
    ),
  );

  const starts = fc.constantFrom(
    aTask({
      attempt: 1,
      leasedBy: 'proc_1',
      backendId: 'bknd_a',
      attempts: [anAttempt()],
    }),
    aTask({
      attempt: 1,
      leasedBy: 'proc_1',
      backendId: 'bknd_a',
      attempts: [anAttempt()],
      cancelRequestedAt: at(5),
      cancelReason: 'enough',
    }),
    aTask({
      attempt: 1,
      spent: 2,
      backendId: 'bknd_a',
      attempts: [anAttempt({ outcome: 'unknown', unknownSends: 2 })],
    }),
  );

  function fold(task: Task, told: readonly Told[]): object {
    let results = 0;
    const end = stored(told).reduce((before, { report }) => {
      const move = advance(before, { type: 'reported', attempt: 1, report }, rules);
      if (!move.ok) throw new Error(`refused as ${move.reason}`);
      results += move.result === null ? 0 : 1;
      return move.after;
    }, task);
    const { state, progress, error, externalId, spent, cancelRequestedAt, dueAt, waiting } = end;
    return { state, progress, error, externalId, spent, cancelRequestedAt, dueAt, waiting, results };
  }

  test('converges to the same state, progress, error and result in any order and repetition (P7)', () => {
    fc.assert(
      fc.property(starts, orders, (task, [once, repeated]) => {
        expect(fold(task, repeated)).toEqual(fold(task, once));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('delays', () => {
  test('stay within nothing and the maximum, whatever failed how often', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -5, max: 10_000 }),
        fc.integer({ min: 1, max: 30 * 86_400_000 }),
        fc.integer({ min: 1, max: 30 * 86_400_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, backoffBaseMs, backoffMaxMs, random) => {
          const ms = delayMs(failures, { backoffBaseMs, backoffMaxMs }, random);
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThanOrEqual(backoffMaxMs);
          expect(Number.isInteger(ms)).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });
});
