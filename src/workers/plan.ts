import type { BackendLoad } from '../domain/backend.js';
import { route, type Fleet, type Route } from '../domain/routing.js';
import { currentAttempt, isOpen, type Attempt, type Task } from '../domain/task.js';

/** What is to be done with a due task: sent to a backend as a numbered attempt, held, or set aside. */
export type Plan =
  | { readonly kind: 'send'; readonly task: Task; readonly backendId: string; readonly number: number }
  | { readonly kind: 'hold'; readonly task: Task; readonly route: Extract<Route, { ok: false }> }
  | { readonly kind: 'quarantine'; readonly task: Task };

/** Claims in a row without an outcome after which a task is set aside (P15). */
export const maxClaims = 5;

/**
 * Decides about a batch of due tasks. The open attempt comes first: it is taken up with its backend and key, and
 * only a task without one is routed, or a doubled ring would hold what is being sent. Each choice counts at once,
 * so that a batch spreads over the fleet.
 */
export function planBatch(tasks: readonly Task[], fleet: Fleet): readonly Plan[] {
  const loads = new Map(fleet.backends.map((backend) => [backend.id, backend.inFlight]));
  const seen = (): Fleet => ({
    ...fleet,
    backends: fleet.backends.map((backend): BackendLoad => ({
      ...backend,
      inFlight: loads.get(backend.id) ?? 0,
    })),
  });
  return tasks.map((task): Plan => {
    if (task.claims >= maxClaims) return { kind: 'quarantine', task };
    const attempt = currentAttempt(task);
    if (attempt !== null && isOpen(attempt) && attempt.reusable) {
      return { kind: 'send', task, backendId: attempt.backendId, number: attempt.number };
    }
    const found = route(task, seen());
    if (!found.ok) return { kind: 'hold', task, route: found };
    const backendId = found.backend.id;
    loads.set(backendId, (loads.get(backendId) ?? 0) + 1);
    return {
      kind: 'send',
      task,
      backendId,
      number: sameAgain(attempt, backendId) ? task.attempt : task.attempt + 1,
    };
  });
}

/** The same request to the same backend, which provably took none before: the same attempt, with the same key. */
function sameAgain(attempt: Attempt | null, backendId: string): boolean {
  if (attempt === null || !attempt.reusable || attempt.backendId !== backendId) return false;
  return (
    attempt.outcome === 'not_received' || attempt.outcome === 'later' || attempt.outcome === 'misconfigured'
  );
}
