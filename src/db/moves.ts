import { advance, type Rules } from '../domain/advance.js';
import type { Move, RefusalReason, ResultSource } from '../domain/draft.js';
import type { TaskEvent, TimelineEntry } from '../domain/event.js';
import type { Attempt, Task } from '../domain/task.js';
import { unappliedOf, type StoredCallback } from './callbacks.js';
import type { Db, Sql } from './pool.js';
import { attemptColumns, attemptOf, type AttemptRow } from './attempt-row.js';
import { taskColumns, taskOf, type TaskRow } from './task-row.js';
import { saveMoves, type FoldedTask } from './save-moves.js';

/** One event for one task; without an event its stored callbacks alone are folded. */
export type AdvanceRequest = { readonly taskId: string; readonly event: TaskEvent | null };

/**
 * What became of a request. `before` is the row as it was read, so with stored callbacks folded both differ even
 * where the event was refused. `skipped`: another transaction holds the row; nothing was done, ask again.
 */
export type Advanced =
  | { readonly kind: 'won'; readonly before: Task; readonly after: Task }
  | { readonly kind: 'refused'; readonly before: Task; readonly after: Task; readonly reason: RefusalReason }
  | { readonly kind: 'skipped' }
  | { readonly kind: 'absent' };

export type AdvanceLimits = Pick<Rules, 'silenceMs' | 'giveUpAfterMs'>;

const lockStatement = {
  name: 'lock-tasks',
  text: `
SELECT ${taskColumns('t')}, clock_timestamp() AS now
FROM tasks t WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED`,
};

const attemptsStatement = {
  name: 'attempts-of-tasks',
  text: `
SELECT ${attemptColumns('a')} FROM attempts a JOIN tasks t ON t.id = a.task_id
WHERE a.task_id = ANY($1) AND (a.ended_at IS NULL OR a.number = t.attempt)
ORDER BY a.task_id, a.number`,
};

const existingStatement = { name: 'existing-tasks', text: 'SELECT id FROM tasks WHERE id = ANY($1)' };

/**
 * The one way in which tasks move (I2): locks the rows in id order, folds what their callbacks said, applies
 * the events, and saves everything in one transaction. A row that another holds is skipped and harms no other.
 *
 * @returns one result a request, in order
 */
export async function advanceTasks(
  db: Db,
  requests: readonly AdvanceRequest[],
  limits: AdvanceLimits,
): Promise<readonly Advanced[]> {
  if (requests.length === 0) return [];
  const ids = [...new Set(requests.map(({ taskId }) => taskId))].sort();
  const { results, missing } = await db.transaction(async (tx) => {
    const rows = await tx.query<TaskRow & { now: Date }>(lockStatement, [ids]);
    const locked = rows.map(({ id }) => id);
    const known = locked.length === 0 ? emptyKnown : await readKnown(tx, locked);
    const folded = new Map<string, FoldedTask>();
    for (const row of rows) {
      const task = taskOf(row, known.attempts.get(row.id) ?? []);
      folded.set(row.id, foldCallbacks(task, known.callbacks.get(row.id) ?? [], { ...limits, now: row.now }));
    }
    const results = requests.map((request) => applyRequest(folded, request, limits));
    await saveMoves(tx, [...folded.values()]);
    return { results, missing: ids.filter((id) => !folded.has(id)) };
  });
  if (missing.length === 0) return results;
  const existing = new Set(
    (await db.query<{ id: string }>(existingStatement, [missing])).map(({ id }) => id),
  );
  return results.map((result, index) =>
    result.kind === 'skipped' && !existing.has(requests[index]?.taskId ?? '') ? { kind: 'absent' } : result,
  );
}

type Known = {
  readonly attempts: ReadonlyMap<string, readonly Attempt[]>;
  readonly callbacks: ReadonlyMap<string, readonly StoredCallback[]>;
};
const emptyKnown: Known = { attempts: new Map(), callbacks: new Map() };

/** Read after the lock, in statements of their own: only then nothing can come between reading and saving. */
async function readKnown(tx: Sql, ids: readonly string[]): Promise<Known> {
  const attemptRows = await tx.query<AttemptRow>(attemptsStatement, [ids]);
  const callbackRows = await unappliedOf(tx, ids);
  return {
    attempts: grouped(attemptRows, (row) => row.task_id, attemptOf),
    callbacks: grouped(
      callbackRows,
      (row) => row.taskId,
      (row) => row,
    ),
  };
}

function grouped<R, V>(
  rows: readonly R[],
  keyOf: (row: R) => string,
  valueOf: (row: R) => V,
): Map<string, V[]> {
  const groups = new Map<string, V[]>();
  for (const row of rows) {
    const group = groups.get(keyOf(row));
    if (group === undefined) groups.set(keyOf(row), [valueOf(row)]);
    else group.push(valueOf(row));
  }
  return groups;
}

type FoldLimits = AdvanceLimits & { readonly now: Date };

function foldCallbacks(task: Task, callbacks: readonly StoredCallback[], limits: FoldLimits): FoldedTask {
  const folded: FoldedTask = {
    before: task,
    after: task,
    now: limits.now,
    entries: [],
    results: [],
    verdicts: [],
    metadata: undefined,
  };
  for (const callback of callbacks) {
    let verdict = callback.verdict;
    if (verdict === null) {
      const event = { type: 'reported', attempt: callback.attempt, report: callback.report } as const;
      const move = step(folded, event, limits);
      verdict = move.ok ? verdictOf(move.entries) : move.reason;
    }
    if (callback.repeats > 0) {
      const { status, eventId } = callback.report;
      step(folded, { type: 'repeated', attempt: callback.attempt, status, eventId, at: limits.now }, limits);
    }
    folded.verdicts.push({ id: callback.report.callbackId, verdict, repeats: callback.repeats });
  }
  mergeProgress(folded);
  return folded;
}

function verdictOf(entries: readonly TimelineEntry[]): string {
  const aside = entries.find(({ type }) => type.startsWith('callback.'));
  return aside === undefined ? 'applied' : aside.type.slice('callback.'.length);
}

/** Progress that was folded together shares one entry, the last. */
function mergeProgress(folded: FoldedTask): void {
  const kept = folded.entries.filter(
    (entry, index) => entry.type !== 'task.progress' || folded.entries[index + 1]?.type !== 'task.progress',
  );
  if (kept.length === folded.entries.length) return;
  folded.entries = kept;
  folded.after = { ...folded.after, seq: folded.before.seq + kept.length };
}

function step(folded: FoldedTask, event: TaskEvent, limits: FoldLimits): ReturnType<typeof advance> {
  const move = advance(folded.after, event, { ...limits, random: Math.random() });
  if (move.ok) take(folded, move);
  return move;
}

function take(folded: FoldedTask, move: Move): void {
  folded.after = move.after;
  folded.entries.push(...move.entries);
  if (move.result !== null) folded.results.push(move.result satisfies ResultSource);
}

function applyRequest(
  folded: ReadonlyMap<string, FoldedTask>,
  { taskId, event }: AdvanceRequest,
  limits: AdvanceLimits,
): Advanced {
  const task = folded.get(taskId);
  if (task === undefined) return { kind: 'skipped' };
  if (event === null) return { kind: 'won', before: task.before, after: task.after };
  const move = step(task, event, { ...limits, now: task.now });
  if (!move.ok) return { kind: 'refused', before: task.before, after: task.after, reason: move.reason };
  if (event.type === 'changed' && event.patch.metadata !== undefined) task.metadata = event.patch.metadata;
  return { kind: 'won', before: task.before, after: move.after };
}
