import type { Attempt, AttemptOutcome } from '../domain/task.js';
import { columnsOf, makeReader, toSnake } from './columns.js';

/** A row of `attempts` without what its sends consist of; the claim returns that. */
export type AttemptRow = {
  task_id: string;
  number: number;
  backend_id: string;
  external_id: string | null;
  sends: number;
  unknown_sends: number;
  outcome: AttemptOutcome | null;
  http_status: number | null;
  error: string | null;
  reusable: boolean;
  started_at: Date;
  ended_at: Date | null;
  away_since: Date | null;
  missing: number;
  ask_at: Date | null;
  kill_due_at: Date | null;
  kill_since: Date | null;
  kill_tries: number;
  kill_reason: string | null;
};

const names =
  `task_id number backend_id external_id sends unknown_sends outcome http_status error reusable started_at
  ended_at away_since missing ask_at kill_due_at kill_since kill_tries kill_reason`.split(/\s+/);

export const attemptColumns = (alias: string): string => columnsOf(names, alias);

export const attemptOf: (row: AttemptRow) => Attempt = makeReader<AttemptRow>(names);

/** One object for `json_to_recordset`. */
export const attemptChanges = (taskId: string, attempt: Attempt): Record<string, unknown> =>
  toSnake({ ...attempt, taskId });
