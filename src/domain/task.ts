/** The task and its attempts: the values every rule decides about. Payloads never enter the domain. */
export const taskStates = ['PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED'] as const;
export type TaskState = (typeof taskStates)[number];

/** Why a PENDING task is not yet accepted anywhere; one word, from the contract. */
export const waitingReasons = [
  'queued',
  'sending',
  'confirming_outcome',
  'scheduled',
  'backing_off',
  'no_backend',
  'backend_down',
  'backend_full',
  'rate_limited',
  'paused',
] as const;
export type WaitingReason = (typeof waitingReasons)[number];
export type Waiting = {
  readonly reason: WaitingReason;
  readonly detail: string;
  readonly until: Date | null;
};

/** What the producer asked for; an empty wish fits every backend. */
export type BackendWish = {
  readonly id?: string | undefined;
  readonly name?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
};

/** Durations in milliseconds; 0 means none. */
export type Timeouts = {
  readonly dispatchMs: number;
  readonly startMs: number;
  readonly heartbeatMs: number;
  readonly runMs: number;
};

export type RetryPolicy = {
  /** Attempts that a backend may have received. */
  readonly maxAttempts: number;
  /** Sends of one attempt whose outcome stayed unknown. */
  readonly maxSends: number;
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
  readonly onUnknownOutcome: 'fail' | 'failover';
};

export type TaskError = {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
};

export type Progress = {
  readonly percent: number;
  readonly message: string | null;
  readonly sequence: number | null;
};

export type AttemptOutcome =
  | 'accepted'
  | 'not_received'
  | 'rejected'
  | 'misconfigured'
  | 'later'
  | 'unknown'
  | 'completed'
  | 'failed'
  | 'killed'
  | 'lost'
  | 'given_up';

/**
 * One try to have the task executed on one backend (I7). `endedAt` is null while an agent of it may live;
 * an attempt that provably was not received has ended, and is opened again when the same backend is tried
 * again with the same request.
 */
export type Attempt = {
  readonly number: number;
  readonly backendId: string;
  readonly externalId: string | null;
  readonly sends: number;
  /** Sends whose outcome stayed unknown; above 0 the attempt is uncertain until it is accepted or found (I8). */
  readonly unknownSends: number;
  readonly outcome: AttemptOutcome | null;
  readonly httpStatus: number | null;
  readonly error: string | null;
  /** The same request may be sent again with the same key: true until a change of the task forbids it. */
  readonly reusable: boolean;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  /** Since when its backend has been out of reach while its outcome is unknown. */
  readonly awaySince: Date | null;
  /** How often in a row the backend said it does not know this agent. */
  readonly missing: number;
  /** When the backend is next asked what became of it. */
  readonly askAt: Date | null;
  readonly killDueAt: Date | null;
  readonly killSince: Date | null;
  readonly killTries: number;
  readonly killReason: string | null;
};

export type Task = {
  readonly id: string;
  readonly type: string;
  readonly title: string | null;
  readonly reference: string | null;
  readonly workspaceId: string | null;
  readonly priority: number;
  readonly tags: readonly string[];
  readonly wish: BackendWish;
  readonly timeouts: Timeouts;
  readonly retry: RetryPolicy;
  readonly notifyUrl: string | null;
  readonly retryOf: string | null;
  readonly scheduledFor: Date | null;
  readonly deadlineAt: Date | null;
  readonly createdAt: Date;

  readonly state: TaskState;
  /** Compare-and-set: every save adds one. */
  readonly version: number;
  /** The number of the last event on the timeline. */
  readonly seq: number;
  /** Null when held, sent or ended; else the instant from which it may be claimed. */
  readonly dueAt: Date | null;
  /** The process that has it; its lease is a row of its own. */
  readonly leasedBy: string | null;
  /** Claims in a row without an outcome; five set the task aside. */
  readonly claims: number;
  readonly attempt: number;
  /** Attempts that a backend may have received and that have ended. */
  readonly spent: number;
  /** Failures in a row, for the backoff. */
  readonly failures: number;
  readonly backendId: string | null;
  readonly externalId: string | null;
  /** Backends that another is preferred to, for this round of attempts. */
  readonly avoid: readonly string[];
  readonly waiting: Waiting | null;
  /** What backend a held task may use; null while it is not held. */
  readonly lane: string | null;
  /** Order among the held: created + (priority − 1) × 10 min. */
  readonly orderAt: Date;
  /** The next instant at which one of its clocks runs out. */
  readonly clockAt: Date | null;
  readonly lastHeardAt: Date | null;
  readonly progress: Progress | null;
  readonly error: TaskError | null;
  readonly cancelRequestedAt: Date | null;
  readonly cancelReason: string | null;
  readonly dispatchedAt: Date | null;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
  readonly updatedAt: Date;

  /** The current attempt and every open one, ascending. */
  readonly attempts: readonly Attempt[];
};

export function isTerminal(state: TaskState): boolean {
  return state === 'COMPLETED' || state === 'FAILED' || state === 'CANCELLED';
}

export function currentAttempt(task: Task): Attempt | null {
  return task.attempts.find((attempt) => attempt.number === task.attempt) ?? null;
}

/** An agent of this attempt may live: it was begun and its end is not known. */
export function isOpen(attempt: Attempt): boolean {
  return attempt.endedAt === null;
}

/** Ten minutes of age weigh as much as one step of priority, so the order never has to be computed anew. */
export const priorityStepMs = 10 * 60 * 1000;
export function orderOf(since: Date, priority: number): Date {
  return new Date(since.getTime() + (priority - 1) * priorityStepMs);
}
