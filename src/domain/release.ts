import type { BackendLoad } from './backend.js';
import { fits, obstacle, rateHorizonMs, wishOfLane, type Fleet } from './routing.js';

/** A task that waits for a backend: its lane, its turn within its workspace there, and its place in the order. */
export type Candidate = {
  readonly id: string;
  readonly lane: string;
  /** Empty for tasks without one: together they are one workspace among the others. */
  readonly workspace: string;
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

/** How often each workspace that waits was let out: who was let out less goes first. */
export type Passes = ReadonlyMap<string, number>;

/**
 * Who may go now: workspaces take turns, within a turn the order decides, and nobody gets a place that is not
 * there. Level-triggered: it looks at what is free and who waits, never at what happened; only whose turn it is
 * is remembered, or with one place at a time the workspace of the oldest task would have every turn.
 */
export function planRelease(
  candidates: readonly Candidate[],
  fleet: Fleet,
  passes: Passes = new Map(),
): readonly string[] {
  const free = fleet.backends.map((backend) => ({ backend, places: placesOf(backend, fleet.now) }));
  const freeOf = new Map<string, typeof free>();
  const fitting = (lane: string): typeof free => {
    const known = freeOf.get(lane) ?? free.filter(({ backend }) => fits(wishOfLane(lane), backend));
    freeOf.set(lane, known);
    return known;
  };
  const released: string[] = [];
  for (const { id, lane, isReleased } of inOrder(candidates, passes)) {
    const taken = fitting(lane).find(({ places }) => places > 0);
    if (taken === undefined) continue;
    taken.places -= 1;
    if (!isReleased) released.push(id);
  }
  return released;
}

function inOrder(candidates: readonly Candidate[], passes: Passes): readonly Candidate[] {
  const first = leastPasses(candidates, passes);
  const turnOf = ({ workspace, turn }: Candidate): number => (passes.get(workspace) ?? first) + turn;
  return [...candidates].sort(
    (a, b) =>
      Number(b.isReleased) - Number(a.isReleased) ||
      turnOf(a) - turnOf(b) ||
      a.orderAt.getTime() - b.orderAt.getTime(),
  );
}

/** Who comes to wait begins beside those who were let out least: having been away earns nothing. */
function leastPasses(candidates: readonly Candidate[], passes: Passes): number {
  const known = candidates.flatMap(({ workspace }) => passes.get(workspace) ?? []);
  return known.reduce((least, count) => Math.min(least, count), known[0] ?? 0);
}

/** The passes after `released` went; a workspace that waits for nothing any more is forgotten. */
export function countPasses(
  candidates: readonly Candidate[],
  released: readonly string[],
  passes: Passes,
): Passes {
  const first = leastPasses(candidates, passes);
  const gone = new Set(released);
  const next = new Map<string, number>();
  for (const { id, workspace } of candidates) {
    const before = next.get(workspace) ?? passes.get(workspace) ?? first;
    next.set(workspace, before + (gone.has(id) ? 1 : 0));
  }
  return next;
}

/** The most tasks of one lane that could go now, so that no more are read. */
export function placesFor(lane: string, fleet: Fleet): number {
  const wish = wishOfLane(lane);
  return fleet.backends
    .filter((backend) => fits(wish, backend))
    .reduce((sum, backend) => sum + placesOf(backend, fleet.now), 0);
}
