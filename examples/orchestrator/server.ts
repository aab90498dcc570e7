import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { readSpawn, type SpawnBody } from './spawn-body.js';
import { hasEnded, type Session, type SessionTable } from './sessions.js';
import type { Supervisor } from './supervisor.js';

export type ServerOptions = {
  readonly secret: string;
  readonly sessions: SessionTable;
  readonly supervisor: Supervisor;
  readonly maxAgents: number;
  /** A task whose `metadata.misbehave` is "busy-once" gets 503 for its first spawn: for demonstrations. */
  readonly misbehave: boolean;
};

type Answer = { readonly status: number; readonly body: unknown; readonly headers?: Record<string, string> };

const maxBodyBytes = 2 * 1024 * 1024;
const idPath = /^\/orchestrator\/sessions\/([A-Za-z0-9_-]{1,128})\/(status|kill)$/;

/** The Gateway protocol's five routes. */
export function makeServer(options: ServerOptions): Server {
  const busyOnce = new Set<string>();
  return createServer((request, response) => {
    answer(options, busyOnce, request)
      .catch((error: unknown) => problem(500, error instanceof Error ? error.message : 'unknown fault'))
      .then(({ status, body, headers = {} }) => {
        const text = JSON.stringify(body);
        // A body that was not read to its end would be taken for the next request on this connection.
        const close = request.complete ? {} : { connection: 'close' };
        response.writeHead(status, { 'content-type': 'application/json', ...close, ...headers }).end(text);
      })
      .catch(() => response.destroy());
  });
}

async function answer(
  options: ServerOptions,
  busyOnce: Set<string>,
  request: IncomingMessage,
): Promise<Answer> {
  const { sessions, supervisor, maxAgents } = options;
  const url = new URL(request.url ?? '/', 'http://localhost');
  if (url.pathname === '/health' && request.method === 'GET') {
    const agents = { atWork: supervisor.atWork(), max: maxAgents };
    return { status: 200, body: { status: 'healthy', uptime: Math.round(process.uptime()), agents } };
  }
  if (!isAllowed(request, options.secret)) {
    return { ...problem(401, 'missing or wrong secret'), headers: { 'www-authenticate': 'Bearer' } };
  }
  const [, id = '', verb] = idPath.exec(url.pathname) ?? [];
  const route = `${request.method} ${verb ?? url.pathname}`;
  if (route === 'POST /orchestrator/sessions/spawn') return spawn(options, busyOnce, request);
  if (route === 'GET /orchestrator/sessions') {
    const found = sessions.list(url.searchParams.get('taskId')).slice(0, 200);
    return { status: 200, body: { sessions: found.map(view) } };
  }
  if (route === 'GET status') {
    const session = sessions.find(id);
    return session === null ? unknownSession : { status: 200, body: fullView(session) };
  }
  if (route === 'POST kill') return kill(options, id);
  return problem(verb === undefined ? 404 : 405, 'no such route');
}

async function spawn(
  options: ServerOptions,
  busyOnce: Set<string>,
  request: IncomingMessage,
): Promise<Answer> {
  const key = request.headers['idempotency-key'];
  if (typeof key !== 'string' || key === '') return problem(400, 'Idempotency-Key is missing');
  const bytes = await readBody(request);
  if (bytes === null) return problem(413, `a body may have ${maxBodyBytes} bytes`);
  const bodyHash = createHash('sha256').update(bytes).digest('hex');

  // Looked up before all other checks: a repeated request must get the answer of the first, whatever changed since.
  const known = options.sessions.findByKey(key);
  if (known !== null && known.bodyHash !== bodyHash)
    return problem(422, 'Idempotency-Key was used with another body');
  if (known !== null) return { status: 200, body: { sessionId: known.id, status: known.status } };

  let parsed: unknown;
  try {
    parsed = JSON.parse(bytes.toString('utf8'));
  } catch {
    return problem(400, 'the body is not JSON');
  }
  const body = readSpawn(parsed);
  if (!body.ok) return { status: 422, body: { error: 'the request has faults', faults: body.faults } };
  if (options.misbehave && isBusyFor(body.value, busyOnce)) return later(503, 'busy once, on request');

  const traceparent = request.headers['traceparent'];
  const made = options.supervisor.spawn({
    ...body.value,
    idempotencyKey: key,
    bodyHash,
    traceparent: typeof traceparent === 'string' ? traceparent : null,
  });
  if (made === 'full') return later(429, `${options.maxAgents} agents are at work`);
  return { status: 201, body: { sessionId: made.id, status: made.status } };
}

function isBusyFor({ taskId, misbehave }: SpawnBody, busyOnce: Set<string>): boolean {
  if (misbehave !== 'busy-once' || busyOnce.has(taskId)) return false;
  busyOnce.add(taskId);
  return true;
}

async function kill({ supervisor }: ServerOptions, id: string): Promise<Answer> {
  const session = await supervisor.kill(id);
  if (session === null) return unknownSession;
  // Asked twice, a kill is confirmed twice; an agent that ended by itself keeps its own end.
  return { status: session.status === 'killed' ? 200 : 409, body: fullView(session) };
}

const view = ({ id, taskId, attempt, status }: Session) => ({ id, taskId, attempt, status });

function fullView(session: Session): Record<string, unknown> {
  const { progress, result, error, startedAt, endedAt } = session;
  const end = hasEnded(session) ? { result, error, endedAt } : {};
  return { ...view(session), sessionId: session.id, progress, startedAt, ...end };
}

const unknownSession = problem(404, 'no such session');

function problem(status: number, error: string): Answer {
  return { status, body: { error } };
}

function later(status: 429 | 503, error: string): Answer {
  return { ...problem(status, error), headers: { 'retry-after': '1' } };
}

/** Both are hashed first: equal lengths are what the constant-time comparison needs, and the length stays secret. */
function isAllowed(request: IncomingMessage, secret: string): boolean {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const given = bearer ?? request.headers['x-api-key'];
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return typeof given === 'string' && timingSafeEqual(digest(given), digest(secret));
}

/** Null when it is too large. */
async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
