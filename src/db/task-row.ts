import type {
  Attempt,
  BackendWish,
  RetryPolicy,
  Task,
  TaskState,
  Timeouts,
  WaitingReason,
} from '../domain/task.js';
import { columnsOf, makeReader, toSnake } from './columns.js';

/** A row of `tasks` without what only its creation knows. Instants come as Date with milliseconds, bigint as text. */
export type TaskRow = {
  id: string;
  type: string;
  title: string | null;
  reference: string | null;
  workspace_id: string | null;
  priority: number;
  tags: string[];
  wish: BackendWish;
  timeouts: Timeouts;
  retry: RetryPolicy;
  notify_url: string | null;
  retry_of: string | null;
  scheduled_for: Date | null;
  deadline_at: Date | null;
  created_at: Date;
  state: TaskState;
  version: number;
  seq: number;
  due_at: Date | null;
  leased_by: string | null;
  claims: number;
  attempt: number;
  spent: number;
  failures: number;
  backend_id: string | null;
  external_id: string | null;
  avoid: string[];
  waiting_reason: WaitingReason | null;
  waiting_detail: string | null;
  waiting_until: Date | null;
  lane: string | null;
  order_at: Date;
  clock_at: Date | null;
  last_heard_at: Date | null;
  progress_percent: number | null;
  progress_message: string | null;
  progress_sequence: string | null;
  error_code: string | null;
  error_message: string | null;
  error_retryable: boolean | null;
  cancel_requested_at: Date | null;
  cancel_reason: string | null;
  dispatched_at: Date | null;
  started_at: Date | null;
  finished_at: Date | null;
  updated_at: Date;
};

const names =
  `id type title reference workspace_id priority tags wish timeouts retry notify_url retry_of scheduled_for
  deadline_at created_at state version seq due_at leased_by claims attempt spent failures backend_id external_id avoid
  waiting_reason waiting_detail waiting_until lane order_at clock_at last_heard_at progress_percent progress_message
  progress_sequence error_code error_message error_retryable cancel_requested_at cancel_reason dispatched_at started_at
  finished_at updated_at`.split(/\s+/);

/* Columns that are one member together; read by themselves too, they would be written back over its change. */
const isPart = (name: string): boolean => /^(waiting|progress|error)_/.test(name);
const read = makeReader<PlainRow>(names.filter((name) => !isPart(name)));
type PlainRow = Omit<TaskRow, `${'waiting' | 'progress' | 'error'}_${string}`>;

export const taskColumns = (alias: string): string => columnsOf(names, alias);

export function taskOf(row: TaskRow, attempts: readonly Attempt[] = []): Task {
  return {
    ...read(row),
    waiting: waitingOf(row),
    progress: progressOf(row),
    error:
      row.error_code === null
        ? null
        : { code: row.error_code, message: row.error_message ?? '', retryable: row.error_retryable ?? false },
    attempts,
  };
}

function waitingOf(row: TaskRow): Task['waiting'] {
  if (row.waiting_reason === null) return null;
  return { reason: row.waiting_reason, detail: row.waiting_detail ?? '', until: row.waiting_until };
}

function progressOf(row: TaskRow): Task['progress'] {
  if (row.progress_percent === null) return null;
  const sequence = row.progress_sequence === null ? null : Number(row.progress_sequence);
  return { percent: row.progress_percent, message: row.progress_message, sequence };
}

/** The columns that a move may change, as one object for `json_to_recordset`. */
export function taskChanges({
  attempts: _,
  waiting,
  progress,
  error,
  ...plain
}: Task): Record<string, unknown> {
  return {
    ...toSnake(plain),
    ...prefixed('waiting', waiting),
    ...prefixed('progress', progress),
    ...prefixed('error', error),
  };
}

/** `{reason}` of `waiting` is the column `waiting_reason`; without a value they are NULL, being absent. */
const prefixed = (prefix: string, value: object | null): Record<string, unknown> =>
  Object.fromEntries(Object.entries(value ?? {}).map(([name, member]) => [`${prefix}_${name}`, member]));
