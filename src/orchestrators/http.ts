import { setMaxListeners } from 'node:events';
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import got, { type Request } from 'got';
import type { AddressGuard } from './address-guard.js';
import { reasonNotReceived, reasonUnknown } from './failure-reasons.js';
import { openGuardedAgents, type GuardedAgents, type Resolve } from './guarded-agents.js';
import { connectOnce, resolveName, type Reached } from './reach.js';

export type HttpCall = {
  readonly method: 'GET' | 'POST';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Bound for the whole exchange, from the lookup to the body's last byte. */
  readonly timeoutMs: number;
  /** What of the answer's body is read; the connection is dropped at the byte after it. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
  /**
   * Asked when the connection is ready and no byte of the request has left; false ends the exchange there. A connection
   * may take seconds to come about, and what was true before it may be over.
   */
  readonly mayLeave?: () => boolean;
};

export type HttpAnswer = {
  readonly kind: 'answer';
  readonly httpStatus: number;
  readonly headers: IncomingHttpHeaders;
  /** As it came, never decompressed, at most `maxBytes`. */
  readonly body: Buffer;
  /** There was more than `maxBytes`. */
  readonly truncated: boolean;
  /** The connection broke, or time was up, before the body's end. */
  readonly bodyBroken: boolean;
};

export type HttpFailure = {
  readonly kind: 'failed';
  /** `notReceived`: provably no byte of the request was received. `unknown`: anything may have happened. */
  readonly phase: 'notReceived' | 'unknown';
  /** Safe to show and store: no credential, no userinfo, no query, nothing the backend wrote. */
  readonly reason: string;
};

/** The one way out to Orchestrators. No method rejects for what happens on the wire. */
export type Http = {
  request(call: HttpCall): Promise<HttpAnswer | HttpFailure>;
  /** Resolves the name of a URL and checks what it got, without connecting. */
  resolve(url: URL, timeoutMs: number, signal: AbortSignal): Promise<Reached>;
  /** Connects (and shakes hands, with https) and hangs up. */
  connect(url: URL, timeoutMs: number, signal: AbortSignal): Promise<Reached>;
  close(): void;
};

/** How much of an answer is read: that of a spawn or kill, and that of a status, which carries a result. */
export const maxAnswerBytes = 64 * 1024;
export const maxStatusBytes = 2 * 1024 * 1024;

const connectTimeoutMs = 3000;
const headersTimeoutMs = 10_000;
/** Node runs a timer of more than this at once. */
const longestTimerMs = 2 ** 31 - 1;
/** How long after its own clocks got is given to end an exchange. */
const backstopMs = 500;

/**
 * Opens the client for every call to a backend. One owner of retries is elsewhere, so here nothing is ever sent twice:
 * neither got (limit 0) nor Node's agent repeats a request whose reused socket turned out dead; that is `unknown`.
 */
export function openHttp(options: { guard: AddressGuard; resolve?: Resolve }): Http {
  const agents = openGuardedAgents(options.guard, options.resolve);
  const client = got.extend({
    agent: { http: agents.http, https: agents.https },
    retry: { limit: 0 },
    followRedirect: false,
    throwHttpErrors: false,
    decompress: false,
    maxHeaderSize: 16 * 1024,
    headers: { 'user-agent': 'mosaic-dispatch' },
  });
  return {
    request: (call) => exchange(call, agents, (url, timeoutMs) => startStream(client, url, call, timeoutMs)),
    resolve: (url, timeoutMs, signal) => resolveName(agents, url, timeoutMs, signal),
    connect: (url, timeoutMs, signal) => connectOnce(agents, url, timeoutMs, signal),
    close: () => agents.close(),
  };
}

function startStream(client: typeof got, url: URL, call: HttpCall, timeoutMs: number): Request {
  return client.stream(url, {
    method: call.method,
    headers: { ...call.headers },
    ...(call.body === undefined ? {} : { body: call.body }),
    timeout: {
      lookup: connectTimeoutMs,
      connect: connectTimeoutMs,
      secureConnect: connectTimeoutMs,
      response: Math.min(headersTimeoutMs, timeoutMs),
      request: timeoutMs,
    },
  });
}

function exchange(
  call: HttpCall,
  agents: GuardedAgents,
  start: (url: URL, timeoutMs: number) => Request,
): Promise<HttpAnswer | HttpFailure> {
  const timeoutMs = Math.min(call.timeoutMs, longestTimerMs - backstopMs);
  const url = withoutUserinfo(call.url);
  if (url === null) return Promise.resolve(notReceived('the backend', { code: 'ERR_INVALID_URL' }));
  if (call.signal.aborted) return Promise.resolve(notReceived(url.host, aborted));
  return new Promise((resolve) => {
    let outgoing: ClientRequest | null = null;
    let socket: Socket | null = null;
    const failed = (error: unknown): HttpFailure => {
      const used = socket ?? outgoing?.socket ?? null;
      // The socket's own record decides, not the error's name: a reused socket that is reset was established.
      if (used === null || !agents.isEstablished(used)) return notReceived(url.host, error);
      return { kind: 'failed', phase: 'unknown', reason: reasonUnknown(url.host, error, timeoutMs) };
    };
    try {
      const stream = start(url, timeoutMs);
      const answer = collect(stream, call.maxBytes, timeoutMs + backstopMs, (found, error) => {
        call.signal.removeEventListener('abort', onAbort);
        resolve(found ?? failed(error));
      });
      // Not by got's own option: it keeps its listener, and one signal lives as long as the process.
      const onAbort = () => {
        answer.finish({ bodyBroken: true }, aborted);
        stream.destroy();
      };
      setMaxListeners(0, call.signal);
      call.signal.addEventListener('abort', onAbort);
      stream.once('request', (request: ClientRequest) => {
        outgoing = request;
        request.once('socket', (given) => {
          socket = given;
          atLastMoment(agents, given, () => {
            if (call.mayLeave?.() !== false) return;
            resolve(notReceived(url.host, aborted));
            answer.finish({ bodyBroken: true }, aborted);
            given.destroy();
            stream.destroy();
          });
        });
        // Node's own event: got announces an answer a moment later, and an error may come between.
        request.once('response', (head) => answer.onHead(head));
        request.once('upgrade', (head: IncomingMessage, given: Socket) => {
          given.destroy();
          answer.onHead(head);
          answer.finish({ bodyBroken: true });
        });
      });
    } catch (error) {
      resolve(notReceived(url.host, error));
    }
  });
}

const aborted = { code: 'ABORT_ERR' };

/** Runs `look` before the request's first byte: Node flushes it after this event, or in a later listener of `ready`. */
function atLastMoment(agents: GuardedAgents, socket: Socket, look: () => void): void {
  if (agents.isEstablished(socket)) look();
  else socket.prependOnceListener('encrypted' in socket ? 'secureConnect' : 'connect', look);
}

type Collected = {
  onHead(head: IncomingMessage): void;
  finish(end: { truncated?: true; bodyBroken?: true }, error?: unknown): void;
};

/** Reads the answer up to the bound. Once there is a status line it decides; what follows may be cut or endless. */
function collect(
  stream: Request,
  maxBytes: number,
  backstopAfterMs: number,
  done: (answer: HttpAnswer | null, error: unknown) => void,
): Collected {
  let head: { httpStatus: number; headers: IncomingHttpHeaders } | null = null;
  let size = 0;
  let settled = false;
  const chunks: Buffer[] = [];
  const finish: Collected['finish'] = (end, error = null) => {
    if (settled) return;
    settled = true;
    clearTimeout(backstop);
    if (head === null) return done(null, error);
    const body = Buffer.concat(chunks, Math.min(size, maxBytes));
    done({ kind: 'answer', ...head, body, truncated: false, bodyBroken: false, ...end }, null);
  };
  // got's clocks end every exchange known to us; whatever they miss must not hold a slot for ever.
  const backstop = setTimeout(() => {
    finish({ bodyBroken: true }, { code: 'ETIMEDOUT', event: 'request' });
    stream.destroy();
  }, backstopAfterMs);

  stream.on('data', (chunk: Buffer) => {
    if (settled) return;
    chunks.push(chunk);
    size += chunk.length;
    if (size <= maxBytes) return;
    finish({ truncated: true });
    stream.destroy();
  });
  stream.once('end', () => finish({}));
  // Not once: a destroyed stream may report more than one error, and an unheard one ends the process.
  stream.on('error', (error) => finish({ bodyBroken: true }, error));
  stream.once('close', () => finish({ bodyBroken: true }, { code: 'ECONNRESET' }));
  return {
    onHead: ({ statusCode, headers }) => (head = { httpStatus: statusCode ?? 0, headers }),
    finish,
  };
}

function notReceived(host: string, error: unknown): HttpFailure {
  return { kind: 'failed', phase: 'notReceived', reason: reasonNotReceived(host, error) };
}

/** Userinfo would become a second credential beside the configured one. */
function withoutUserinfo(text: string): URL | null {
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  url.username = '';
  url.password = '';
  return url;
}
