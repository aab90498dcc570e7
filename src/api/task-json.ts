import type { EventRecord, TaskView } from '../db/task-reads.js';
import type { NewTask } from '../domain/new-task.js';
import { orderOf, type Attempt, type Task, type Waiting } from '../domain/task.js';

/** How tasks look from outside: everything that may go out is listed here, by name. */
export type Payloads = Pick<TaskView, 'context' | 'metadata' | 'result'>;

/** `payloads` null: as in lists. They are spliced in as the texts that came, never parsed. */
export function taskJson(task: Task, waiting: Waiting | null, payloads: Payloads | null): string {
  const plain = JSON.stringify(plainTask(task, waiting));
  if (payloads === null) return plain;
  const { context, metadata, result } = payloads;
  return `${plain.slice(0, -1)},"context":${context},"metadata":${metadata ?? 'null'},"result":${result ?? 'null'}}`;
}

function plainTask(task: Task, waiting: Waiting | null): Record<string, unknown> {
  const { progress, wish, timeouts, retry } = task;
  return {
    id: task.id,
    type: task.type,
    title: task.title,
    reference: task.reference,
    state: task.state,
    priority: task.priority,
    workspaceId: task.workspaceId,
    backend: Object.keys(wish).length === 0 ? null : { id: wish.id, name: wish.name, labels: wish.labels },
    backendId: task.backendId,
    externalId: task.externalId,
    attempt: task.attempt,
    tags: task.tags,
    timeouts: {
      dispatchMs: timeouts.dispatchMs,
      startMs: timeouts.startMs,
      heartbeatMs: timeouts.heartbeatMs,
      runMs: timeouts.runMs,
    },
    retry: {
      maxAttempts: retry.maxAttempts,
      maxSends: retry.maxSends,
      backoffBaseMs: retry.backoffBaseMs,
      backoffMaxMs: retry.backoffMaxMs,
      onUnknownOutcome: retry.onUnknownOutcome,
    },
    progress: progress === null ? null : { percent: progress.percent, message: progress.message },
    error: task.error,
    waiting,
    needs: null,
    retryOf: task.retryOf,
    cancelRequestedAt: task.cancelRequestedAt,
    scheduledFor: task.scheduledFor,
    deadlineAt: task.deadlineAt,
    createdAt: task.createdAt,
    dispatchedAt: task.dispatchedAt,
    startedAt: task.startedAt,
    finishedAt: task.finishedAt,
    updatedAt: task.updatedAt,
  };
}

export function attemptJson(attempt: Attempt): string {
  const { number, backendId, externalId, sends, outcome, httpStatus, error, startedAt, endedAt } = attempt;
  return JSON.stringify({
    number,
    backendId,
    externalId,
    sends,
    outcome,
    httpStatus,
    error,
    startedAt,
    endedAt,
  });
}

export function eventJson(event: EventRecord): string {
  const { seq, type, from, to, at, attempt, backendId, actor, detail } = event;
  return JSON.stringify({ seq, type, from, to, at, attempt, backendId, actor, detail });
}

/** A newborn as a read would show it, without reading: what the insert itself decides is its instant. */
export function bornTask(born: NewTask, createdAt: Date): Task {
  const isScheduled = born.scheduledFor !== null && born.scheduledFor > createdAt;
  const dueAt = isScheduled ? born.scheduledFor : createdAt;
  const { createdBy: _, idempotency: __, context: ___, metadata: ____, ...kept } = born;
  return {
    ...kept,
    createdAt,
    state: 'PENDING',
    dueAt,
    orderAt: orderOf(dueAt, born.priority),
    waiting: isScheduled ? { reason: 'scheduled', detail: '', until: born.scheduledFor } : null,
    clockAt: born.deadlineAt,
    updatedAt: createdAt,
    version: 0,
    seq: 1,
    leasedBy: null,
    claims: 0,
    attempt: 0,
    spent: 0,
    failures: 0,
    avoid: [],
    attempts: [],
    backendId: null,
    externalId: null,
    lane: null,
    lastHeardAt: null,
    progress: null,
    error: null,
    cancelRequestedAt: null,
    cancelReason: null,
    dispatchedAt: null,
    startedAt: null,
    finishedAt: null,
  };
}
