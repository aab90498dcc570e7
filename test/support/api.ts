import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { makeAuthenticator } from '../../src/api/auth.js';
import { boardPath, openBoard } from '../../src/api/board.js';
import { makeAdminDoor, makeLogin } from '../../src/api/pages-door.js';
import { healthRoutes } from '../../src/api/ready.js';
import { openHttpServer } from '../../src/api/server.js';
import { makeSessions } from '../../src/api/sessions.js';
import { openStreamHub } from '../../src/api/streams.js';
import { makeUrlObstacle } from '../../src/api/url-obstacle.js';
import { makeWeb, type WebDeps } from '../../src/api/web.js';
import { openListener } from '../../src/db/notify.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { makeAddressGuard } from '../../src/orchestrators/address-guard.js';
import { makeCallbackTokens, type CallbackTokens } from '../../src/orchestrators/callback-token.js';
import { makeGatewayClient } from '../../src/orchestrators/gateway.js';
import { openHttp } from '../../src/orchestrators/http.js';
import type { Logger } from '../../src/logger.js';
import { makeSealer } from '../../src/seal.js';
import { makeFleetView, secretPlace } from '../../src/workers/fleet.js';
import { makePing } from '../../src/workers/health.js';
import { makeMover } from '../../src/workers/mover.js';
import { openTestDatabase, openTestValkey } from './database.js';

export const adminKey = 'an-admin-key-for-tests';

export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers by name
  readonly json: any;
};

export type CallOptions = {
  readonly key?: string | null;
  readonly headers?: Record<string, string>;
  /** Sent as JSON; a string or bytes are sent as they are. */
  readonly body?: unknown;
};

export type TestApi = {
  readonly baseUrl: string;
  readonly port: number;
  readonly databaseUrl: string;
  readonly db: Db;
  readonly tokens: CallbackTokens;
  readonly rung: { queue: string; ids: readonly string[] }[];
  readonly logged: { event: string; fields: unknown }[];
  readonly valkey: { url: string; prefix: string };
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  /** Sends bytes over a socket of its own and gives back what came until the server closed it. */
  raw(text: string | Buffer, options?: { readonly endAfterMs?: number }): Promise<string>;
  key(scopes: readonly string[], workspaceId?: string): Promise<{ id: string; secret: string }>;
  drain(): void;
  close(): Promise<void>;
};

/** The whole API over real HTTP, Postgres and Valkey, without a worker behind it. */
export async function openTestApi(
  overrides: Partial<WebDeps> & { loopback?: boolean } = {},
  databaseUrl?: string,
): Promise<TestApi> {
  const { loopback = true, ...given } = overrides;
  // Another process on the same database, when one is given.
  const database =
    databaseUrl === undefined
      ? await openTestDatabase()
      : { url: databaseUrl, close: () => Promise.resolve() };
  const valkey = openTestValkey();
  const rung: TestApi['rung'] = [];
  const logged: TestApi['logged'] = [];
  const note = (event: string, fields: unknown = {}): void => void logged.push({ event, fields });
  const logger: Logger = { debug: () => undefined, info: () => undefined, warn: note, error: note };
  const db = openDb({ url: database.url, name: 'test api', max: 8 });
  const callbackDb = openDb({ url: database.url, name: 'test callbacks', max: 6 });
  const keys = [{ id: 'k1', key: randomBytes(32) }].map((key) => ({
    ...key,
    id: randomBytes(4).toString('hex'),
  }));
  const guard = makeAddressGuard({ allow: [], deny: [], loopbackAllowed: loopback, privateDenied: true });
  const http = openHttp({ guard });
  const clients = { gateway: makeGatewayClient({ http, now: () => new Date() }) };
  const sealer = makeSealer(keys);
  const tokens = makeCallbackTokens(keys);
  const auth = makeAuthenticator({ db, adminApiKey: adminKey });
  const hub = openStreamHub({ db, callerOfKey: (id) => auth.callerOfKey(id), logger });
  const notices = await openListener({
    url: database.url,
    channels: ['tasks'],
    onNotice: (_channel, ids) => hub.notice(ids),
    onReconnect: () => hub.lookAtAll(),
    logger,
  });
  const fleet = makeFleetView({ db, sealer, maxAgeMs: 0 });
  const door = {
    auth,
    sessions: makeSessions({
      keys: keys.map(({ key }) => key),
      adminApiKey: adminKey,
      now: () => Date.now(),
    }),
  };
  const board = openBoard({
    url: valkey.url,
    prefix: valkey.prefix,
    writable: false,
    door: makeAdminDoor(door),
    logger,
  });
  let draining = false;
  const isDraining = (): boolean => draining;
  const policy = { rise: 2, fall: 3, timeoutMs: 1000 };
  const listener = makeWeb({
    db,
    callbackDb,
    logger,
    auth,
    hub,
    defaults: {
      timeouts: { dispatchMs: 20_000, startMs: 900_000, heartbeatMs: 0, runMs: 86_400_000 },
      retry: {
        maxAttempts: 3,
        maxSends: 8,
        backoffBaseMs: 1000,
        backoffMaxMs: 300_000,
        onUnknownOutcome: 'fail',
      },
    },
    clients,
    verifyToken: (token, taskId, attempt) => tokens.verify(token, taskId, attempt),
    urlObstacle: makeUrlObstacle(guard),
    seal: (secret, id) => sealer.seal(secret, secretPlace(id)),
    targetOf: (id) => fleet.target(id),
    ping: makePing({ db, fleet, clients, policy, logger }),
    move: (
      (mover) => (request) =>
        mover.move(request)
    )(makeMover({ db, limits: { silenceMs: 60_000, giveUpAfterMs: 3_600_000 }, logger })),
    ring: (queue, ids) => {
      rung.push({ queue, ids });
      return Promise.resolve(true);
    },
    testTimeoutMs: 3000,
    healthRoutes: healthRoutes({
      db: () => db,
      isDraining,
      valkey: async () => ({ evictionPolicy: await board.evictionPolicy() }),
    }),
    mounts: [
      { path: '/admin/login', handler: makeLogin(door) },
      { path: boardPath, handler: board.handler },
    ],
    isDraining,
    trustProxy: false,
    ...given,
  });
  const server = await openHttpServer(listener, { host: '127.0.0.1', port: 0 });
  const baseUrl = `http://127.0.0.1:${server.port}`;

  const call: TestApi['call'] = async (method, path, { key = adminKey, headers = {}, body } = {}) => {
    const isPlain = typeof body === 'string' || body instanceof Uint8Array;
    const answer = await fetch(baseUrl + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: isPlain ? (body as string) : JSON.stringify(body) }),
    });
    const text = await answer.text();
    const isJson = text !== '' && /json/.test(answer.headers.get('content-type') ?? '');
    return { status: answer.status, headers: answer.headers, text, json: isJson ? JSON.parse(text) : null };
  };

  return {
    baseUrl,
    port: server.port,
    databaseUrl: database.url,
    db,
    tokens,
    rung,
    logged,
    valkey,
    call,
    raw: (bytes, { endAfterMs } = {}) => exchangeRaw(server.port, bytes, endAfterMs),
    async key(scopes, workspaceId) {
      const made = await call('POST', '/v1/api-keys', { body: { name: 'a test', scopes, workspaceId } });
      return { id: made.json.id, secret: made.json.secret };
    },
    drain() {
      draining = true;
      hub.drain();
    },
    async close() {
      hub.close();
      await server.close(500);
      await notices.close();
      await board.close();
      http.close();
      await callbackDb.close();
      await db.close();
      await database.close();
    },
  };
}

function exchangeRaw(port: number, bytes: string | Buffer, endAfterMs?: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    const timer = endAfterMs === undefined ? undefined : setTimeout(() => socket.end(), endAfterMs);
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', (error) => (chunks.length > 0 ? undefined : reject(error)));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks).toString());
    });
  });
}
