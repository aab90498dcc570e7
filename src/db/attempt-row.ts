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

/** The open attempts of a task and its current one, as JSON. */
export const attemptsJson = (task: string): string => `
SELECT json_agg(a ORDER BY a.number) FROM (
  SELECT ${attemptColumns('a')} FROM attempts a
  WHERE a.task_id = ${task}.id AND (a.ended_at IS NULL OR a.number = ${task}.attempt)) AS a`;

type Instants = 'started_at' | 'ended_at' | 'away_since' | 'ask_at' | 'kill_due_at' | 'kill_since';
export type AttemptJson = Omit<AttemptRow, Instants> & Record<Instants, string | null>;

/** JSON knows no instants: they come as texts. */
export function attemptOfJson(json: AttemptJson): Attempt {
  const at = (text: string | null): Date | null => (text === null ? null : new Date(text));
  return attemptOf({
    ...json,
    started_at: new Date(json.started_at ?? 0),
    ended_at: at(json.ended_at),
    away_since: at(json.away_since),
    ask_at: at(json.ask_at),
    kill_due_at: at(json.kill_due_at),
    kill_since: at(json.kill_since),
  });
}
