import { findFleet } from '../db/fleet.js';
import type { Sql } from '../db/pool.js';
import { route, type Fleet } from '../domain/routing.js';
import type { Task, Waiting } from '../domain/task.js';

/** The fleet as it was at most a second ago, read once for all who ask meanwhile. */
export type FleetView = (maxAgeMs?: number) => Promise<Fleet>;

export function makeFleetView(db: Sql): FleetView {
  let seen: { readonly at: number; readonly fleet: Promise<Fleet> } | null = null;
  return (maxAgeMs = 1000) => {
    const now = performance.now();
    if (seen !== null && now - seen.at <= maxAgeMs) return seen.fleet;
    const entry = { at: now, fleet: findFleet(db) };
    seen = entry;
    entry.fleet.catch(() => {
      if (seen === entry) seen = null;
    });
    return entry.fleet;
  };
}

/**
 * Why a PENDING task is not accepted anywhere yet. For a held one the reason is computed afresh: what was
 * stored when it was held may be over, and nobody rewrites ten thousand rows when a backend goes down.
 */
export function makeWaitingOf(
  fleetView: FleetView,
): (tasks: readonly Task[]) => Promise<ReadonlyMap<string, Waiting>> {
  return async (tasks) => {
    const pending = tasks.filter(({ state }) => state === 'PENDING');
    const fleet = pending.some(({ lane }) => lane !== null) ? await fleetView() : null;
    return new Map(pending.map((task) => [task.id, waitingOf(task, fleet)]));
  };
}

const details: Readonly<Partial<Record<Waiting['reason'], string>>> = {
  queued: 'it waits for its turn',
  sending: 'it is being sent',
  scheduled: 'its time has not come',
};

function waitingOf(task: Task, fleet: Fleet | null): Waiting {
  const { waiting } = task;
  if (task.lane !== null && fleet !== null) {
    const verdict = route(task, fleet);
    if (!verdict.ok) return verdict.waiting;
    return plain('queued', null);
  }
  if (waiting === null) return plain(task.leasedBy === null ? 'queued' : 'sending', null);
  const isOver = waiting.reason === 'scheduled' && task.leasedBy !== null;
  if (isOver) return plain('sending', null);
  return waiting.detail === '' ? plain(waiting.reason, waiting.until) : waiting;
}

function plain(reason: Waiting['reason'], until: Date | null): Waiting {
  return { reason, detail: details[reason] ?? '', until };
}
