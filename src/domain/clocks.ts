import { isTerminal, type Task } from './task.js';
import type { FailureCode } from './errors.js';

/** A clock of a task: when it runs out, and the code of the failure that follows. */
export type Clock = { readonly at: Date; readonly code: FailureCode; readonly windowMs: number };

/** The clocks that run for a task in its present state; 0 in its timeouts means none. */
export function clocksOf(task: Task): readonly Clock[] {
  if (isTerminal(task.state)) return [];
  const clocks: Clock[] = [];
  const add = (since: Date | null, windowMs: number, code: FailureCode): void => {
    if (since !== null && windowMs > 0) {
      clocks.push({ at: new Date(since.getTime() + windowMs), code, windowMs });
    }
  };
  if (task.deadlineAt !== null) clocks.push({ at: task.deadlineAt, code: 'DEADLINE_EXCEEDED', windowMs: 0 });
  if (task.state === 'DISPATCHED') add(task.dispatchedAt, task.timeouts.startMs, 'START_TIMEOUT');
  if (task.state === 'RUNNING') {
    add(task.lastHeardAt, task.timeouts.heartbeatMs, 'HEARTBEAT_TIMEOUT');
    add(task.startedAt, task.timeouts.runMs, 'RUN_TIMEOUT');
  }
  return clocks;
}

/** When the task must next be looked at, or null if nothing limits it. */
export function nextClockAt(task: Task): Date | null {
  return clocksOf(task).reduce<Date | null>(
    (first, { at }) => (first === null || at < first ? at : first),
    null,
  );
}

/**
 * The clock that has run out, the earliest of several. No clock runs out because we could not take callbacks:
 * `resumedAt`, the end of our own last gap, gives each one that was running then a full window from there (P10). A
 * deadline has no window of its own; one that lapsed before that instant gets `deadlineGraceMs`.
 */
export function clockThatRanOut(task: Task, now: Date, resumedAt: Date | null): Clock | null {
  const due = clocksOf(task).filter((clock) => grantedUntilMs(clock, resumedAt) <= now.getTime());
  return due.sort((a, b) => a.at.getTime() - b.at.getTime())[0] ?? null;
}

function grantedUntilMs(clock: Clock, resumedAt: Date | null): number {
  const atMs = clock.at.getTime();
  if (resumedAt === null) return atMs;
  // One that began after the gap runs out later than this anyhow.
  if (clock.windowMs > 0) return Math.max(atMs, resumedAt.getTime() + clock.windowMs);
  return clock.at > resumedAt ? atMs : resumedAt.getTime() + deadlineGraceMs;
}

/** How long a lapsed deadline waits for callbacks that could not be delivered to us. */
export const deadlineGraceMs = 60_000;
