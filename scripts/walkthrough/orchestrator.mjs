/** A tiny Orchestrator of the Gateway protocol whose every answer can be scripted. Plain node:http. */
import { createServer } from 'node:http';
import { parse, send } from './http.mjs';

/**
 * @typedef {{ nth: number, headers: Record<string, any>, raw: string, body: any, task: any, session: string | null, at: number }} Spawn
 * @typedef {{ status?: number, headers?: Record<string, string>, body?: any, fault?: 'hang' | 'reset' | 'cut', delayMs?: number }} Answer
 *
 * `spawn` says what a spawn request is answered (201 with a session id by default); a 2xx, or `starts: true` beside a
 * fault, makes a session that status, list and kill know. `script` is what its agent then calls back with.
 *
 * @param {{ spawn?: (spawn: Spawn) => any, script?: (spawn: Spawn) => any[], port?: number }} [options]
 */
export async function openOrchestrator(options = {}) {
  const self = {
    url: '',
    port: 0,
    /** @type {Spawn[]} */ spawns: [],
    /** @type {any[]} */ sessions: [],
    /** @type {any[]} */ kills: [],
    /** @type {any[]} */ requests: [],
    spawn: options.spawn ?? (() => ({})),
    script: options.script ?? (() => []),
    health: () => ({ status: 200, body: { status: 'healthy' } }),
    routes: { status: true, list: true, kill: true },
    killAnswer: null,
    /** Calls back in the name of a spawn's agent. */
    call: (spawn, callback, headers = {}, raw = null) =>
      send(spawn.body.callback_url, {
        method: 'POST',
        headers: {
          Authorization: `Bearer ${spawn.body.callback_token}`,
          'Content-Type': 'application/json',
          ...headers,
        },
        body: raw ?? JSON.stringify(callback),
      }),
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
    start: () => listen(self.port),
  };

  const takeSpawn = async (request, raw, response) => {
    const body = parse(raw);
    const spawn = {
      nth: self.spawns.length + 1,
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      raw,
      body,
      task: body?.task,
      session: null,
      at: Date.now(),
    };
    self.spawns.push(spawn);
    const answer = (await self.spawn(spawn)) ?? {};
    const status = answer.status ?? 201;
    const accepts = answer.fault === undefined ? status >= 200 && status < 300 : answer.starts === true;
    if (accepts) startSession(spawn);
    perform(response, { status, body: accepts ? { sessionId: spawn.session } : {}, ...answer });
  };

  const startSession = (spawn) => {
    spawn.session = `session_${self.sessions.length + 1}`;
    self.sessions.push({
      id: spawn.session,
      taskId: spawn.task.id,
      attempt: spawn.task.attempt,
      status: 'spawning',
    });
    void runScript(spawn).catch(() => undefined);
  };

  const runScript = async (spawn) => {
    for (const step of self.script(spawn)) {
      await pause(step.afterMs ?? 30);
      const { afterMs: _, ...callback } = step;
      const session = self.sessions.find(({ id }) => id === spawn.session);
      if (session.status === 'killed') return;
      if (callback.status !== 'progress') session.status = callback.status;
      await self.call(spawn, callback);
    }
  };

  const takeOther = (request, raw, response) => {
    const url = new URL(request.url, 'http://orchestrator');
    if (url.pathname === '/health') return perform(response, self.health());
    const [, id, verb] = /^\/orchestrator\/sessions\/([^/]+)\/(status|kill)$/.exec(url.pathname) ?? [];
    const session = self.sessions.find((one) => one.id === id);
    if (url.pathname === '/orchestrator/sessions') {
      if (!self.routes.list) return perform(response, { status: 404 });
      const taskId = url.searchParams.get('taskId');
      return perform(response, {
        status: 200,
        body: { sessions: self.sessions.filter((one) => one.taskId === taskId) },
      });
    }
    if (verb === 'kill') {
      self.kills.push({ id, body: parse(raw), headers: request.headers });
      if (!self.routes.kill) return perform(response, { status: 404 });
      if (self.killAnswer !== null) return perform(response, self.killAnswer(session));
      if (session === undefined) return perform(response, { status: 404 });
      session.status = 'killed';
      return perform(response, { status: 200, body: { status: 'killed' } });
    }
    if (verb === 'status' && self.routes.status && session !== undefined) {
      return perform(response, { status: 200, body: session });
    }
    return perform(response, { status: 404, body: {} });
  };

  let server = createServer();
  const listen = async (port) => {
    server = createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk)).on('error', () => undefined);
      request.on('end', () => {
        const raw = Buffer.concat(chunks).toString('utf8');
        const isSpawn = request.method === 'POST' && request.url.endsWith('/orchestrator/sessions/spawn');
        if (!isSpawn)
          self.requests.push({ method: request.method, url: request.url, headers: request.headers, raw });
        if (isSpawn) void takeSpawn(request, raw, response);
        else takeOther(request, raw, response);
      });
    });
    await new Promise((resolve, reject) =>
      server.once('error', reject).listen(port, '127.0.0.1', () => resolve(null)),
    );
    self.port = /** @type {any} */ (server.address()).port;
    self.url = `http://127.0.0.1:${self.port}`;
  };
  await listen(options.port ?? 0);
  return self;
}

function perform(response, { status = 201, headers = {}, body = {}, fault, delayMs = 0 }) {
  if (fault === 'hang') return;
  if (fault === 'reset') return void response.socket.resetAndDestroy();
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = () => {
    response.writeHead(status, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(text) + (fault === 'cut' ? 10 : 0),
      ...headers,
    });
    if (fault === 'cut') response.write(text, () => response.socket.destroy());
    else response.end(text);
  };
  if (delayMs > 0) setTimeout(answer, delayMs);
  else answer();
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
