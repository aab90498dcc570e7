import { describe, expect, test } from '@jest/globals';
import type { BackendLoad } from '../../src/domain/backend.js';
import { countPasses, placesFor, placesOf, planRelease, type Candidate } from '../../src/domain/release.js';
import {
  fits,
  laneOf,
  obstacle,
  othersFit,
  route,
  wishOfLane,
  type Fleet,
} from '../../src/domain/routing.js';
import { aBackend, at, aTask } from '../support/domain.js';

const now = at(100);
const fleetOf = (backends: readonly BackendLoad[], heldLanes: readonly string[] = []): Fleet => ({
  now,
  backends,
  heldLanes,
});
const { health } = aBackend();
const beta = (fields: Partial<BackendLoad> = {}): BackendLoad =>
  aBackend({ id: 'bknd_b', name: 'beta', ...fields });
const down = { ...health, status: 'down', reason: 'unreachable', lastError: 'refused' } as const;
const misconfigured = { ...down, reason: 'misconfigured' } as const;

describe('a wish', () => {
  test('and its lane say the same, whatever the order of its labels', () => {
    const wish = { id: 'bknd_a', name: 'alpha', labels: { zone: 'eu', gpu: 'yes' } };
    expect(laneOf(wish)).toBe(laneOf({ ...wish, labels: { gpu: 'yes', zone: 'eu' } }));
    expect(wishOfLane(laneOf(wish))).toEqual(wish);
    expect(wishOfLane(laneOf({}))).toEqual({});
  });

  test('fits a backend that has all of it', () => {
    const backend = aBackend({ labels: { zone: 'eu', gpu: 'yes' } });
    expect(fits({}, backend)).toBe(true);
    expect(fits({ id: 'bknd_a', name: 'alpha', labels: { zone: 'eu' } }, backend)).toBe(true);
    expect(fits({ id: 'bknd_b' }, backend)).toBe(false);
    expect(fits({ name: 'beta' }, backend)).toBe(false);
    expect(fits({ labels: { zone: 'us' } }, backend)).toBe(false);
  });
});

describe('what keeps a backend from taking a task', () => {
  test.each([
    ['nothing', {}, null],
    ['its removal', { deletedAt: at(1) }, { reason: 'no_backend', detail: 'backend alpha was removed' }],
    ['draining', { mode: 'draining' }, { reason: 'no_backend', detail: 'backend alpha is draining' }],
    ['disabling', { mode: 'disabled' }, { reason: 'no_backend', detail: 'backend alpha is disabled' }],
    [
      'being down',
      { health: down },
      { reason: 'backend_down', detail: 'backend alpha is unreachable: refused' },
    ],
    [
      'being down for no known reason',
      { health: { ...down, reason: null, lastError: null } },
      { detail: 'backend alpha is down' },
    ],
    [
      'being new',
      { health: { ...health, status: 'unknown' } },
      { detail: 'backend alpha has not answered a health test yet' },
    ],
    [
      'a trial that is not due',
      { health: misconfigured, trialAt: at(101) },
      { reason: 'backend_down', until: at(101) },
    ],
    ['no trial at all', { health: misconfigured }, { reason: 'backend_down' }],
    ['nothing, for a trial that is due', { health: misconfigured, trialAt: now }, null],
    ['a Retry-After', { blockedUntil: at(101) }, { reason: 'rate_limited', until: at(101) }],
    ['nothing, after a Retry-After', { blockedUntil: now }, null],
    [
      'its limit',
      { maxConcurrency: 2, inFlight: 2 },
      { reason: 'backend_full', detail: 'backend alpha runs 2 of 2' },
    ],
    ['nothing, below its limit', { maxConcurrency: 2, inFlight: 1 }, null],
    [
      'its rate',
      { maxDispatchesPerMinute: 6, nextSendAt: at(102) },
      { reason: 'rate_limited', detail: 'backend alpha takes 6 a minute' },
    ],
    ['nothing, within the horizon of its rate', { maxDispatchesPerMinute: 6, nextSendAt: at(101) }, null],
    ['nothing, before its first send', { maxDispatchesPerMinute: 6 }, null],
  ] as const)('%s', (_, fields, waiting) => {
    const found = obstacle(aBackend(fields as Partial<BackendLoad>), now);
    if (waiting === null) expect(found).toBeNull();
    else expect(found).toMatchObject(waiting);
  });
});

describe('a route', () => {
  const chosen = (backends: readonly BackendLoad[], fields = {}, lanes: string[] = []): string => {
    const found = route(aTask(fields), fleetOf(backends, lanes));
    return found.ok ? found.backend.id : `${found.waiting.reason}: ${found.waiting.detail}`;
  };

  test('goes to the least loaded by weight, at equal loads to the heavier', () => {
    expect(chosen([aBackend({ inFlight: 4, weight: 4 }), beta({ inFlight: 2 })])).toBe('bknd_a');
    expect(chosen([aBackend({ inFlight: 4 }), beta({ inFlight: 2 })])).toBe('bknd_b');
    expect(chosen([aBackend(), beta({ weight: 2 })])).toBe('bknd_b');
    expect(chosen([aBackend({ weight: 0 }), beta({ inFlight: 9 })])).toBe('bknd_b');
  });

  test('prefers another backend to those that failed, and takes those if there is none', () => {
    expect(chosen([aBackend(), beta({ inFlight: 9 })], { avoid: ['bknd_a'] })).toBe('bknd_b');
    expect(chosen([aBackend()], { avoid: ['bknd_a'] })).toBe('bknd_a');
  });

  test('waits behind those who are held for that backend already', () => {
    const lane = laneOf({ name: 'alpha' });
    expect(chosen([aBackend()], {}, [lane])).toBe('backend_full: others wait for backend alpha already');
    expect(chosen([beta()], {}, [lane])).toBe('bknd_b');
    expect(chosen([aBackend()], { lane }, [lane])).toBe('bknd_a');
  });

  test('says what it really waits for: the obstacle that is nearest to its end', () => {
    const full = beta({ maxConcurrency: 1, inFlight: 1 });
    expect(chosen([aBackend({ health: down }), full])).toBe('backend_full: backend beta runs 1 of 1');
    expect(chosen([])).toBe('no_backend: no backend has been added yet');
    expect(chosen([beta()], { wish: { id: 'bknd_x', name: 'x', labels: { gpu: 'yes' } } })).toBe(
      'no_backend: no backend has id bknd_x and name x and labels gpu=yes',
    );
    const found = route(aTask({ wish: { name: 'x' } }), fleetOf([]));
    expect(found).toMatchObject({ ok: false, lane: laneOf({ name: 'x' }) });
  });

  test('has another backend at hand only if it fits, was not tried and can take it', () => {
    const fleet = fleetOf([aBackend(), beta()]);
    expect(othersFit(aTask(), 'bknd_a', fleet)).toBe(true);
    expect(othersFit(aTask({ avoid: ['bknd_b'] }), 'bknd_a', fleet)).toBe(false);
    expect(othersFit(aTask({ wish: { name: 'alpha' } }), 'bknd_a', fleet)).toBe(false);
    expect(othersFit(aTask(), 'bknd_a', fleetOf([aBackend(), beta({ health: down })]))).toBe(false);
  });
});

describe('a release', () => {
  const candidate = (id: string, fields: Partial<Candidate> = {}): Candidate => ({
    id,
    lane: laneOf({}),
    workspace: '',
    turn: 1,
    orderAt: at(0),
    isReleased: false,
    ...fields,
  });

  test.each([
    ['is unlimited', {}, 500],
    ['is down', { health: down }, 0],
    ['is due for a trial', { health: misconfigured, trialAt: now }, 1],
    ['has slots', { maxConcurrency: 5, inFlight: 2 }, 3],
    ['has many slots', { maxConcurrency: 5000 }, 500],
    ['has a rate', { maxDispatchesPerMinute: 120 }, 3],
    ['has a rate and its next send waits', { maxDispatchesPerMinute: 120, nextSendAt: at(100.6) }, 1],
    ['has a rate and fewer slots', { maxDispatchesPerMinute: 1200, maxConcurrency: 2 }, 2],
  ] as const)('a backend that %s has its places', (_, fields, places) => {
    expect(placesOf(aBackend(fields as Partial<BackendLoad>), now)).toBe(places);
  });

  test('counts the places of every backend that a lane may use', () => {
    const fleet = fleetOf([aBackend({ maxConcurrency: 2 }), beta({ maxConcurrency: 3 })]);
    expect([placesFor(laneOf({}), fleet), placesFor(laneOf({ name: 'beta' }), fleet)]).toEqual([5, 3]);
  });

  test('lets workspaces take turns, and within a turn the order decide', () => {
    const waiting = [
      candidate('second', { turn: 2 }),
      candidate('younger', { orderAt: at(9) }),
      candidate('older', { orderAt: at(1) }),
    ];
    expect(planRelease(waiting, fleetOf([aBackend({ maxConcurrency: 2 })]))).toEqual(['older', 'younger']);
    expect(planRelease(waiting, fleetOf([aBackend()]))).toEqual(['older', 'younger', 'second']);
  });

  test('gives nobody a place that is not there, and counts who was let out before', () => {
    const waiting = [candidate('new'), candidate('out', { isReleased: true, turn: 9 })];
    expect(planRelease(waiting, fleetOf([aBackend({ maxConcurrency: 1 })]))).toEqual([]);
    expect(planRelease(waiting, fleetOf([aBackend({ maxConcurrency: 2 })]))).toEqual(['new']);
  });

  test('lets one lane out while another waits for its backend', () => {
    const waiting = [
      candidate('a', { lane: laneOf({ name: 'alpha' }) }),
      candidate('b', { lane: laneOf({ name: 'beta' }) }),
    ];
    expect(planRelease(waiting, fleetOf([aBackend({ health: down }), beta()]))).toEqual(['b']);
  });

  test('with one place at a time gives it to the workspace that was let out least', () => {
    const fleet = fleetOf([aBackend({ maxConcurrency: 1 })]);
    const waiting = [
      candidate('a1', { workspace: 'a', orderAt: at(0) }),
      candidate('a2', { workspace: 'a', orderAt: at(1), turn: 2 }),
      candidate('b1', { workspace: 'b', orderAt: at(9) }),
    ];
    const first = planRelease(waiting, fleet);
    expect(first).toEqual(['a1']);
    const passes = countPasses(waiting, first, new Map());
    expect(passes).toEqual(
      new Map([
        ['a', 1],
        ['b', 0],
      ]),
    );
    const left = [candidate('a2', { workspace: 'a', orderAt: at(1) }), ...waiting.slice(2)];
    expect(planRelease(left, fleet, passes)).toEqual(['b1']);
  });

  test('forgets who waits no more, and lets a newcomer begin beside those who were let out least', () => {
    const waiting = [candidate('c1', { workspace: 'c' }), candidate('b2', { workspace: 'b' })];
    const passes = new Map([
      ['a', 7],
      ['b', 5],
    ]);
    expect(countPasses(waiting, ['c1', 'elsewhere'], passes)).toEqual(
      new Map([
        ['c', 6],
        ['b', 5],
      ]),
    );
  });
});
