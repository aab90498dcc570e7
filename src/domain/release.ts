import type { BackendLoad } from './backend.js';
import { fits, obstacle, rateHorizonMs, wishOfLane, type Fleet } from './routing.js';

/** A task that waits for a backend: its lane, its turn within its workspace there, and its place in the order. */
export type Candidate = {
  readonly id: string;
  readonly lane: string;
  readonly turn: number;
  readonly orderAt: Date;
  /** It was let out before and is still on its way: it takes a place, and needs no second ring. */
  readonly isReleased: boolean;
};

/** What a backend without limits is given at once; more would only queue where it cannot be seen. */
const unlimitedPlaces = 500;

/** How many tasks a backend could take now. */
export function placesOf(backend: BackendLoad, now: Date): number {
  if (obstacle(backend, now) !== null) return 0;
  if (backend.health.status !== 'up') return 1; // one trial
  const slots = backend.maxConcurrency === null ? unlimitedPlaces : backend.maxConcurrency - backend.inFlight;
  if (backend.maxDispatchesPerMinute === null) return Math.min(slots, unlimitedPlaces);
  const stepMs = 60_000 / backend.maxDispatchesPerMinute;
  const firstMs = Math.max(0, (backend.nextSendAt?.getTime() ?? 0) - now.getTime());
  return Math.min(slots, Math.max(0, Math.floor((rateHorizonMs - firstMs) / stepMs) + 1));
}

/**
 * Who may go now: workspaces take turns, within a turn the order decides, and nobody gets a place that is not
 * there. Level-triggered: it looks at what is free and who waits, never at what happened.
 */
export function planRelease(candidates: readonly Candidate[], fleet: Fleet): readonly string[] {
  const places = new Map(fleet.backends.map((backend) => [backend.id, placesOf(backend, fleet.now)]));
  const backendsOf = new Map<string, readonly BackendLoad[]>();
  const fitting = (lane: string): readonly BackendLoad[] => {
    const known = backendsOf.get(lane) ?? fleet.backends.filter((backend) => fits(wishOfLane(lane), backend));
    backendsOf.set(lane, known);
    return known;
  };
  const inOrder = [...candidates].sort(
    (a, b) =>
      Number(b.isReleased) - Number(a.isReleased) ||
      a.turn - b.turn ||
      a.orderAt.getTime() - b.orderAt.getTime(),
  );
  const released: string[] = [];
  for (const { id, lane, isReleased } of inOrder) {
    const backend = fitting(lane).find((one) => (places.get(one.id) ?? 0) > 0);
    if (backend === undefined) continue;
    places.set(backend.id, (places.get(backend.id) ?? 0) - 1);
    if (!isReleased) released.push(id);
  }
  return released;
}

/** The most tasks of one lane that could go now, so that no more are read. */
export function placesFor(lane: string, fleet: Fleet): number {
  const wish = wishOfLane(lane);
  return fleet.backends
    .filter((backend) => fits(wish, backend))
    .reduce((sum, backend) => sum + placesOf(backend, fleet.now), 0);
}
