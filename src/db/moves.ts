import { advance } from '../domain/advance.js';
import type { Move, RefusalReason, ResultSource } from '../domain/draft.js';
import type { TaskEvent, TimelineEntry } from '../domain/event.js';
import type { Rules } from '../domain/rules.js';
import type { Task } from '../domain/task.js';
import { attemptOfJson, attemptsJson, type AttemptJson } from './attempt-row.js';
import { storedOf, unappliedJson, type CallbackJson, type StoredCallback } from './callbacks.js';
import type { Db } from './pool.js';
import { taskColumns, taskOf, type TaskRow } from './task-row.js';
import { saveMoves, type FoldedTask } from './save-moves.js';

/** One event for one task; without an event its stored callbacks alone are folded. */
export type AdvanceRequest = { readonly taskId: string; readonly event: TaskEvent | null };

/**
 * What became of a request. `before` is the row as it was read, so with stored callbacks folded both differ even
 * where the event was refused. `skipped`: another changed or holds the row; nothing was done, ask again.
 */
export type Advanced =
  | { readonly kind: 'won'; readonly before: Task; readonly after: Task }
  | { readonly kind: 'refused'; readonly before: Task; readonly after: Task; readonly reason: RefusalReason }
  | { readonly kind: 'skipped' }
  | { readonly kind: 'absent' };

export type AdvanceLimits = Pick<Rules, 'silenceMs' | 'giveUpAfterMs'>;

/* One reading, of one instant: the row, its attempts, and what its Orchestrator said that nobody has folded yet. */
const readStatement = {
  name: 'read-tasks',
  text: `
SELECT ${taskColumns('t')}, clock_timestamp() AS now, (${attemptsJson('t')}) AS attempts,
  (${unappliedJson('t.id')}) AS callbacks
FROM tasks t WHERE t.id = ANY($1) ORDER BY t.id`,
};

type ReadRow = TaskRow & {
  now: Date;
  attempts: AttemptJson[] | null;
  callbacks: CallbackJson[] | null;
};

/**
 * The one way in which tasks move (I2): reads the rows with their attempts and unapplied callbacks, folds what was
 * said, applies the events, and saves everything by compare-and-set on the version that was read. What was changed
 * meanwhile, or is held by another transaction, is skipped and harms no other.
 *
 * @returns one result a request, in order
 */
export async function advanceTasks(
  db: Db,
  requests: readonly AdvanceRequest[],
  limits: AdvanceLimits,
): Promise<readonly Advanced[]> {
  if (requests.length === 0) return [];
  const ids = [...new Set(requests.map(({ taskId }) => taskId))];
  const rows = await db.query<ReadRow>(readStatement, [ids]);
  const folded = new Map(
    rows.map((row) => {
      const task = taskOf(row, (row.attempts ?? []).map(attemptOfJson));
      return [row.id, foldCallbacks(task, (row.callbacks ?? []).map(storedOf), { ...limits, now: row.now })];
    }),
  );
  const results = requests.map((request) => applyRequest(folded, request, limits));
  const lost = await saveMoves(db, [...folded.values()]);
  return results.map((result, index) =>
    lost.has(requests[index]?.taskId ?? '') ? { kind: 'skipped' } : result,
  );
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
  if (task === undefined) return { kind: 'absent' };
  if (event === null) return { kind: 'won', before: task.before, after: task.after };
  const move = step(task, event, { ...limits, now: task.now });
  if (!move.ok) return { kind: 'refused', before: task.before, after: task.after, reason: move.reason };
  if (event.type === 'changed' && event.patch.metadata !== undefined) task.metadata = event.patch.metadata;
  return { kind: 'won', before: task.before, after: move.after };
}
