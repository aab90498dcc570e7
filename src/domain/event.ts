import type { AttemptOutcome, BackendWish, TaskError, TaskState, Waiting } from './task.js';

/** What an Orchestrator told by callback, as it was stored. */
export type Report = {
  readonly callbackId: string;
  readonly status: 'running' | 'progress' | 'completed' | 'failed' | 'killed';
  readonly eventId: string | null;
  readonly sessionId: string | null;
  readonly sequence: number | null;
  readonly progress: { readonly percent: number; readonly message: string | null } | null;
  readonly error: {
    readonly code: string | null;
    readonly message: string;
    readonly retryable: boolean;
  } | null;
  readonly hasResult: boolean;
  readonly receivedAt: Date;
};

export type TaskPatch = {
  readonly priority?: number;
  readonly scheduledFor?: Date | null;
  readonly deadlineAt?: Date | null;
  readonly wish?: BackendWish;
  readonly tags?: readonly string[];
  /** Raw JSON text; the row of payloads is written beside the move. */
  readonly metadata?: string | null;
};

/**
 * What a sender says of its own send. A task that another process has taken up meanwhile is that one's to settle:
 * such an outcome without any news of an agent must not take its lease away. Absent where no sender speaks.
 */
type BySender = { readonly by?: string };

/** Everything that can happen to a task. What concerns an agent names its attempt (I7). */
export type TaskEvent =
  /** The backend took it. */
  | {
      readonly type: 'accepted';
      readonly attempt: number;
      readonly externalId: string | null;
      readonly httpStatus: number | null;
    }
  /** Claimed, but no byte was sent: the lease, a stop or a change of the backend forbade it. */
  | (BySender & { readonly type: 'notSent'; readonly attempt: number; readonly reason: string })
  /** Provably nothing was spawned: it waits and spends nothing. */
  | (BySender & {
      readonly type: 'postponed';
      readonly attempt: number;
      readonly outcome: Extract<AttemptOutcome, 'not_received' | 'later' | 'misconfigured'>;
      readonly httpStatus: number | null;
      readonly reason: string;
      readonly waiting: Waiting;
      /** From when it may be claimed again. */
      readonly dueAt: Date;
      /** Other backends are preferred now. */
      readonly avoids: boolean;
      /** It was told to come later: it queues behind the others of its priority. */
      readonly toTheBack: boolean;
    })
  | (BySender & {
      readonly type: 'rejected';
      readonly attempt: number;
      readonly httpStatus: number;
      readonly reason: string;
    })
  /** A byte may have left and no clear answer came: the attempt stays open (I8). */
  | (BySender & {
      readonly type: 'outcomeUnknown';
      readonly attempt: number;
      readonly httpStatus: number | null;
      readonly reason: string;
      readonly dueAt: Date;
      /** False while the backend is away or told us to wait: that spends no send. */
      readonly spends: boolean;
      readonly awaySince: Date | null;
    })
  /** The sends are over, or the backend is gone: `onUnknownOutcome` decides. */
  | (BySender & {
      readonly type: 'outcomeGivenUp';
      readonly attempt: number;
      readonly reason: string;
      readonly killFirstMs: number;
    })
  | { readonly type: 'held'; readonly waiting: Waiting; readonly lane: string }
  | { readonly type: 'reported'; readonly attempt: number; readonly report: Report }
  /** A callback that came again: its id and status, or its bytes, were seen for this attempt. */
  | {
      readonly type: 'repeated';
      readonly attempt: number;
      readonly status: string;
      readonly eventId: string | null;
      readonly at: Date;
    }
  /** What a backend said, when asked, of the agent of one attempt. */
  | {
      readonly type: 'sighted';
      readonly attempt: number;
      readonly state: 'spawning' | 'queued' | 'running' | 'completed' | 'failed' | 'killed';
      readonly externalId: string | null;
      readonly progress: { readonly percent: number; readonly message: string | null } | null;
      /** Raw JSON text. */
      readonly result: string | null;
      readonly error: TaskError | null;
      /** When it is asked next. */
      readonly askAt: Date;
    }
  /** The backend does not know this agent. */
  | { readonly type: 'missing'; readonly attempt: number; readonly askAt: Date }
  | { readonly type: 'clockRanOut'; readonly graceUntil: Date | null }
  | { readonly type: 'cancelRequested'; readonly reason: string; readonly actor: string }
  | {
      readonly type: 'killAnswered';
      readonly attempt: number;
      /**
       * `confirmed`: no agent lives; `missing`: neither kill nor status knows it; `unlisted`: its id is not known
       * and the list does not show it, which it may not do yet; `pending`: told, not proven.
       */
      readonly answer: 'confirmed' | 'missing' | 'unlisted' | 'pending' | 'away';
      readonly detail: string;
      readonly nextAt: Date;
    }
  /** Nobody will confirm that kill any more: an admin's word, a removed backend, or a day without an answer. */
  | { readonly type: 'gaveUp'; readonly reason: string; readonly actor: string }
  | { readonly type: 'changed'; readonly patch: TaskPatch; readonly actor: string }
  | { readonly type: 'quarantined'; readonly reason: string };

/** An entry of the timeline; one that moves nothing has `from` = `to`. */
export type TimelineEntry = {
  readonly type: TimelineType;
  readonly from: TaskState;
  readonly to: TaskState;
  readonly attempt: number | null;
  readonly backendId: string | null;
  readonly actor: string;
  readonly detail: Readonly<Record<string, unknown>>;
};

export type TimelineType =
  | 'task.created'
  | 'task.changed'
  | 'task.claimed'
  | 'task.held'
  | 'task.outcomeUnknown'
  | 'task.dispatched'
  | 'task.started'
  | 'task.progress'
  | 'task.retryScheduled'
  | 'task.completed'
  | 'task.failed'
  | 'task.cancelRequested'
  | 'task.killSent'
  | 'task.killConfirmed'
  | 'task.killGivenUp'
  | 'task.cancelled'
  | 'callback.duplicate'
  | 'callback.superseded'
  | 'callback.late';
