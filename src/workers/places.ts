/** Send places of one process: so many in all, so many a backend, so that a slow backend takes no other's place. */
export type Places = {
  free(backendId: string): number;
  take(backendId: string): void;
  give(backendId: string): void;
  taken(): number;
};

export function makePlaces(max: { readonly total: number; readonly perBackend: number }): Places {
  const byBackend = new Map<string, number>();
  let total = 0;
  const of = (backendId: string): number => byBackend.get(backendId) ?? 0;
  return {
    free: (backendId) => Math.max(0, Math.min(max.total - total, max.perBackend - of(backendId))),
    take(backendId) {
      byBackend.set(backendId, of(backendId) + 1);
      total += 1;
    },
    give(backendId) {
      if (of(backendId) <= 1) byBackend.delete(backendId);
      else byBackend.set(backendId, of(backendId) - 1);
      total -= 1;
    },
    taken: () => total,
  };
}
