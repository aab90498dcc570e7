import { delayMs, later } from './backoff.js';
import type { Health } from './backend.js';
import type { Outcome } from './outcome.js';

export type HealthPolicy = { readonly rise: number; readonly fall: number };

/** One test of reachability; `httpStatus` is null when no answer came. */
export type ProbeResult = {
  readonly ok: boolean;
  readonly httpStatus: number | null;
  readonly latencyMs: number;
  readonly error: string | null;
};

/**
 * What a ping makes of a backend's health: `rise` good ones raise it, `fall` bad ones lower it, and the first
 * good one of a new backend makes it up. A misconfigured backend answers pings and still takes no task, so
 * pings never raise it: a trial or a change does (P13).
 */
export function assess(previous: Health, probe: ProbeResult, policy: HealthPolicy, now: Date): Health {
  const failures = probe.ok ? 0 : previous.consecutiveFailures + 1;
  const successes = probe.ok ? previous.consecutiveSuccesses + 1 : 0;
  const seen = {
    checkedAt: now,
    latencyMs: probe.httpStatus === null ? null : probe.latencyMs,
    consecutiveFailures: failures,
    consecutiveSuccesses: successes,
  };
  if (previous.reason === 'misconfigured') return { ...previous, ...seen };
  const lastError = probe.ok ? null : probe.error;
  if (probe.ok) {
    const rises = previous.status === 'unknown' || previous.status === 'up' || successes >= policy.rise;
    return rises
      ? { ...seen, status: 'up', reason: null, lastError }
      : { ...previous, ...seen, lastError: previous.lastError };
  }
  const reason = probe.httpStatus === null ? 'unreachable' : 'unhealthy';
  const falls = previous.status === 'down' || failures >= policy.fall;
  return falls
    ? { ...seen, status: 'down', reason, lastError }
    : { ...seen, status: previous.status, reason: previous.reason, lastError };
}

/** What one send's outcome teaches about its backend as a whole; null when it teaches nothing. */
export type BackendLesson =
  | { readonly kind: 'fine' }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'blocked'; readonly until: Date }
  | { readonly kind: 'misconfigured'; readonly reason: string };

export function lessonOf(
  outcome: Outcome,
  blocking: { readonly now: Date; readonly random: number; readonly failures: number },
): BackendLesson | null {
  switch (outcome.kind) {
    case 'accepted':
    case 'rejected':
      return { kind: 'fine' };
    case 'notReceived':
      return { kind: 'refused', reason: outcome.reason };
    case 'misconfigured':
      return { kind: 'misconfigured', reason: outcome.reason };
    case 'later': {
      if (outcome.holds === 'task') return { kind: 'fine' };
      const ownMs = 250 + delayMs(blocking.failures + 1, ownBackoff, blocking.random);
      return { kind: 'blocked', until: later(blocking.now, outcome.retryAfterMs ?? ownMs) };
    }
    case 'unknown':
      return null;
  }
}

/** For a backend that says "later" and not when. */
const ownBackoff = { backoffBaseMs: 1000, backoffMaxMs: 60_000 };

/** When a misconfigured backend gets its next single trial: a growing wait, since a wrong credential heals slowly. */
export function trialDelayMs(trialFailures: number): number {
  return Math.min(5000 * 2 ** Math.min(trialFailures, 7), 300_000);
}
