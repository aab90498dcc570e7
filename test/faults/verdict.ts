import { Client } from 'pg';
import { isLegal } from '../../src/domain/lifecycle.js';
import type { TaskState } from '../../src/domain/task.js';
import { eventually } from '../support/eventually.js';
import type { Load, Made, Plan } from './load.js';
import type { CountedSpawn } from './stub-process.js';

type TaskRow = { id: string; state: TaskState; attempt: number; error_code: string | null; idem_key: string };
type EventRow = { task_id: string; seq: number; from_state: TaskState | null; to_state: TaskState };
type AttemptRow = { task_id: string; number: number; idempotency_key: string; backend_id: string };

export type Verdict = {
  /** Every breach of a promise, in words; empty is what is wanted. */
  readonly breaches: readonly string[];
  /** Complete spawns beyond one an attempt. */
  readonly duplicates: readonly CountedSpawn[];
};

/** Waits until none of the tasks with this tag can move any more. */
export async function untilAllEnded(load: Load, tag: string, timeoutMs: number): Promise<void> {
  const path = `/v1/tasks?tag=${tag}&state=PENDING&state=DISPATCHED&state=RUNNING&limit=200`;
  await eventually(
    async () => {
      const { status, body } = await load.get(path);
      if (status !== 200) throw new Error(`the list was answered ${status}`);
      const open = body.data as { id: string; state: string; waiting: unknown }[];
      if (open.length > 0) {
        throw new Error(`${open.length} tasks have not ended, such as ${JSON.stringify(open.slice(0, 2))}`);
      }
    },
    { timeoutMs, everyMs: 100 },
  );
}

/** Every task that the API lists under a tag. */
export async function listTasks(load: Load, tag: string): Promise<{ id: string; createdAt: string }[]> {
  const tasks: { id: string; createdAt: string }[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { body } = await load.get(
      `/v1/tasks?tag=${tag}&limit=200${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
    );
    tasks.push(...(body.data as typeof tasks));
    cursor = body.nextCursor as string | null;
  }
  return tasks;
}

export async function listIds(load: Load, tag: string): Promise<string[]> {
  return (await listTasks(load, tag)).map(({ id }) => id);
}

const ends: Record<Plan, { state: TaskState; errorCode: string | null; attempts: number }> = {
  complete: { state: 'COMPLETED', errorCode: null, attempts: 1 },
  fail: { state: 'FAILED', errorCode: 'BOOM', attempts: 1 },
  retryOnce: { state: 'COMPLETED', errorCode: null, attempts: 2 },
  retryHere: { state: 'COMPLETED', errorCode: null, attempts: 2 },
};

/**
 * Holds what the database and the Orchestrators say of these tasks against what was promised: the right end, a legal
 * and contiguous history, one task a key, one attempt each (two where one was asked for), one key and the same bytes
 * an attempt, no key in two attempts.
 */
export async function judge(
  databaseUrl: string,
  made: readonly Made[],
  spawns: readonly CountedSpawn[],
): Promise<Verdict> {
  const ids = made.map(({ id }) => id);
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    const ask = async <R extends object>(text: string): Promise<R[]> =>
      (await client.query<R>(text, [ids])).rows;
    const tasks = await ask<TaskRow>(
      'SELECT id, state, attempt, error_code, idem_key FROM tasks WHERE id = ANY($1)',
    );
    const events = await ask<EventRow>(
      'SELECT task_id, seq, from_state, to_state FROM task_events WHERE task_id = ANY($1) ORDER BY task_id, seq',
    );
    const attempts = await ask<AttemptRow>(
      'SELECT task_id, number, idempotency_key, backend_id FROM attempts WHERE task_id = ANY($1)',
    );
    const mine = new Set(ids);
    const sent = spawns.filter(({ taskId }) => mine.has(taskId));
    return {
      breaches: [
        ...breachesOfEnds(made, tasks, attempts),
        ...breachesOfHistory(tasks, events),
        ...breachesOfSends(sent, attempts),
      ],
      duplicates: duplicatesOf(sent),
    };
  } finally {
    await client.end();
  }
}

function breachesOfEnds(
  made: readonly Made[],
  tasks: readonly TaskRow[],
  attempts: readonly AttemptRow[],
): string[] {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const tried = grouped(attempts, ({ task_id }) => task_id);
  return made.flatMap(({ id, key, plan }) => {
    const task = byId.get(id);
    if (task === undefined) return [`${id} was acknowledged and is lost`];
    const wanted = ends[plan];
    const count = tried.get(id)?.length ?? 0;
    return [
      ...(task.state === wanted.state && task.error_code === wanted.errorCode
        ? []
        : [`${id} (${plan}) ended ${task.state} ${task.error_code}`]),
      ...(task.idem_key === key ? [] : [`${id} has another key than it was created with`]),
      ...(count === wanted.attempts && task.attempt === wanted.attempts
        ? []
        : [`${id} (${plan}) has ${count} attempts`]),
    ];
  });
}

function breachesOfHistory(tasks: readonly TaskRow[], events: readonly EventRow[]): string[] {
  const byTask = grouped(events, ({ task_id }) => task_id);
  return tasks.flatMap(({ id, state }) => {
    let at: TaskState | null = null;
    const faults: string[] = [];
    for (const [index, event] of (byTask.get(id) ?? []).entries()) {
      const { seq, from_state: from, to_state: to } = event;
      const isBirth = index === 0 && from === null && to === 'PENDING';
      const isMove = from !== null && (from === to || isLegal(from, to));
      if (seq !== index + 1) faults.push(`${id} has event ${seq} in place ${index + 1}`);
      if (from !== at || !(isBirth || isMove)) faults.push(`${id} went ${at}: ${from} → ${to}`);
      at = to;
    }
    if (at !== state) faults.push(`${id} is ${state} and its history ends ${at}`);
    return faults;
  });
}

const attemptOf = ({ taskId, attempt }: CountedSpawn): string => `${taskId} attempt ${attempt}`;

function breachesOfSends(spawns: readonly CountedSpawn[], attempts: readonly AttemptRow[]): string[] {
  const stored = new Map(
    attempts.map((row) => [`${row.task_id} attempt ${row.number}`, row.idempotency_key]),
  );
  const byAttempt = [...grouped(spawns, attemptOf)].flatMap(([attempt, sends]) => {
    const keys = new Set(sends.map(({ key }) => key));
    const bodies = new Set(sends.map(({ hash }) => hash));
    return [
      ...(keys.size === 1 && keys.has(stored.get(attempt) ?? '') ? [] : [`${attempt} has ${keys.size} keys`]),
      ...(bodies.size === 1 ? [] : [`${attempt} was sent as ${bodies.size} different bodies`]),
    ];
  });
  const byKey = [...grouped(spawns, ({ key }) => key)].flatMap(([key, sends]) =>
    new Set(sends.map(attemptOf)).size === 1 ? [] : [`key ${key} was used for several attempts`],
  );
  const arrived = new Set(spawns.map(attemptOf));
  const unsent = [...stored.keys()].filter((attempt) => !arrived.has(attempt));
  return [...byAttempt, ...byKey, ...unsent.map((attempt) => `${attempt} never arrived whole`)];
}

function duplicatesOf(spawns: readonly CountedSpawn[]): CountedSpawn[] {
  return [...grouped(spawns, attemptOf).values()].flatMap((sends) => sends.slice(1));
}

function grouped<T>(values: readonly T[], keyOf: (value: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const value of values) {
    const group = groups.get(keyOf(value));
    if (group === undefined) groups.set(keyOf(value), [value]);
    else group.push(value);
  }
  return groups;
}
