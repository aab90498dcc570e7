/** What one send taught us. An exception teaches nothing, so a client turns everything it sees into one of these (I5). */
export type Outcome =
  | { readonly kind: 'accepted'; readonly externalId: string | null; readonly httpStatus: number }
  /** DNS, refused, connect timeout, TLS, address guard: no byte of the request was received. */
  | { readonly kind: 'notReceived'; readonly reason: string }
  /** The task's fault: 400, 413, 415, 422. */
  | { readonly kind: 'rejected'; readonly reason: string; readonly httpStatus: number }
  /** The backend's configuration: 401, 403, 404, any other 4xx, 3xx. */
  | { readonly kind: 'misconfigured'; readonly reason: string; readonly httpStatus: number }
  | {
      readonly kind: 'later';
      readonly reason: string;
      readonly retryAfterMs: number | null;
      /** 429 and 503 hold the whole backend, 408 and 425 this task alone. */
      readonly holds: 'backend' | 'task';
      readonly httpStatus: number;
    }
  | { readonly kind: 'unknown'; readonly reason: string; readonly httpStatus: number | null };

/** No backend may hold us longer than this by a Retry-After. */
export const maxRetryAfterMs = 60 * 60 * 1000;

const rejectedStatuses = new Set([400, 413, 415, 422]);
const taskLaterStatuses = new Set([408, 425]);

/** Classifies a whole answer of a spawn request by its status and session id (contract: the outcome table). */
export function outcomeOfAnswer(
  answer: { httpStatus: number; externalId: string | null; retryAfter: string | null },
  now: Date,
): Outcome {
  const { httpStatus, externalId } = answer;
  const reason = `the backend answered ${httpStatus}`;
  if (httpStatus >= 200 && httpStatus < 300) return { kind: 'accepted', externalId, httpStatus };
  if (httpStatus === 409) {
    return externalId === null
      ? { kind: 'unknown', reason: `${reason} without a session id`, httpStatus }
      : { kind: 'accepted', externalId, httpStatus };
  }
  if (rejectedStatuses.has(httpStatus)) return { kind: 'rejected', reason, httpStatus };
  if (httpStatus === 429 || httpStatus === 503 || taskLaterStatuses.has(httpStatus)) {
    const retryAfterMs = retryAfterToMs(answer.retryAfter, now);
    const holds = taskLaterStatuses.has(httpStatus) ? 'task' : 'backend';
    return { kind: 'later', reason, retryAfterMs, holds, httpStatus };
  }
  if (httpStatus >= 300 && httpStatus < 500) return { kind: 'misconfigured', reason, httpStatus };
  return { kind: 'unknown', reason, httpStatus };
}

/** Seconds or an HTTP date, capped at an hour; null for nonsense, the past or no time at all: then the own backoff rules. */
export function retryAfterToMs(header: string | null, now: Date): number | null {
  if (header === null) return null;
  const text = header.trim();
  const ms = /^\d{1,12}$/.test(text) ? Number(text) * 1000 : httpDateMs(text) - now.getTime();
  return Number.isFinite(ms) && ms > 0 ? Math.min(ms, maxRetryAfterMs) : null;
}

function httpDateMs(text: string): number {
  return /^[A-Za-z]{3,9},/.test(text) ? Date.parse(text) : Number.NaN;
}
