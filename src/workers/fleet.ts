import { performance } from 'node:perf_hooks';
import type { BackendLoad } from '../domain/backend.js';
import type { Fleet } from '../domain/routing.js';
import { findBackendsWithSecrets } from '../db/backend-health.js';
import { findFleet } from '../db/fleet.js';
import type { Sql } from '../db/pool.js';
import type { Target } from '../orchestrators/client.js';
import type { Sealer } from '../seal.js';

/** A process' picture of the backends: fresh enough to route by. Limits are never taken from it (the claim counts). */
export type FleetView = {
  /** At most `maxAgeMs` old. */
  look(): Promise<Fleet>;
  /** The last picture of one backend, however old; what is about to be sent is held against it. */
  find(backendId: string): BackendLoad | undefined;
  /** A backend with its credential opened; null if it is not there. @throws DispatcherError `credential_unreadable` */
  target(backendId: string): Promise<Target | null>;
  /** Database time now, by the last picture and the monotonic clock. */
  now(): Date;
  /** The next look reads anew. */
  forget(): void;
  /** Counts what this process is about to send in all looks, until a later reading shows it. */
  count(backendIds: readonly string[]): void;
};

export function makeFleetView(options: {
  readonly db: Sql;
  readonly sealer: Pick<Sealer, 'open'>;
  readonly maxAgeMs: number;
}): FleetView {
  let fleet: Fleet = { now: new Date(0), backends: [], heldLanes: [] };
  let lookedAt = performance.now();
  let isStale = true;
  let looking: Promise<Fleet> | null = null;
  const targets = new Map<string, Target>();
  const readings = new Map<string, Promise<Target | null>>();
  let counted: { readonly backendId: string; readonly at: number }[] = [];

  const read = async (): Promise<Fleet> => {
    isStale = false; // from here on: what is forgotten while it is read is read again
    const startedAt = performance.now();
    const next = await findFleet(options.db).catch((error: unknown) => {
      isStale = true;
      throw error;
    });
    fleet = next;
    counted = counted.filter(({ at }) => at >= startedAt);
    // After the answer, so that our reckoning of database time is never ahead of it: due now must be due now.
    lookedAt = performance.now();
    return next;
  };

  /**
   * Without this a burst that is faster than the picture would go to one backend. It steers only: what is counted
   * here never makes a backend look full, for that is the claim's to say.
   */
  const withCounted = (): Fleet => {
    if (counted.length === 0) return fleet;
    const more = new Map<string, number>();
    for (const { backendId } of counted) more.set(backendId, (more.get(backendId) ?? 0) + 1);
    const backends = fleet.backends.map((backend) => {
      const wanted = backend.inFlight + (more.get(backend.id) ?? 0);
      const allowed = backend.maxConcurrency === null ? wanted : Math.min(wanted, backend.maxConcurrency - 1);
      return { ...backend, inFlight: Math.max(backend.inFlight, allowed) };
    });
    return { ...fleet, backends };
  };

  const readTarget = async (backendId: string): Promise<Target | null> => {
    const [backend] = await findBackendsWithSecrets(options.db, [backendId]);
    if (backend === undefined) return null;
    const { sealedSecret } = backend;
    const target: Target = {
      id: backend.id,
      protocol: backend.protocol,
      url: backend.url,
      authType: backend.authType,
      healthPath: backend.healthPath,
      healthExpect: backend.healthExpect,
      configVersion: backend.configVersion,
      secret: sealedSecret === null ? null : options.sealer.open(sealedSecret, secretPlace(backend.id)),
    };
    targets.set(backendId, target);
    return target;
  };

  return {
    async look() {
      if (!isStale && performance.now() - lookedAt <= options.maxAgeMs) return withCounted();
      // A reading that began before it was forgotten does not count.
      if (isStale && looking !== null) await looking.catch(() => undefined);
      looking ??= read().finally(() => {
        looking = null;
      });
      await looking;
      return withCounted();
    },
    find: (backendId) => fleet.backends.find(({ id }) => id === backendId),
    async target(backendId) {
      const version = fleet.backends.find(({ id }) => id === backendId)?.configVersion;
      const known = targets.get(backendId);
      if (version !== undefined && known?.configVersion === version) return known;
      // A hundred sends that begin together ask once, or they would take every connection from each other.
      const key = `${backendId} ${version}`;
      const reading = readings.get(key) ?? readTarget(backendId).finally(() => readings.delete(key));
      readings.set(key, reading);
      return reading;
    },
    now: () => new Date(fleet.now.getTime() + (performance.now() - lookedAt)),
    forget() {
      isStale = true;
    },
    count(backendIds) {
      const at = performance.now();
      counted.push(...backendIds.map((backendId) => ({ backendId, at })));
    },
  };
}

/** Where a backend's credential is sealed for: its row and column. */
export const secretPlace = (backendId: string): string => `${backendId}:auth_secret`;
