/**
 * The one error class of the project: thrown only when something could not be done or known.
 * Expected results are unions (I5). The HTTP status of a code stands in `api/problems` alone.
 */
export class DispatcherError extends Error {
  readonly code: string;
  /** Extra members for the answer's problem document; never a secret, never a payload. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(
    code: string,
    message: string,
    options: { cause?: unknown; details?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'DispatcherError';
    this.code = code;
    this.details = options.details ?? {};
  }
}

/** Codes that a FAILED task may carry besides the Orchestrator's own. */
export const failureCodes = [
  'BACKEND_REJECTED',
  'ATTEMPTS_EXHAUSTED',
  'DISPATCH_OUTCOME_UNKNOWN',
  'DEADLINE_EXCEEDED',
  'START_TIMEOUT',
  'HEARTBEAT_TIMEOUT',
  'RUN_TIMEOUT',
  'LOST_BY_BACKEND',
  'KILL_UNCONFIRMED',
  'QUARANTINED',
] as const;
export type FailureCode = (typeof failureCodes)[number];
