import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { hasEnded, type Session } from './sessions.js';

export type Callback = {
  readonly id: string;
  readonly sequence: number;
  readonly body: string;
  readonly isProgress: boolean;
  readonly isLast: boolean;
};

export type CallbackSender = {
  /** Queues what the session now is; one session's callbacks go out one after another, in this order. */
  tell(session: Session): void;
  /** Waits for what is queued, `timeoutMs` at most, then stops; what is untold is told after the next start. */
  close(timeoutMs: number): Promise<void>;
};

export type CallbackOptions = {
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
  readonly timeoutMs: number;
  readonly random: () => number;
  /** The last callback of a session was taken, or refused for good. */
  readonly onTold: (session: Session) => void;
  readonly log: (line: Record<string, unknown>) => void;
};

type Answer = {
  readonly status: number | null;
  readonly retryAfterMs: number | null;
  readonly reason: string;
};

/**
 * Delivers callbacks: at least once, in order within a session, each with an id that stays the same over its
 * repetitions. Network errors, 408, 425, 429 and 5xx are tried again with full jitter, or after `Retry-After`;
 * 2xx ends it; any other answer too, because the same words would get the same answer.
 */
export function openCallbacks(options: CallbackOptions): CallbackSender {
  const waiting = new Map<string, Callback[]>();
  const running = new Set<Promise<void>>();
  const stop = new AbortController();

  async function drain(session: Session, queue: Callback[]): Promise<void> {
    for (let next = queue.shift(); next !== undefined && !stop.signal.aborted; next = queue.shift()) {
      const settled = await deliver(session, next);
      if (settled && next.isLast) options.onTold(session);
    }
    waiting.delete(session.id);
  }

  /** True when it was answered for good. */
  async function deliver(session: Session, callback: Callback): Promise<boolean> {
    for (let tries = 1; !stop.signal.aborted; tries += 1) {
      const answer = await post(session, callback, options.timeoutMs, stop.signal);
      if (!isWorthRepeating(answer.status)) {
        const taken = answer.status !== null && answer.status < 300;
        if (!taken)
          options.log({ msg: 'callback refused', session: session.id, callback: callback.id, ...answer });
        return true;
      }
      const ceilingMs = Math.min(options.backoffMaxMs, options.backoffBaseMs * 2 ** Math.min(tries - 1, 20));
      const delayMs = answer.retryAfterMs ?? Math.ceil(options.random() * ceilingMs);
      options.log({
        msg: 'callback will be repeated',
        session: session.id,
        callback: callback.id,
        delayMs,
        ...answer,
      });
      await pause(delayMs, stop.signal);
    }
    return false;
  }

  return {
    tell: (session) => {
      const callback = callbackOf(session);
      const queue = waiting.get(session.id);
      if (queue !== undefined) {
        // A report of progress that nobody has yet taken is worth nothing beside a newer one.
        if (queue.at(-1)?.isProgress === true && callback.isProgress) queue.pop();
        queue.push(callback);
        return;
      }
      const fresh = [callback];
      waiting.set(session.id, fresh);
      const work = drain(session, fresh).finally(() => running.delete(work));
      running.add(work);
    },
    close: async (timeoutMs) => {
      const timer = setTimeout(() => stop.abort(), timeoutMs);
      await Promise.all(running);
      clearTimeout(timer);
      stop.abort();
    },
  };
}

/** The session's present state as the words of the protocol. */
function callbackOf(session: Session): Callback {
  const { id, status, sequence, progress, result, error } = session;
  const isProgress = status === 'running' && progress !== null;
  const callback = {
    id: `${id}_${sequence}`,
    sequence,
    sessionId: id,
    status: isProgress ? 'progress' : status,
    occurredAt: session.endedAt ?? new Date().toISOString(),
    ...(progress === null ? {} : { progress }),
    ...(status === 'completed' || status === 'failed' ? { result } : {}),
    ...(status === 'failed' ? { error } : {}),
  };
  const isLast = hasEnded(session);
  return { id: callback.id, sequence, body: JSON.stringify(callback), isProgress, isLast };
}

function post(session: Session, callback: Callback, timeoutMs: number, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve) => {
    const url = new URL(session.callbackUrl);
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers = {
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(callback.body)),
      authorization: `Bearer ${session.callbackToken}`,
      ...(session.traceparent === null ? {} : { traceparent: session.traceparent }),
    };
    const bounded = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const request = send(url, { method: 'POST', headers, signal: bounded }, (response) => {
      // The status says it all; the body is only read so that the connection can be used again.
      response.resume();
      response.on('error', () => undefined);
      const status = response.statusCode ?? 0;
      resolve({
        status,
        retryAfterMs: retryAfterMs(response.headers['retry-after']),
        reason: `answered ${status}`,
      });
    });
    request.on('error', (error) => resolve({ status: null, retryAfterMs: null, reason: error.message }));
    request.end(callback.body);
  });
}

function isWorthRepeating(status: number | null): boolean {
  return status === null || status >= 500 || status === 408 || status === 425 || status === 429;
}

function retryAfterMs(header: string | undefined): number | null {
  if (header === undefined) return null;
  const ms = /^\d{1,6}$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) && ms >= 0 ? Math.min(ms, 3_600_000) : null;
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, delayMs);
    signal.addEventListener('abort', done);
  });
}
