import { nextClockAt } from './clocks.js';
import { DispatcherError } from './errors.js';
import type { TimelineEntry, TimelineType } from './event.js';
import { isLegal } from './lifecycle.js';
import { isOpen, isTerminal, type Attempt, type Task, type TaskError, type TaskState } from './task.js';

/** Where the result of a finished task is taken from when it is saved; payloads never enter the domain. */
export type ResultSource = { readonly callbackId: string } | { readonly text: string };

/** What one event, or several in a row, made of a task. A walk of several legal steps shows as its entries. */
export type Move = {
  readonly ok: true;
  readonly before: Task;
  readonly after: Task;
  readonly entries: readonly TimelineEntry[];
  readonly result: ResultSource | null;
};

/** `over`: terminal. `superseded`: not its current attempt. `stale`: says nothing new. `sent`: too late to change. `forbidden`: a bug. */
export type RefusalReason = 'over' | 'superseded' | 'stale' | 'sent' | 'forbidden';
export type Refusal = { readonly ok: false; readonly reason: RefusalReason };

/** The actor of whatever the service decides by itself. */
export const dispatcher = 'dispatcher';

/** The attempt that an entry of the timeline is about; the backend of a forgotten one is not known. */
type About = { readonly number: number; readonly backendId: string | null };

export const refuse = (reason: RefusalReason): Refusal => ({ ok: false, reason });

/** A task in the middle of being advanced: local to one call, so that the rules read as sentences. */
export type Draft = ReturnType<typeof openDraft>;

export function openDraft(before: Task, now: Date) {
  let task = before;
  let result: ResultSource | null = null;
  const entries: TimelineEntry[] = [];

  const set = (patch: Partial<Task>): void => {
    task = { ...task, ...patch };
  };
  const note = (type: TimelineType, actor: string, detail: object, about?: About | null): void => {
    write(type, task.state, actor, detail, about);
  };
  const write = (
    type: TimelineType,
    from: TaskState,
    actor: string,
    detail: object,
    about: About | null | undefined,
  ): void => {
    const attempt =
      about === undefined ? (task.attempt === 0 ? null : task.attempt) : (about?.number ?? null);
    const backendId = about === undefined ? task.backendId : (about?.backendId ?? null);
    entries.push({ type, from, to: task.state, attempt, backendId, actor, detail: { ...detail } });
  };
  const go = (
    to: TaskState,
    type: TimelineType,
    actor: string,
    patch: Partial<Task>,
    detail: object = {},
  ): void => {
    const from = task.state;
    if (!isLegal(from, to)) {
      throw new DispatcherError('illegal_move', `task ${task.id} cannot go from ${from} to ${to}`);
    }
    set({ ...patch, state: to });
    write(type, from, actor, detail, undefined);
  };
  const setAttempt = (number: number, patch: Partial<Attempt>): void => {
    const attempts = task.attempts.map((attempt) =>
      attempt.number === number ? { ...attempt, ...patch } : attempt,
    );
    set({ attempts });
  };
  /** Whoever may still live of this task is to be killed, until its backend confirms. */
  const orderKills = (reason: string): void => {
    const attempts = task.attempts.map((attempt) =>
      isOpen(attempt) && attempt.killDueAt === null
        ? {
            ...attempt,
            killDueAt: now,
            killSince: attempt.killSince ?? now,
            killReason: reason,
            missing: 0,
            askAt: null,
          }
        : attempt,
    );
    set({ attempts });
  };
  const end = (
    to: 'COMPLETED' | 'FAILED' | 'CANCELLED',
    actor: string,
    error: TaskError | null,
    detail: object = {},
  ): void => {
    const type = (
      { COMPLETED: 'task.completed', FAILED: 'task.failed', CANCELLED: 'task.cancelled' } as const
    )[to];
    const shown = error === null ? detail : { ...detail, error };
    go(to, type, actor, { ...settled, error, finishedAt: now }, shown);
    orderKills(`the task ended as ${to}`);
  };
  return {
    now,
    get task(): Task {
      return task;
    },
    set,
    note,
    go,
    setAttempt,
    orderKills,
    end,
    setResult(source: ResultSource): void {
      result = source;
    },
    /** Closes the draft; without any change of the value it is refused as stale. */
    close(): Move | Refusal {
      if (task === before && entries.length === 0) return refuse('stale');
      const clockAt = isTerminal(task.state) ? null : nextClockAt(task);
      const after = { ...task, clockAt, seq: before.seq + entries.length, updatedAt: now };
      return { ok: true, before, after, entries, result };
    },
  };
}

/** The columns of a task that nobody is sending and nothing is held for. */
export const settled = {
  dueAt: null,
  leasedBy: null,
  claims: 0,
  waiting: null,
  lane: null,
} as const satisfies Partial<Task>;
