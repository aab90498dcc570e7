import type { Backend, BackendLoad } from './backend.js';
import type { BackendWish, Task, Waiting } from './task.js';

/** Where a task goes, or why it must wait and in which lane. Limits are only wished here: the claim decides them. */
export type Route =
  | { readonly ok: true; readonly backend: BackendLoad }
  | { readonly ok: false; readonly waiting: Waiting; readonly lane: string };

/** What routing looks at: database time, the fleet with its loads, and the lanes in which somebody waits. */
export type Fleet = {
  readonly now: Date;
  readonly backends: readonly BackendLoad[];
  readonly heldLanes: readonly string[];
};

/** The wish of a task as one text: all tasks of a lane may use the same backends. */
export function laneOf(wish: BackendWish): string {
  const labels = Object.entries(wish.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([wish.id ?? null, wish.name ?? null, labels]);
}

export function wishOfLane(lane: string): BackendWish {
  const [id, name, labels] = JSON.parse(lane) as [string | null, string | null, [string, string][]];
  return {
    ...(id === null ? {} : { id }),
    ...(name === null ? {} : { name }),
    ...(labels.length === 0 ? {} : { labels: Object.fromEntries(labels) }),
  };
}

/** Whether a backend is one that was asked for, whatever its state. */
export function fits(wish: BackendWish, backend: Pick<Backend, 'id' | 'name' | 'labels'>): boolean {
  if (wish.id !== undefined && wish.id !== backend.id) return false;
  if (wish.name !== undefined && wish.name !== backend.name) return false;
  return Object.entries(wish.labels ?? {}).every(([key, value]) => backend.labels[key] === value);
}

/** Why this backend can take nothing now, or null if it can. The order of the reasons is the order of their cure. */
export function obstacle(backend: BackendLoad, now: Date): Waiting | null {
  const name = `backend ${backend.name}`;
  if (backend.deletedAt !== null) return wait('no_backend', `${name} was removed`);
  if (backend.mode !== 'active') return wait('no_backend', `${name} is ${backend.mode}`);
  if (backend.health.status !== 'up') {
    const isTrial =
      backend.health.reason === 'misconfigured' && backend.trialAt !== null && backend.trialAt <= now;
    if (!isTrial) return wait('backend_down', downDetail(backend), backend.trialAt);
  }
  if (backend.blockedUntil !== null && backend.blockedUntil > now) {
    return wait('rate_limited', `${name} asked to be left alone`, backend.blockedUntil);
  }
  if (backend.maxConcurrency !== null && backend.inFlight >= backend.maxConcurrency) {
    return wait('backend_full', `${name} runs ${backend.inFlight} of ${backend.maxConcurrency}`);
  }
  const horizon = now.getTime() + rateHorizonMs;
  if (backend.maxDispatchesPerMinute !== null && (backend.nextSendAt?.getTime() ?? 0) > horizon) {
    return wait(
      'rate_limited',
      `${name} takes ${backend.maxDispatchesPerMinute} a minute`,
      backend.nextSendAt,
    );
  }
  return null;
}

/** How far ahead a rate-limited send may be claimed; the sender then waits for its very instant. */
export const rateHorizonMs = 1000;

function downDetail(backend: BackendLoad): string {
  const { status, reason, lastError } = backend.health;
  if (status === 'unknown') return `backend ${backend.name} has not answered a health test yet`;
  return `backend ${backend.name} is ${reason ?? 'down'}${lastError === null ? '' : `: ${lastError}`}`;
}

const wait = (reason: Waiting['reason'], detail: string, until: Date | null = null): Waiting => ({
  reason,
  detail,
  until,
});

/**
 * The least loaded of the backends that fit and can take it; those that this round of attempts failed on come
 * last. A newcomer waits behind whoever is already held for a backend it would get.
 */
export function route(task: Pick<Task, 'wish' | 'avoid' | 'lane'>, fleet: Fleet): Route {
  const lane = laneOf(task.wish);
  const matching = fleet.backends.filter((backend) => fits(task.wish, backend));
  const able = matching.filter((backend) => obstacle(backend, fleet.now) === null);
  const preferred = able.filter(({ id }) => !task.avoid.includes(id));
  const backend = leastLoaded(preferred.length > 0 ? preferred : able);
  if (backend === null) return { ok: false, waiting: whyNone(task.wish, matching, fleet.now), lane };
  if (task.lane === null && isSpokenFor(backend, fleet.heldLanes)) {
    return {
      ok: false,
      waiting: wait('backend_full', `others wait for backend ${backend.name} already`),
      lane,
    };
  }
  return { ok: true, backend };
}

function isSpokenFor(backend: Backend, heldLanes: readonly string[]): boolean {
  return heldLanes.some((lane) => fits(wishOfLane(lane), backend));
}

function leastLoaded(backends: readonly BackendLoad[]): BackendLoad | null {
  const loadOf = ({ inFlight, weight }: BackendLoad): number => (weight > 0 ? inFlight / weight : Infinity);
  // At equal loads the heavier one: else light backends would get every first task of a quiet hour.
  return backends.reduce<BackendLoad | null>((best, next) => {
    if (best === null) return next;
    const difference = loadOf(next) - loadOf(best);
    return difference < 0 || (difference === 0 && next.weight > best.weight) ? next : best;
  }, null);
}

const severity: readonly Waiting['reason'][] = ['rate_limited', 'backend_full', 'backend_down', 'no_backend'];

/** Of all obstacles the one that is nearest to its end: that is what the task really waits for. */
function whyNone(wish: BackendWish, matching: readonly BackendLoad[], now: Date): Waiting {
  const obstacles = matching.map((backend) => obstacle(backend, now)).filter((found) => found !== null);
  for (const reason of severity) {
    const found = obstacles.find((one) => one.reason === reason);
    if (found !== undefined) return found;
  }
  return wait('no_backend', `no backend has ${describe(wish)}`);
}

function describe(wish: BackendWish): string {
  const labels = Object.entries(wish.labels ?? {}).map(([key, value]) => `${key}=${value}`);
  const asked = [
    ...(wish.id === undefined ? [] : [`id ${wish.id}`]),
    ...(wish.name === undefined ? [] : [`name ${wish.name}`]),
    ...(labels.length === 0 ? [] : [`labels ${labels.join(', ')}`]),
  ];
  return asked.length === 0 ? 'been added yet' : asked.join(' and ');
}

/** Whether another backend than this could take the task at once. */
export function othersFit(task: Pick<Task, 'wish' | 'avoid'>, except: string, fleet: Fleet): boolean {
  return fleet.backends.some(
    (backend) =>
      backend.id !== except &&
      !task.avoid.includes(backend.id) &&
      fits(task.wish, backend) &&
      obstacle(backend, fleet.now) === null,
  );
}
