import { randomBytes } from 'node:crypto';
import type { RequestListener } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { openListener } from '../db/notify.js';
import { openDb, type Db } from '../db/pool.js';
import { openLease } from '../db/processes.js';
import { makeId } from '../domain/ids.js';
import { makeAddressGuard } from '../orchestrators/address-guard.js';
import { makeCallbackTokens } from '../orchestrators/callback-token.js';
import { openClients } from '../orchestrators/clients.js';
import { runProcess } from '../process.js';
import { openRing } from '../queues/ring.js';
import { makeFleetView, secretPlace } from '../workers/fleet.js';
import { openGround } from '../workers/ground.js';
import { makePing } from '../workers/health.js';
import { makeMover } from '../workers/mover.js';
import { makeAuthenticator } from './auth.js';
import { boardPath, openBoard } from './board.js';
import { makeAdminDoor, makeLogin } from './pages-door.js';
import { refusal } from './problems.js';
import { healthRoutes } from './ready.js';
import { openHttpServer } from './server.js';
import { makeSessions } from './sessions.js';
import { openStreamHub, type StreamHub } from './streams.js';
import { makeUrlObstacle } from './url-obstacle.js';
import { makeStartingWeb, makeWeb } from './web.js';

/** Load balancers need a moment to see that we are not ready; until then we answer as ever. */
const unreadyMs = 3000;
const testTimeoutMs = 10_000;

runProcess('web', async (proc) => {
  const { config, logger } = proc;
  let listener: RequestListener;
  let database: Db | null = null;
  let hub: StreamHub | null = null;
  let valkey: () => Promise<Record<string, unknown>> = () => Promise.resolve({});
  const isDraining = (): boolean => proc.signal.aborted;
  const { trustProxy } = config;
  const health = healthRoutes({ db: () => database, isDraining, valkey: () => valkey() });
  const refuse = (): never => {
    throw refusal('database_unavailable', 'the process is starting');
  };
  listener = makeStartingWeb({ healthRoutes: health, isDraining, trustProxy, logger, refuse });

  // It listens before anything else is there: the platform must see that the process lives while it waits.
  const server = await openHttpServer((req, res) => listener(req, res), config);
  logger.info('web.listening', { host: config.host, port: server.port });
  proc.onDrain(async () => {
    const startedAt = performance.now();
    await sleep(Math.min(unreadyMs, config.shutdownTimeoutMs / 8));
    hub?.drain();
    await server.close(config.shutdownTimeoutMs * 0.8 - (performance.now() - startedAt));
  });

  const ground = await openGround(proc, 'web', { max: 8 });
  const { db, databaseUrl: url, limits } = ground;
  const callbackDb = openDb({ url, name: 'callbacks', max: 6 });
  proc.onClose('callback database', () => callbackDb.close());
  const { clients, close: closeClients } = openClients(config);
  proc.onClose('clients', closeClients);
  const ring = openRing({ url: ground.valkeyUrl, prefix: config.queuePrefix, logger });
  proc.onClose('ring', () => ring.close());
  const lease = await openLease({
    url,
    name: 'web',
    id: makeId('proc', Date.now(), randomBytes(10)),
    logger,
  });
  proc.onClose('lease', () => lease.close());

  const auth = makeAuthenticator({ db, adminApiKey: config.adminApiKey });
  const streams = openStreamHub({ db, callerOfKey: (keyId) => auth.callerOfKey(keyId), logger });
  hub = streams;
  proc.onClose('streams', () => streams.close());
  const notices = await openListener({
    url,
    logger,
    channels: ['tasks'],
    onNotice: (_channel, ids) => streams.notice(ids),
    onReconnect: () => streams.lookAtAll(),
  });
  proc.onClose('listener', () => notices.close());

  const keys = ground.keys.map(({ key }) => key);
  const sessions = makeSessions({ keys, adminApiKey: config.adminApiKey, now: () => Date.now() });
  const door = { auth, sessions };
  const board = openBoard({
    url: ground.valkeyUrl,
    prefix: config.queuePrefix,
    writable: config.bullBoardWritable,
    logger,
    door: makeAdminDoor(door),
  });
  proc.onClose('board', () => board.close());
  valkey = async () => {
    const isAway = ring.awayMs() > 0;
    const evictionPolicy = isAway ? null : await board.evictionPolicy();
    return { status: isAway ? 'down' : 'up', evictionPolicy };
  };

  const fleet = makeFleetView({ db, sealer: ground.sealer, maxAgeMs: 1000 });
  const guard = makeAddressGuard({
    allow: config.allowCidrs,
    deny: config.denyCidrs,
    loopbackAllowed: false,
    privateDenied: true,
  });
  const tokens = makeCallbackTokens(ground.keys);
  const mover = makeMover({ db, limits, logger });
  listener = makeWeb({
    db,
    callbackDb,
    logger,
    auth,
    hub: streams,
    isDraining,
    trustProxy,
    testTimeoutMs,
    healthRoutes: health,
    defaults: { timeouts: config.timeouts, retry: config.retry },
    clients,
    verifyToken: (token, taskId, attempt) => tokens.verify(token, taskId, attempt),
    urlObstacle: makeUrlObstacle(guard),
    seal: (secret, backendId) => ground.sealer.seal(secret, secretPlace(backendId)),
    targetOf: (backendId) => fleet.target(backendId),
    ping: makePing({ db, fleet, clients, policy: config.health, logger }),
    move: (request) => mover.move(request),
    ring: (queue, ids) => ring.ring(queue, ids),
    mounts: [
      { path: '/admin/login', handler: makeLogin(door) },
      { path: boardPath, handler: board.handler },
    ],
  });
  database = db;
});
