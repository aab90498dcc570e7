import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { saveLessons, type TaughtLesson } from '../db/backend-health.js';
import { findUnrung } from '../db/due.js';
import { makeGather } from '../db/gather.js';
import { openListener } from '../db/notify.js';
import { openLease } from '../db/processes.js';
import { makeId } from '../domain/ids.js';
import { makeCallbackTokens } from '../orchestrators/callback-token.js';
import { openClients } from '../orchestrators/clients.js';
import { runProcess } from '../process.js';
import type { RingData } from '../queues/catalogue.js';
import { openRingWorker } from '../queues/ring-worker.js';
import { openRing } from '../queues/ring.js';
import { makeDispatch } from './dispatch.js';
import { startFallback } from './fallback.js';
import { makeFleetView } from './fleet.js';
import { openGround } from './ground.js';
import { makeMover } from './mover.js';

/** Before this the sends are cut on shutdown, so that their outcomes can still be saved. */
const savingMs = 6000;

runProcess('dispatch', async (proc) => {
  const { config, logger } = proc;
  const ground = await openGround(proc, 'dispatch', { max: 8 });
  const { db, databaseUrl: url, valkeyUrl, limits } = ground;
  const { clients, close: closeClients } = openClients(config);
  proc.onClose('clients', closeClients);
  const ring = openRing({ url: valkeyUrl, prefix: config.queuePrefix, logger });
  proc.onClose('ring', () => ring.close());
  const lease = await openLease({
    url,
    name: 'dispatch',
    id: makeId('proc', Date.now(), randomBytes(10)),
    logger,
  });
  proc.onClose('lease', () => lease.close());

  const fleet = makeFleetView({ db, sealer: ground.sealer, maxAgeMs: 100 });
  const learn = makeGather<TaughtLesson, void>(
    async (lessons) => {
      await saveLessons(db, lessons, config.health.fall);
      return lessons.map(() => undefined);
    },
    { rows: 500, bytes: 1 << 20, waitingBytes: 8 << 20 },
  );
  // A backend that is fine, and known to be, needs no row written for each send.
  const teach = async (lesson: TaughtLesson): Promise<void> => {
    const known = fleet.find(lesson.backendId);
    const isNews = lesson.lesson.kind !== 'fine' || known?.health.status !== 'up' || known.refusedSends > 0;
    if (isNews) await learn(lesson).catch((error: unknown) => logger.warn('lesson.lost', { error }));
  };
  const abort = new AbortController();
  setMaxListeners(0, abort.signal); // one for each send under way
  const dispatch = makeDispatch({
    ...{ db, ring, lease, fleet, teach, logger, ...limits },
    clients,
    mover: makeMover({ db, limits, logger }),
    tokens: makeCallbackTokens(ground.keys),
    publicUrl: config.publicUrl,
    signingKeyId: ground.keys[0]?.id ?? '',
    abort: abort.signal,
  });
  proc.onClose('sends', async () => {
    // What still hangs near the end is cut; another process takes it up with the same bytes (I7).
    const cut = setTimeout(() => abort.abort(), Math.max(0, config.shutdownTimeoutMs - savingMs));
    await dispatch.idle();
    clearTimeout(cut);
    abort.abort();
  });

  const listener = await openListener({
    url,
    channels: ['backends', 'fence'],
    onNotice: (channel) => {
      fleet.forget();
      if (channel === 'fence') void lease.renew();
    },
    onReconnect: () => void lease.renew(),
    logger,
  });
  proc.onClose('listener', () => listener.close());
  // Modes are looked at before each write: their picture must not grow old while nothing is rung.
  const refresh = setInterval(() => void fleet.look().catch(() => undefined), 1000);
  proc.onClose('refresh', () => clearInterval(refresh));

  // Rings that come while a look is under way are looked at together (I9).
  const lookAt = makeGather<string, void>(
    async (ids) => {
      await dispatch.look(ids);
      return ids.map(() => undefined);
    },
    { rows: 200, bytes: 1 << 20, waitingBytes: 8 << 20, writers: 2 },
  );
  const look = async (ids: readonly string[]): Promise<void> => {
    await Promise.all(ids.map(lookAt));
  };
  const fallback = startFallback({
    ...{ ring, logger, everyMs: config.sweepIntervalMs },
    look: async () => {
      const ids = await findUnrung(db, 0, 200);
      if (ids.length > 0) await look(ids);
      return ids.length;
    },
  });
  proc.onClose('fallback', () => fallback.close());
  const worker = openRingWorker<RingData>({
    ...{ url: valkeyUrl, prefix: config.queuePrefix, logger },
    queue: 'dispatch',
    concurrency: 8,
    work: ({ ids }) => look(ids),
  });
  proc.onClose('worker', () => worker.close());
});
