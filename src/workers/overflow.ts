/** Ids of due tasks that found no send place, by backend. Only ids: losing them costs a sweep's time (I1). */
export type Overflow = {
  add(backendId: string, taskId: string): void;
  has(taskId: string): boolean;
  /** Takes as many as have a place now, at most `limit`, a backend after the other. */
  take(freePlaces: (backendId: string) => number, limit: number): string[];
};

/** More than this are left to the sweep. */
const maxWaiting = 10_000;

export function makeOverflow(): Overflow {
  const byBackend = new Map<string, Set<string>>();
  const waiting = new Set<string>();
  return {
    add(backendId, taskId) {
      if (waiting.size >= maxWaiting || waiting.has(taskId)) return;
      const ids = byBackend.get(backendId) ?? new Set();
      byBackend.set(backendId, ids.add(taskId));
      waiting.add(taskId);
    },
    has: (taskId) => waiting.has(taskId),
    take(freePlaces, limit) {
      const taken: string[] = [];
      for (const [backendId, ids] of byBackend) {
        let free = Math.min(freePlaces(backendId), limit - taken.length);
        for (const id of ids) {
          if (free <= 0) break;
          free -= 1;
          ids.delete(id);
          waiting.delete(id);
          taken.push(id);
        }
        if (ids.size === 0) byBackend.delete(backendId);
      }
      return taken;
    },
  };
}
