import { request, type Agent, type IncomingHttpHeaders } from 'node:http';
import { readBody } from './orchestrator-answers.js';

/** A callback as Orchestrators send it; a string is sent as it is, to try what is not JSON. */
export type Callback =
  | string
  | {
      readonly status: string;
      readonly id?: string;
      readonly sessionId?: string;
      readonly sequence?: number;
      readonly occurredAt?: string;
      readonly progress?: { readonly percent: number; readonly message?: string };
      readonly result?: unknown;
      readonly error?: { readonly code?: string; readonly message: string; readonly retryable?: boolean };
      readonly [further: string]: unknown;
    };

export type CallbackAnswer = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bodyText: string;
};

/** Sends one callback; rejects when no HTTP answer came. `headers` win over the usual ones. */
export function postCallback(
  agent: Agent,
  to: { url: string; token: string | null },
  callback: Callback,
  headers: Record<string, string> = {},
): Promise<CallbackAnswer> {
  const body = typeof callback === 'string' ? callback : JSON.stringify(callback);
  return new Promise((resolve, reject) => {
    const sent = request(
      to.url,
      {
        method: 'POST',
        agent,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...(to.token === null ? {} : { authorization: `Bearer ${to.token}` }),
          ...headers,
        },
      },
      (response) => {
        readBody(response).then(
          ({ text }) =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, bodyText: text }),
          reject,
        );
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/**
 * Sends a callback until somebody takes it, the way a careful Orchestrator does: again after a lost connection and
 * after 408, 429 and 5xx. Null when it was told to stop first.
 */
export async function postUntilTaken(
  post: () => Promise<CallbackAnswer>,
  stopped: AbortSignal,
): Promise<CallbackAnswer | null> {
  for (let waitMs = 50; !stopped.aborted; waitMs = Math.min(waitMs * 2, 1000)) {
    const answer = await post().catch(() => null);
    const again = answer === null || answer.status >= 500 || answer.status === 429 || answer.status === 408;
    if (!again) return answer;
    await pause(waitMs, stopped);
  }
  return null;
}

/** Waits, but no longer than until the stub is closed. */
export function pause(ms: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      stopped.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (stopped.aborted) done();
    else stopped.addEventListener('abort', done, { once: true });
  });
}
