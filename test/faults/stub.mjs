/**
 * An honest Orchestrator in a process of its own. It counts every spawn request that arrived whole, with its key and
 * a hash of its bytes, and hides nothing by deduplicating: each one that is accepted starts an agent, also the second
 * one with the same key. It is told what to do over the fork's channel, and ends with it. Plain JavaScript, since it
 * is run by Node itself.
 *
 * What an agent does is the task's own wish, `context.plan`: `complete`, `fail`, or `retryOnce` (its first attempt fails
 * retryably); an agent of `retryHere` fails retryably only on the stub that has `fails` set.
 */
import { createHash } from 'node:crypto';
import { Agent, createServer, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const settings = {
  /** A spawn is answered after this long. */
  answerMs: 400,
  /** Between two callbacks of an agent. */
  stepMs: 20,
  /** Whether list and status exist; 404 otherwise. */
  asks: true,
  /** Whether a spawn whose connection was cut before its answer starts an agent all the same. */
  cutStartsAgent: true,
  fails: false,
};
const name = process.argv[2] ?? 'stub';
const spawns = [];
const sessions = new Map();
const callbacks = [];
const kills = [];
const inFlight = new Set();
const toCaller = new Agent({ keepAlive: true, maxSockets: 48 });
let ended = 0;
let pings = [];
let isClosing = false;
/** A kill that waits for so many sends in flight; no spawn is answered until it was done. */
let armed = null;
const released = [];

process.on('disconnect', () => process.exit(0));

async function readBody(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function answer(response, status, body) {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}

async function takeSpawn(incoming, response) {
  const headAt = Date.now();
  const bytes = await readBody(incoming).catch(() => null);
  if (bytes === null || !incoming.complete) return;
  const { task, context, callback_url: url, callback_token: token } = JSON.parse(bytes.toString('utf8'));
  const spawn = {
    taskId: task.id,
    attempt: task.attempt,
    key: incoming.headers['idempotency-key'],
    hash: createHash('sha256').update(bytes).digest('base64url'),
    headAt,
    at: Date.now(),
    answeredAt: null,
    cutAt: null,
    sessionId: null,
  };
  spawns.push(spawn);
  inFlight.add(spawn);
  response.once('close', () => {
    inFlight.delete(spawn);
    if (!response.writableFinished) spawn.cutAt = Date.now();
  });
  fire();
  const startAgent = () => {
    const session = {
      id: `${name}_${sessions.size + 1}`,
      taskId: task.id,
      attempt: task.attempt,
      status: 'spawning',
    };
    sessions.set(session.id, session);
    spawn.sessionId = session.id;
    void runAgent(session, context.plan, { url, token });
    return session;
  };
  await sleep(settings.answerMs);
  if (armed !== null) await new Promise((resolve) => released.push(resolve));
  const isCut = response.destroyed || response.socket?.destroyed !== false;
  if (isCut && !settings.cutStartsAgent) return;
  const session = startAgent();
  if (isCut) return;
  spawn.answeredAt = Date.now();
  answer(response, 201, { sessionId: session.id });
}

/** Kills in the very turn in which the count is reached: so many sends are in flight at that instant. */
function fire() {
  if (armed === null || inFlight.size < armed.sends) return;
  const { pid, signal, reply } = armed;
  process.kill(pid, signal);
  const at = Date.now();
  armed = null;
  // Not at once: an answer must not go out on a connection whose end has not been noticed yet.
  const held = released.splice(0);
  setTimeout(() => held.forEach((release) => release()), settings.answerMs);
  reply({ inFlight: inFlight.size, at });
}

function endOf(plan, attempt) {
  const failed = (retryable) => ({
    status: 'failed',
    error: { code: 'BOOM', message: 'as planned', retryable },
  });
  if (plan === 'fail') return failed(false);
  if (plan === 'retryOnce' && attempt === 1) return failed(true);
  if (plan === 'retryHere' && settings.fails) return failed(true);
  return { status: 'completed', result: { ok: true } };
}

async function runAgent(session, plan, to) {
  const script = [
    { status: 'running' },
    { status: 'progress', sequence: 1, progress: { percent: 50 } },
    endOf(plan, session.attempt),
  ];
  for (const [index, callback] of script.entries()) {
    await sleep(settings.stepMs);
    if (session.status === 'killed') return;
    const { status, ...told } = callback;
    Object.assign(session, told, { status: status === 'progress' ? 'running' : status });
    await tell(to, { ...callback, id: `${session.id}-${index + 1}`, sessionId: session.id });
  }
  ended += 1;
}

/** Until somebody takes it, as a careful Orchestrator does. */
async function tell(to, callback) {
  const body = JSON.stringify(callback);
  for (let waitMs = 50; !isClosing; waitMs = Math.min(waitMs * 2, 1000)) {
    const timing = { startedAt: performance.now() };
    const status = await post(to, body, timing).catch(() => 0);
    callbacks.push({ status, ms: performance.now() - timing.startedAt, at: Date.now() });
    if (status !== 0 && status < 500 && status !== 429) return;
    await sleep(waitMs);
  }
}

function post({ url, token }, body, timing) {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    const sent = request(url, { method: 'POST', agent: toCaller, headers }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode));
      response.once('error', reject);
    });
    // Waiting for one of our own connections is not the other side's slowness.
    sent.once('socket', () => (timing.startedAt = performance.now()));
    sent.once('error', reject);
    sent.end(body);
  });
}

async function serve(incoming, response) {
  const url = new URL(incoming.url, 'http://stub');
  if (url.pathname === '/health') {
    pings.push(Date.now());
    return answer(response, 200, { status: 'healthy' });
  }
  if (url.pathname === '/orchestrator/sessions/spawn') return takeSpawn(incoming, response);
  await readBody(incoming);
  const [, id, verb] = /^\/orchestrator\/sessions\/([^/]+)\/(status|kill)$/.exec(url.pathname) ?? [];
  if (verb === 'kill') {
    kills.push({ sessionId: id, at: Date.now() });
    const session = sessions.get(id);
    if (session === undefined) return answer(response, 404, {});
    if (['completed', 'failed'].includes(session.status)) return answer(response, 409, {});
    session.status = 'killed';
    return answer(response, 200, { status: 'killed' });
  }
  if (!settings.asks) return answer(response, 404, {});
  if (verb === 'status') return answer(response, sessions.has(id) ? 200 : 404, sessions.get(id) ?? {});
  const taskId = url.searchParams.get('taskId');
  return answer(response, 200, { sessions: [...sessions.values()].filter((one) => one.taskId === taskId) });
}

let server = null;
let port = 0;

async function listen() {
  server = createServer(
    (incoming, response) => void serve(incoming, response).catch(() => response.destroy()),
  );
  server.keepAliveTimeout = 60_000;
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  port = server.address().port;
}

/** Goes down: no listener, every connection reset. What it knows stays. */
async function shut() {
  const closing = server;
  await new Promise((resolve) => {
    closing.close(resolve);
    closing.closeAllConnections();
  });
}

const commands = {
  set: (given) => Object.assign(settings, given),
  report: () => ({ spawns, callbacks, kills, ended, pings, sessions: [...sessions.values()] }),
  count: () => ({ spawns: spawns.length, inFlight: inFlight.size, ended, pings: pings.length }),
  forget: () => {
    for (const list of [spawns, callbacks, kills]) list.length = 0;
    pings = [];
    ended = 0;
  },
  down: shut,
  up: listen,
  killAt: ({ pid, signal, sends }) =>
    new Promise((reply) => {
      armed = { pid, signal, sends, reply };
      fire();
    }),
};

const carryOut = async ({ id, command, given }) =>
  process.send({ id, value: (await commands[command](given)) ?? null });
process.on('message', (message) => void carryOut(message));
await listen();
process.send({ id: 0, value: { port } });
process.once('beforeExit', () => (isClosing = true));
