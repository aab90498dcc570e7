import type { BackendWish, RetryPolicy, Timeouts } from './task.js';

/** What a producer may say about a task, already checked; absent members are undefined. */
export type TaskRequest = {
  readonly type: string;
  readonly title?: string | undefined;
  readonly reference?: string | undefined;
  readonly priority?: number | undefined;
  readonly workspaceId?: string | undefined;
  readonly backend?: BackendWish | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly scheduledFor?: Date | undefined;
  readonly deadlineAt?: Date | undefined;
  readonly timeouts?: Partial<Timeouts> | undefined;
  readonly retry?: Partial<RetryPolicy> | undefined;
  readonly notifyUrl?: string | undefined;
};

export type TaskDefaults = { readonly timeouts: Timeouts; readonly retry: RetryPolicy };

/** The key under which a repeated create finds its task; `hash` tells whether the body is the same. */
export type Idempotency = { readonly scope: string; readonly key: string; readonly hash: string };

/** A task as it is born: PENDING, with every limit decided. Payloads are JSON texts exactly as they came. */
export type NewTask = {
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
  readonly createdBy: string;
  readonly idempotency: Idempotency | null;
  readonly scheduledFor: Date | null;
  readonly deadlineAt: Date | null;
  readonly context: string;
  readonly metadata: string | null;
};

export const defaultPriority = 3;

/** Fills in what the request left open. Its place in the order is the database's to give, from its own clock. */
export function newTask(
  request: TaskRequest,
  given: {
    readonly id: string;
    readonly context: string;
    readonly metadata: string | null;
    readonly createdBy: string;
    readonly idempotency: Idempotency | null;
    readonly retryOf?: string | undefined;
  },
  defaults: TaskDefaults,
): NewTask {
  return {
    id: given.id,
    type: request.type,
    title: request.title ?? null,
    reference: request.reference ?? null,
    workspaceId: request.workspaceId ?? null,
    priority: request.priority ?? defaultPriority,
    tags: request.tags ?? [],
    wish: request.backend ?? {},
    timeouts: { ...defaults.timeouts, ...defined(request.timeouts) },
    retry: { ...defaults.retry, ...defined(request.retry) },
    notifyUrl: request.notifyUrl ?? null,
    retryOf: given.retryOf ?? null,
    createdBy: given.createdBy,
    idempotency: given.idempotency,
    scheduledFor: request.scheduledFor ?? null,
    deadlineAt: request.deadlineAt ?? null,
    context: given.context,
    metadata: given.metadata,
  };
}

function defined<T extends object>(given: T | undefined): Partial<T> {
  return Object.fromEntries(
    Object.entries(given ?? {}).filter(([, value]) => value !== undefined),
  ) as Partial<T>;
}
