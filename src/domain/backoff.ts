/** The exponential ladder with full jitter: nobody who failed together comes back together (P12). */
export function delayMs(
  failures: number,
  policy: { readonly backoffBaseMs: number; readonly backoffMaxMs: number },
  random: number,
): number {
  const exponent = Math.min(Math.max(failures - 1, 0), 30);
  const ceiling = Math.min(policy.backoffMaxMs, policy.backoffBaseMs * 2 ** exponent);
  return Math.round(ceiling * random);
}

export function later(now: Date, ms: number): Date {
  return new Date(now.getTime() + ms);
}
