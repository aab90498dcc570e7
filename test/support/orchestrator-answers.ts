import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * What the stub does with one request. Without `fault` it answers `status` (201), `headers` and `body` (an object
 * is sent as JSON, a string or Buffer as it is) after `delayMs`.
 *
 * - `hang`: says nothing and keeps the connection open; `reset`: TCP reset; `close`: a clean end without a byte
 * - `headersThenSilence`: the head of a good answer, then nothing; `cutAnswer`: half of the body, then a reset
 * - `shortAnswer`: fewer bytes than Content-Length says, then a clean end; `endless`: a 201 whose body never ends
 * - `garbage`: bytes that are not HTTP; `raw`: the given bytes instead of an answer, then a clean end
 */
export type Behaviour = {
  readonly status?: number;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: unknown;
  readonly delayMs?: number;
  readonly fault?:
    | 'hang'
    | 'reset'
    | 'close'
    | 'headersThenSilence'
    | 'cutAnswer'
    | 'shortAnswer'
    | 'endless'
    | 'garbage'
    | { readonly raw: string | Buffer };
};

/** Names for what tests ask for most; the `BeforeReading` ones act when the request's head is there. */
export const presets = {
  accept: { status: 201 },
  hang: { fault: 'hang' },
  hangBeforeReading: { fault: 'hang' },
  reset: { fault: 'reset' },
  resetBeforeReading: { fault: 'reset' },
  close: { fault: 'close' },
  headersThenSilence: { fault: 'headersThenSilence' },
  cutAnswer: { fault: 'cutAnswer' },
  shortAnswer: { fault: 'shortAnswer' },
  endless: { fault: 'endless' },
  garbage: { fault: 'garbage' },
  rejected: { status: 422, body: { message: 'no such agent type' } },
  unauthorized: { status: 401 },
  notFound: { status: 404 },
  tooMany: { status: 429 },
  unavailable: { status: 503 },
  broken: { status: 500 },
  badGateway: { status: 502, headers: { 'content-type': 'text/html' }, body: '<h1>Bad gateway</h1>' },
} as const satisfies Record<string, Behaviour>;
export type Preset = keyof typeof presets;

export function actsBeforeReading(name: Preset): boolean {
  return name === 'hangBeforeReading' || name === 'resetBeforeReading';
}

/** The JSON object in a text; empty where there is none, so that a test can look at any body. */
export function jsonObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

export function headerOf(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return typeof value === 'string' ? value : null;
}

export async function readBody(request: IncomingMessage): Promise<{ text: string; complete: boolean }> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
    return { text: Buffer.concat(chunks).toString('utf8'), complete: request.complete };
  } catch {
    return { text: Buffer.concat(chunks).toString('utf8'), complete: false };
  }
}

/** Carries a behaviour out on one exchange; `fallback` is the body of an answer that names none. */
export function perform(behaviour: Behaviour, response: ServerResponse, fallback: unknown): void {
  const act = () => {
    const { socket } = response;
    if (socket === null || socket.destroyed) return;
    if (behaviour.fault === undefined) answer(response, behaviour, fallback);
    else misbehave(behaviour.fault, socket);
  };
  if (behaviour.delayMs === undefined) act();
  else setTimeout(act, behaviour.delayMs).unref();
}

function answer(response: ServerResponse, behaviour: Behaviour, fallback: unknown): void {
  const body = behaviour.body === undefined ? fallback : behaviour.body;
  const raw = typeof body === 'string' || Buffer.isBuffer(body);
  const payload = body === null ? '' : raw ? body : JSON.stringify(body);
  response.writeHead(behaviour.status ?? 201, {
    ...(raw ? {} : { 'content-type': 'application/json' }),
    'content-length': Buffer.byteLength(payload),
    ...behaviour.headers,
  });
  response.end(payload);
}

function misbehave(fault: NonNullable<Behaviour['fault']>, socket: Socket): void {
  const head = 'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n';
  if (typeof fault === 'object') return void socket.end(fault.raw);
  switch (fault) {
    case 'hang':
      return;
    case 'reset':
      return void socket.resetAndDestroy();
    case 'close':
      return void socket.end();
    case 'headersThenSilence':
      return void socket.write(`${head}Content-Length: 40\r\n\r\n`);
    case 'cutAnswer':
      return void socket.write(`${head}Content-Length: 40\r\n\r\n{"sessionId":"hal`, () => {
        // The half must have arrived before the reset, which may overtake what is still buffered.
        setTimeout(() => socket.resetAndDestroy(), 30).unref();
      });
    case 'shortAnswer':
      return void socket.end(`${head}Content-Length: 400\r\n\r\n{"sessionId":"short"}`);
    case 'endless':
      return pourForEver(socket, head);
    case 'garbage':
      return void socket.end('\u0000\u0001 not HTTP at all \r\n\r\n');
  }
}

function pourForEver(socket: Socket, head: string): void {
  const block = Buffer.alloc(16 * 1024, 'x');
  const pour = () => {
    while (!socket.destroyed && socket.write(block));
  };
  socket.on('drain', pour);
  socket.write(`${head}Connection: close\r\n\r\n`);
  pour();
}
