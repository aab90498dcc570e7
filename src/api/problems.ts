import type { ServerResponse } from 'node:http';
import { sqlStateOf } from '../db/pool.js';
import { DispatcherError } from '../domain/errors.js';

/** Every refusal that this service can answer: the only table from a code to an HTTP status. */
export const problemTable = {
  malformed_json: { status: 400, title: 'The body is not JSON' },
  json_too_deep: { status: 400, title: 'The body is nested too deeply' },
  malformed_request: { status: 400, title: 'The request is malformed' },
  idempotency_key_malformed: { status: 400, title: 'The Idempotency-Key is malformed' },
  unauthenticated: { status: 401, title: 'An API key is needed' },
  key_revoked: { status: 401, title: 'The API key was revoked' },
  key_is_a_webhook_secret: { status: 401, title: 'This is a webhook secret, not an API key' },
  callback_token_invalid: { status: 401, title: 'The callback token is not valid' },
  scope_missing: { status: 403, title: 'The API key may not do this' },
  workspace_forbidden: { status: 403, title: 'The API key belongs to another workspace' },
  not_found: { status: 404, title: 'There is no such object' },
  route_not_found: { status: 404, title: 'There is no such route' },
  method_not_allowed: { status: 405, title: 'The route does not have this method' },
  request_timeout: { status: 408, title: 'The request took too long to arrive' },
  task_already_ended: { status: 409, title: 'The task has already ended' },
  task_already_sent: { status: 409, title: 'The task was already sent' },
  task_not_ended: { status: 409, title: 'The task has not failed or been cancelled' },
  task_not_cancelling: { status: 409, title: 'The task is not being cancelled' },
  retry_not_ended: { status: 409, title: 'An earlier retry has not ended' },
  backend_in_use: { status: 409, title: 'Tasks are in flight on this backend' },
  backend_name_taken: { status: 409, title: 'Another backend has this name' },
  payload_too_large: { status: 413, title: 'The body is too large' },
  uri_too_long: { status: 414, title: 'The path is too long' },
  unsupported_media_type: { status: 415, title: 'The body must be application/json' },
  validation_failed: { status: 422, title: 'The input is not valid' },
  malformed_cursor: { status: 422, title: 'The cursor is not one of ours' },
  idempotency_key_reused: { status: 422, title: 'The Idempotency-Key was used with a different body' },
  unknown_backend: { status: 422, title: 'There is no such backend' },
  callback_status_unknown: { status: 422, title: 'The status is not known' },
  rate_limited: { status: 429, title: 'Too many requests' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'Something went wrong on our side' },
  overloaded: { status: 503, title: 'Too much is waiting to be written' },
  busy: { status: 503, title: 'The object is being changed by others' },
  commit_unknown: { status: 503, title: 'It is not known whether the change was stored' },
  database_unavailable: { status: 503, title: 'The database is out of reach' },
  queues_unavailable: { status: 503, title: 'The queues are out of reach' },
  draining: { status: 503, title: 'This process is shutting down' },
} as const satisfies Record<string, { status: number; title: string }>;
export type ProblemCode = keyof typeof problemTable;

export type Fault = { readonly pointer: string; readonly detail: string };

/** RFC 9457; extra members stand beside the named ones. */
export type Problem = {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ProblemCode;
  readonly requestId: string;
} & Readonly<Record<string, unknown>>;

/** Faults shown of one input: an answer stays small whatever was sent. */
const maxFaults = 32;
const maxFaultChars = 200;

export function refusal(
  code: ProblemCode,
  detail: string,
  details: Record<string, unknown> = {},
): DispatcherError {
  return new DispatcherError(code, detail, { details });
}

export function invalid(faults: readonly Fault[]): DispatcherError {
  const errors = faults.slice(0, maxFaults).map(({ pointer, detail }) => ({
    pointer: cut(pointer),
    detail: cut(detail),
  }));
  const more = faults.length > maxFaults ? `, the first ${maxFaults} are shown` : '';
  const detail = faults.length === 1 ? 'one fault was found' : `${faults.length} faults were found${more}`;
  return refusal('validation_failed', detail, { errors });
}

function cut(text: string): string {
  return text.length > maxFaultChars ? `${text.slice(0, maxFaultChars)}…` : text;
}

export function problemPath(code: string): string {
  return `/errors/${code.toLowerCase().replaceAll('_', '-')}`;
}

/** Whatever was thrown, as an answer; `known` is false for what must be logged: it is our own fault. */
export function problemOf(error: unknown, requestId: string): { problem: Problem; known: boolean } {
  if (error instanceof DispatcherError && error.code in problemTable) {
    const code = error.code as ProblemCode;
    if (code !== 'database_unavailable') {
      return { problem: problem(code, error.message, requestId, error.details), known: code !== 'internal' };
    }
  }
  if (isUnavailable(error)) {
    const detail = 'nothing was promised; repeat the request, with the same Idempotency-Key if it had one';
    return { problem: problem('database_unavailable', detail, requestId), known: true };
  }
  const detail = 'the fault was recorded; name the request id when you report it';
  return { problem: problem('internal', detail, requestId), known: false };
}

function problem(
  code: ProblemCode,
  detail: string,
  requestId: string,
  details: Readonly<Record<string, unknown>> = {},
): Problem {
  const { status, title } = problemTable[code];
  const { retryAfterSeconds: _, allow: __, ...members } = details;
  return { type: problemPath(code), title, status, detail, code, requestId, ...members };
}

/**
 * No verdict on the data, only on the moment: lost connections, shutdown, too many connections, timeouts. A
 * driver's error without an SQLSTATE means that no answer came.
 */
function isUnavailable(error: unknown): boolean {
  if (error instanceof DispatcherError) return error.code === 'database_unavailable';
  const state = sqlStateOf(error);
  if (state !== null && state !== 'EPIPE') return /^(08|53|55P03|57|58|40|25006|25P03|XX)/.test(state);
  return error instanceof Error && (hasSystemCode(error) || connectionWords.test(error.message));
}

const connectionWords =
  /connection terminated|query read timeout|timeout (exceeded|expired)|connection ended|not queryable|unable to acquire a connection/i;

function hasSystemCode(error: Error): boolean {
  return (
    'code' in error &&
    typeof error.code === 'string' &&
    /^E(CONN|PIPE|HOST|NET|TIMEDOUT|AI_)/.test(error.code)
  );
}

export function sendProblem(res: ServerResponse, error: unknown, requestId: string): { known: boolean } {
  const { problem: body, known } = problemOf(error, requestId);
  if (res.headersSent) {
    res.destroy();
    return { known };
  }
  const details = error instanceof DispatcherError ? error.details : {};
  if (body.status === 401) res.setHeader('WWW-Authenticate', 'Bearer');
  if (body.status === 503 || body.status === 429) {
    res.setHeader('Retry-After', retryAfterOf(details));
  }
  if (Array.isArray(details['allow'])) res.setHeader('Allow', details['allow'].join(', '));
  const text = Buffer.from(JSON.stringify(body));
  res.statusCode = body.status;
  res.setHeader('Content-Type', 'application/problem+json; charset=utf-8');
  res.setHeader('Content-Length', text.byteLength);
  if (body.code === 'payload_too_large') {
    closeGently(res, text);
  } else {
    res.end(text);
  }
  return { known };
}

const lingerMs = 1000;

/**
 * The rest of a body that is too large is thrown away for a moment before the connection is closed: closing
 * with unread bytes resets it, and the sender would see that instead of the answer.
 */
function closeGently(res: ServerResponse, text: Buffer): void {
  const { req } = res;
  res.setHeader('Connection', 'close');
  res.write(text);
  const end = (): void => {
    clearTimeout(timer);
    res.end();
    res.socket?.destroySoon();
  };
  const timer = setTimeout(end, lingerMs);
  timer.unref();
  if (req.readableEnded || req.destroyed) {
    end();
    return;
  }
  req.once('end', end).once('close', end).resume();
}

function retryAfterOf(details: Readonly<Record<string, unknown>>): number {
  const given = details['retryAfterSeconds'];
  return typeof given === 'number' ? given : 1;
}
