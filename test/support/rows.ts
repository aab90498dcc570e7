import { randomBytes } from 'node:crypto';
import type { NewCallback } from '../../src/db/callbacks.js';
import type { ClaimRequest } from '../../src/db/claim.js';
import type { Sql } from '../../src/db/pool.js';
import { insertTasks } from '../../src/db/tasks.js';
import { makeId } from '../../src/domain/ids.js';
import { newTask, type Idempotency, type NewTask, type TaskRequest } from '../../src/domain/new-task.js';
import { retry } from './domain.js';

/** Rows for tests that speak to the database alone. */
export const anId = (prefix: string): string => makeId(prefix, Date.now(), randomBytes(10));

const defaults = {
  timeouts: { dispatchMs: 1000, startMs: 900_000, heartbeatMs: 0, runMs: 86_400_000 },
  retry,
};

export function aNewTask(
  request: Partial<TaskRequest> = {},
  idempotency: Idempotency | null = null,
): NewTask {
  const given = { id: anId('task'), context: '{"n":1}', metadata: null, createdBy: 'test', idempotency };
  return newTask({ type: 'test', ...request }, given, defaults);
}

/** @returns the ids of `count` fresh tasks */
export async function addTasks(sql: Sql, count = 1, request: Partial<TaskRequest> = {}): Promise<string[]> {
  const tasks = Array.from({ length: count }, () => aNewTask(request));
  await insertTasks(sql, tasks);
  return tasks.map(({ id }) => id);
}

export async function addBackend(sql: Sql, columns: Readonly<Record<string, unknown>> = {}): Promise<string> {
  const id = anId('bknd');
  const row = {
    id,
    name: id,
    protocol: 'gateway',
    url: 'http://127.0.0.1:1',
    health_status: 'up',
    ...columns,
  };
  const names = Object.keys(row);
  const places = names.map((_, index) => `$${index + 1}`).join(', ');
  await sql.query(
    { text: `INSERT INTO backends (${names.join(', ')}) VALUES (${places})` },
    Object.values(row),
  );
  return id;
}

/** A process whose lease lasts `leaseMs` from now; below 0 it ran out. */
export async function addProcess(sql: Sql, leaseMs = 600_000): Promise<string> {
  const id = anId('proc');
  const text = `INSERT INTO processes (id, name, host, pid, lease_until)
    VALUES ($1, 'dispatch', 'here', 1, clock_timestamp() + $2 * interval '1 millisecond')`;
  await sql.query({ text }, [id, leaseMs]);
  return id;
}

export function aClaim(taskId: string, backendId: string, fields: Partial<ClaimRequest> = {}): ClaimRequest {
  return {
    taskId,
    backendId,
    version: 0,
    number: 1,
    idempotencyKey: anId('key'),
    callbackUrl: 'http://127.0.0.1:1/v1/callbacks/x/1',
    signingKeyId: '00',
    traceparent: '00-0-0-01',
    ...fields,
  };
}

export function aNewCallback(
  taskId: string,
  fields: Partial<NewCallback> & Pick<NewCallback, 'status'>,
): NewCallback {
  return {
    taskId,
    attempt: 1,
    dedupeKey: anId('any'),
    eventId: null,
    sessionId: null,
    sequence: null,
    occurredAt: null,
    progressPercent: null,
    progressMessage: null,
    errorCode: null,
    errorMessage: null,
    errorRetryable: null,
    result: null,
    ...fields,
  };
}

export const limits = { silenceMs: 60_000, giveUpAfterMs: 3_600_000 };
