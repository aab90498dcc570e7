import type { Backend, BackendMode, HealthReason, HealthStatus, Protocol } from '../domain/backend.js';
import type {
  Attempt,
  AttemptOutcome,
  BackendWish,
  RetryPolicy,
  Task,
  TaskState,
  Timeouts,
  WaitingReason,
} from '../domain/task.js';

/** Row ⇄ value, and nowhere else. Instants come as Date with milliseconds; bigint columns come as text. */
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

const taskColumnNames = [
  'id',
  'type',
  'title',
  'reference',
  'workspace_id',
  'priority',
  'tags',
  'wish',
  'timeouts',
  'retry',
  'notify_url',
  'retry_of',
  'scheduled_for',
  'deadline_at',
  'created_at',
  'state',
  'version',
  'seq',
  'due_at',
  'leased_by',
  'claims',
  'attempt',
  'spent',
  'failures',
  'backend_id',
  'external_id',
  'avoid',
  'waiting_reason',
  'waiting_detail',
  'waiting_until',
  'lane',
  'order_at',
  'clock_at',
  'last_heard_at',
  'progress_percent',
  'progress_message',
  'progress_sequence',
  'error_code',
  'error_message',
  'error_retryable',
  'cancel_requested_at',
  'cancel_reason',
  'dispatched_at',
  'started_at',
  'finished_at',
  'updated_at',
] as const satisfies readonly (keyof TaskRow)[];

/** For `SELECT ${taskColumns('t')} FROM tasks t`. */
export const taskColumns = (alias: string): string =>
  taskColumnNames.map((name) => `${alias}.${name}`).join(', ');

export function taskOf(row: TaskRow, attempts: readonly Attempt[] = []): Task {
  return {
    id: row.id,
    type: row.type,
    title: row.title,
    reference: row.reference,
    workspaceId: row.workspace_id,
    priority: row.priority,
    tags: row.tags,
    wish: row.wish,
    timeouts: row.timeouts,
    retry: row.retry,
    notifyUrl: row.notify_url,
    retryOf: row.retry_of,
    scheduledFor: row.scheduled_for,
    deadlineAt: row.deadline_at,
    createdAt: row.created_at,
    state: row.state,
    version: row.version,
    seq: row.seq,
    dueAt: row.due_at,
    leasedBy: row.leased_by,
    claims: row.claims,
    attempt: row.attempt,
    spent: row.spent,
    failures: row.failures,
    backendId: row.backend_id,
    externalId: row.external_id,
    avoid: row.avoid,
    waiting:
      row.waiting_reason === null
        ? null
        : { reason: row.waiting_reason, detail: row.waiting_detail ?? '', until: row.waiting_until },
    lane: row.lane,
    orderAt: row.order_at,
    clockAt: row.clock_at,
    lastHeardAt: row.last_heard_at,
    progress:
      row.progress_percent === null
        ? null
        : {
            percent: row.progress_percent,
            message: row.progress_message,
            sequence: row.progress_sequence === null ? null : Number(row.progress_sequence),
          },
    error:
      row.error_code === null
        ? null
        : { code: row.error_code, message: row.error_message ?? '', retryable: row.error_retryable ?? false },
    cancelRequestedAt: row.cancel_requested_at,
    cancelReason: row.cancel_reason,
    dispatchedAt: row.dispatched_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    updatedAt: row.updated_at,
    attempts,
  };
}

/** The columns that a move may change, as one JSON object for `json_to_recordset`. */
export function taskChanges(task: Task): Record<string, unknown> {
  return {
    id: task.id,
    priority: task.priority,
    tags: task.tags,
    wish: task.wish,
    scheduled_for: task.scheduledFor,
    deadline_at: task.deadlineAt,
    state: task.state,
    seq: task.seq,
    due_at: task.dueAt,
    leased_by: task.leasedBy,
    claims: task.claims,
    spent: task.spent,
    failures: task.failures,
    external_id: task.externalId,
    avoid: task.avoid,
    waiting_reason: task.waiting?.reason ?? null,
    waiting_detail: task.waiting?.detail ?? null,
    waiting_until: task.waiting?.until ?? null,
    lane: task.lane,
    order_at: task.orderAt,
    clock_at: task.clockAt,
    last_heard_at: task.lastHeardAt,
    progress_percent: task.progress?.percent ?? null,
    progress_message: task.progress?.message ?? null,
    progress_sequence: task.progress?.sequence ?? null,
    error_code: task.error?.code ?? null,
    error_message: task.error?.message ?? null,
    error_retryable: task.error?.retryable ?? null,
    cancel_requested_at: task.cancelRequestedAt,
    cancel_reason: task.cancelReason,
    dispatched_at: task.dispatchedAt,
    started_at: task.startedAt,
    finished_at: task.finishedAt,
    updated_at: task.updatedAt,
  };
}

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

const attemptColumnNames = [
  'task_id',
  'number',
  'backend_id',
  'external_id',
  'sends',
  'unknown_sends',
  'outcome',
  'http_status',
  'error',
  'reusable',
  'started_at',
  'ended_at',
  'away_since',
  'missing',
  'ask_at',
  'kill_due_at',
  'kill_since',
  'kill_tries',
  'kill_reason',
] as const satisfies readonly (keyof AttemptRow)[];

export const attemptColumns = (alias: string): string =>
  attemptColumnNames.map((name) => `${alias}.${name}`).join(', ');

export function attemptOf(row: AttemptRow): Attempt {
  return {
    number: row.number,
    backendId: row.backend_id,
    externalId: row.external_id,
    sends: row.sends,
    unknownSends: row.unknown_sends,
    outcome: row.outcome,
    httpStatus: row.http_status,
    error: row.error,
    reusable: row.reusable,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    awaySince: row.away_since,
    missing: row.missing,
    askAt: row.ask_at,
    killDueAt: row.kill_due_at,
    killSince: row.kill_since,
    killTries: row.kill_tries,
    killReason: row.kill_reason,
  };
}

export function attemptChanges(taskId: string, attempt: Attempt): Record<string, unknown> {
  return {
    task_id: taskId,
    number: attempt.number,
    external_id: attempt.externalId,
    sends: attempt.sends,
    unknown_sends: attempt.unknownSends,
    outcome: attempt.outcome,
    http_status: attempt.httpStatus,
    error: attempt.error,
    reusable: attempt.reusable,
    ended_at: attempt.endedAt,
    away_since: attempt.awaySince,
    missing: attempt.missing,
    ask_at: attempt.askAt,
    kill_due_at: attempt.killDueAt,
    kill_since: attempt.killSince,
    kill_tries: attempt.killTries,
    kill_reason: attempt.killReason,
  };
}

export type BackendRow = {
  id: string;
  name: string;
  protocol: Protocol;
  url: string;
  auth_type: 'bearer' | 'apiKey' | 'none';
  auth_secret: string | null;
  health_path: string;
  health_expect: '2xx' | 'any';
  labels: Record<string, string>;
  weight: number;
  max_concurrency: number | null;
  max_dispatches_per_minute: number | null;
  mode: BackendMode;
  config_version: number;
  health_status: HealthStatus;
  health_reason: HealthReason | null;
  checked_at: Date | null;
  latency_ms: number | null;
  consecutive_failures: number;
  consecutive_successes: number;
  last_error: string | null;
  refused_sends: number;
  blocked_until: Date | null;
  next_send_at: Date | null;
  trial_at: Date | null;
  trial_failures: number;
  deleted_at: Date | null;
  created_at: Date;
  updated_at: Date;
};

/** Without `auth_secret`: whoever needs it asks for it by name. */
const backendColumnNames = [
  'id',
  'name',
  'protocol',
  'url',
  'auth_type',
  'health_path',
  'health_expect',
  'labels',
  'weight',
  'max_concurrency',
  'max_dispatches_per_minute',
  'mode',
  'config_version',
  'health_status',
  'health_reason',
  'checked_at',
  'latency_ms',
  'consecutive_failures',
  'consecutive_successes',
  'last_error',
  'refused_sends',
  'blocked_until',
  'next_send_at',
  'trial_at',
  'trial_failures',
  'deleted_at',
  'created_at',
  'updated_at',
] as const satisfies readonly (keyof BackendRow)[];

export const backendColumns = (alias: string): string =>
  backendColumnNames.map((name) => `${alias}.${name}`).join(', ');

export function backendOf(row: Omit<BackendRow, 'auth_secret'>): Backend {
  return {
    id: row.id,
    name: row.name,
    protocol: row.protocol,
    url: row.url,
    authType: row.auth_type,
    healthPath: row.health_path,
    healthExpect: row.health_expect,
    labels: row.labels,
    weight: row.weight,
    maxConcurrency: row.max_concurrency,
    maxDispatchesPerMinute: row.max_dispatches_per_minute,
    mode: row.mode,
    configVersion: row.config_version,
    health: {
      status: row.health_status,
      reason: row.health_reason,
      checkedAt: row.checked_at,
      latencyMs: row.latency_ms,
      consecutiveFailures: row.consecutive_failures,
      consecutiveSuccesses: row.consecutive_successes,
      lastError: row.last_error,
    },
    refusedSends: row.refused_sends,
    blockedUntil: row.blocked_until,
    nextSendAt: row.next_send_at,
    trialAt: row.trial_at,
    deletedAt: row.deleted_at,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
