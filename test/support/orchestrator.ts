import { setMaxListeners } from 'node:events';
import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  arrived,
  learn,
  note,
  scriptOf,
  type AgentScript,
  type StubSession,
  type StubSpawn,
} from './orchestrator-agents.js';
import {
  actsBeforeReading,
  headerOf,
  jsonObject,
  perform,
  presets,
  readBody,
  type Behaviour,
  type Preset,
} from './orchestrator-answers.js';
import {
  pause,
  postCallback,
  postUntilTaken,
  type Callback,
  type CallbackAnswer,
} from './orchestrator-callbacks.js';

export type { Behaviour, Callback, CallbackAnswer, Preset, StubSession, StubSpawn };

export type StubKill = { readonly at: number; readonly sessionId: string; readonly reason: string | null };

/** `true` serves the route, `false` answers 404 as if it did not exist, a number is the status to answer with. */
export type StubRoutes = { status: boolean | number; list: boolean | number; kill: boolean | number };

export type BehaviourRule = Preset | Behaviour | ((spawn: StubSpawn) => Behaviour | Promise<Behaviour>);

export type StubOptions = {
  /** `silent` (default) never calls back; `auto` sends running, progress 50 and completed; a function says what. */
  readonly agents?: AgentScript;
  /** Before each callback of an agent, ms (5). */
  readonly paceMs?: number;
  /** The same Idempotency-Key gets the same session and starts no second agent; false by default. */
  readonly honourKeys?: boolean;
  readonly behave?: BehaviourRule;
  readonly routes?: Partial<StubRoutes>;
  /** Answer 401 unless a request (health apart) carries this header with this value. */
  readonly requireHeader?: { readonly name: string; readonly value: string };
  /** Port to listen on; any free one by default. */
  readonly port?: number;
};

export type StubOrchestrator = {
  /** `http://127.0.0.1:<port>`: the url of a backend. */
  readonly url: string;
  readonly port: number;
  /** Every spawn request in the order of arrival, also those refused, reset or never answered. */
  readonly spawns: readonly StubSpawn[];
  /** Agents that were started, in order: more than one for one attempt is a duplicate effect. */
  readonly sessions: readonly StubSession[];
  readonly kills: readonly StubKill[];
  /** Requests other than spawns, as `GET /health`. */
  readonly requests: readonly string[];
  /** Answers to the callbacks that agents sent on their own. */
  readonly callbackAnswers: readonly CallbackAnswer[];
  /** TCP connections taken so far. */
  connections(): number;
  /** What happens to spawn requests from now on; a function is asked for each, after its body was read. */
  behave(rule: BehaviourRule): void;
  /** What `GET /health` answers from now on. */
  setHealth(behaviour: Behaviour): void;
  setRoutes(routes: Partial<StubRoutes>): void;
  /** Overrides the answer of kill requests: `{status: 200, body: {}}` tells without confirming. Null: as usual. */
  setKillAnswer(behaviour: Behaviour | null): void;
  /** Calls back in the name of a spawn's agent, once; rejects when no answer came. `headers` win over the usual. */
  send(spawn: StubSpawn, callback: Callback, headers?: Record<string, string>): Promise<CallbackAnswer>;
  /** Goes down: no listener, every connection reset. What it knows stays. */
  stop(): Promise<void>;
  /** Comes back on the same port. */
  start(): Promise<void>;
  close(): Promise<void>;
};

/**
 * Opens a real Orchestrator of the Gateway protocol on 127.0.0.1, which misbehaves on request.
 *
 *     const stub = await openStubOrchestrator({ agents: 'auto' });
 *     stub.behave('tooMany');                                               // every spawn from now on: 429
 *     stub.behave((spawn) => (spawn.nth === 1 ? { fault: 'reset' } : {}));  // the first is reset, others accepted
 *     stub.behave({ status: 503, headers: { 'retry-after': '7' } });
 *     await stub.stop(); await stub.start();                                // away, and back on the same port
 *     await stub.send(stub.spawns[0]!, { status: 'completed', result: 42 }); // a callback by hand
 *     await stub.close();
 *
 * An accepted spawn (2xx) starts an agent: a session that status, list and kill know. A spawn whose answer is lost
 * (`hang`, `reset`, `cutAnswer`… after its body was read) starts one too when `fault` comes with a 2xx `status`:
 * `{ status: 201, fault: 'reset' }` is "accepted, but nobody heard".
 */
export async function openStubOrchestrator(options: StubOptions = {}): Promise<StubOrchestrator> {
  const spawns: StubSpawn[] = [];
  const sessions: StubSession[] = [];
  const kills: StubKill[] = [];
  const requests: string[] = [];
  const callbackAnswers: CallbackAnswer[] = [];
  const routes: StubRoutes = { status: true, list: true, kill: true, ...options.routes };
  const sessionOfKey = new Map<string, StubSession>();
  const sender = new Agent({ keepAlive: true });
  const closed = new AbortController();
  setMaxListeners(0, closed.signal);
  let rule: BehaviourRule = options.behave ?? 'accept';
  let health: Behaviour = { status: 200, body: { status: 'healthy' } };
  let killAnswer: Behaviour | null = null;
  let connectionCount = 0;

  const beforeReading = (): Behaviour | null =>
    typeof rule === 'string' && actsBeforeReading(rule) ? presets[rule] : null;
  const behaviourFor = async (spawn: StubSpawn): Promise<Behaviour> =>
    typeof rule === 'string' ? presets[rule] : typeof rule === 'function' ? await rule(spawn) : rule;

  /** A 2xx starts an agent, heard or not; a fault that names no status is taken for "fell over before it did". */
  const startsAgent = (behaviour: Behaviour): boolean => {
    const status = behaviour.status ?? (behaviour.fault === undefined ? 201 : 0);
    return status >= 200 && status < 300;
  };

  const startAgent = (spawn: StubSpawn): StubSession => {
    const known =
      options.honourKeys && spawn.idempotencyKey !== null && sessionOfKey.get(spawn.idempotencyKey);
    if (known) return known;
    const { taskId, attempt } = spawn;
    const session: StubSession = {
      id: `session_${sessions.length + 1}`,
      taskId,
      attempt,
      status: 'spawning',
    };
    sessions.push(session);
    if (spawn.idempotencyKey !== null) sessionOfKey.set(spawn.idempotencyKey, session);
    const script = scriptOf(options.agents ?? 'silent', spawn, session);
    if (script.length > 0) void runAgent(spawn, session, script);
    return session;
  };

  const runAgent = async (
    spawn: StubSpawn,
    session: StubSession,
    script: readonly Callback[],
  ): Promise<void> => {
    for (const callback of script) {
      await pause(options.paceMs ?? 5, closed.signal);
      if (closed.signal.aborted || session.status === 'killed') return;
      note(session, callback);
      const answer = await postUntilTaken(() => post(spawn, callback), closed.signal);
      if (answer !== null) callbackAnswers.push(answer);
    }
  };

  const post = (spawn: StubSpawn, callback: Callback, headers?: Record<string, string>) => {
    if (spawn.callbackUrl === null) throw new Error(`spawn ${spawn.nth} named no callback_url`);
    return postCallback(sender, { url: spawn.callbackUrl, token: spawn.callbackToken }, callback, headers);
  };

  const takeSpawn = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const spawn = arrived(request, spawns.length + 1);
    spawns.push(spawn);
    const early = beforeReading();
    if (early !== null) return perform(early, response, null);
    const { text, complete } = await readBody(request);
    learn(spawn, text, complete);
    if (!complete) return;
    const behaviour = await behaviourFor(spawn);
    const session = startsAgent(behaviour) ? startAgent(spawn) : null;
    spawn.sessionId = session?.id ?? null;
    perform(behaviour, response, session === null ? {} : { sessionId: session.id, status: session.status });
  };

  const takeKill = async (id: string, request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { reason } = jsonObject((await readBody(request)).text);
    kills.push({ at: Date.now(), sessionId: id, reason: typeof reason === 'string' ? reason : null });
    if (killAnswer !== null) return perform(killAnswer, response, {});
    const session = sessions.find((one) => one.id === id);
    if (session === undefined) return perform({ status: 404 }, response, {});
    if (['completed', 'failed'].includes(session.status)) return perform({ status: 409 }, response, {});
    session.status = 'killed';
    perform({ status: 200 }, response, { status: 'killed' });
  };

  const takeOther = async (request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> => {
    const [, id, verb] = /^\/orchestrator\/sessions\/([^/]+)\/(status|kill)$/.exec(url.pathname) ?? [];
    const route =
      url.pathname === '/orchestrator/sessions' ? 'list' : (verb as 'status' | 'kill' | undefined);
    const served = route === undefined ? false : routes[route];
    if (served !== true) return perform({ status: served === false ? 404 : served }, response, {});
    if (route === 'kill') return takeKill(decodeURIComponent(id ?? ''), request, response);
    if (route === 'list') {
      const taskId = url.searchParams.get('taskId');
      const listed = sessions.filter((one) => taskId === null || one.taskId === taskId);
      return perform({ status: 200 }, response, { sessions: listed });
    }
    const session = sessions.find((one) => one.id === decodeURIComponent(id ?? ''));
    perform({ status: session === undefined ? 404 : 200 }, response, session ?? {});
  };

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = new URL(request.url ?? '/', 'http://stub');
    const isSpawn = request.method === 'POST' && url.pathname === '/orchestrator/sessions/spawn';
    if (!isSpawn) requests.push(`${request.method} ${request.url}`);
    if (url.pathname === '/health') return perform(health, response, {});
    const wanted = options.requireHeader;
    if (wanted !== undefined && headerOf(request.headers, wanted.name) !== wanted.value) {
      return perform({ status: 401 }, response, {});
    }
    return isSpawn ? takeSpawn(request, response) : takeOther(request, response, url);
  };

  const listen = async (port: number): Promise<Server> => {
    const opened = createServer((request, response) => {
      serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    opened.on('connection', () => (connectionCount += 1));
    await new Promise<void>((resolve, reject) => {
      opened.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    return opened;
  };
  const shut = async (): Promise<void> => {
    if (server === null) return;
    const closing = server;
    server = null;
    await new Promise<void>((resolve) => {
      closing.close(() => resolve());
      closing.closeAllConnections();
    });
  };

  let server: Server | null = await listen(options.port ?? 0);
  const { port } = server.address() as AddressInfo;

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    spawns,
    sessions,
    kills,
    requests,
    callbackAnswers,
    connections: () => connectionCount,
    behave: (next) => void (rule = next),
    setHealth: (next) => void (health = next),
    setRoutes: (next) => void Object.assign(routes, next),
    setKillAnswer: (next) => void (killAnswer = next),
    send: async (spawn, callback, headers) => {
      const session = sessions.find((one) => one.id === spawn.sessionId);
      if (session !== undefined) note(session, callback);
      return post(spawn, callback, headers);
    },
    stop: shut,
    start: async () => void (server ??= await listen(port)),
    close: async () => {
      closed.abort();
      await shut();
      sender.destroy();
    },
  };
}
