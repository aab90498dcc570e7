import { openLeadership } from '../db/leadership.js';
import { openListener } from '../db/notify.js';
import { openClients } from '../orchestrators/clients.js';
import { runProcess } from '../process.js';
import type { PingData } from '../queues/catalogue.js';
import { openPings } from '../queues/pings.js';
import { openRingWorker } from '../queues/ring-worker.js';
import { openRing } from '../queues/ring.js';
import { makeDeadlines } from './deadlines.js';
import { startDuties } from './duty.js';
import { makeFleetView } from './fleet.js';
import { openGround } from './ground.js';
import { makePing } from './health.js';
import { makeKills } from './kill.js';
import { makeMover } from './mover.js';
import { makePingJobs } from './pings.js';
import { makeReconcile } from './reconcile.js';
import { makeRelease } from './release.js';
import { makeRemoved } from './removed.js';
import { makeRetention } from './retention.js';
import { makeStops } from './stop.js';
import { makeSweep } from './sweep.js';

/** How often clocks are searched; it bounds how late a deadline is noticed. */
const deadlinesEveryMs = 1000;

runProcess('scheduler', async (proc) => {
  const { config, logger } = proc;
  const { db, databaseUrl: url, valkeyUrl, sealer, limits } = await openGround(proc, 'scheduler', { max: 6 });
  const { clients, close: closeClients } = openClients(config);
  proc.onClose('clients', closeClients);
  const ring = openRing({ url: valkeyUrl, prefix: config.queuePrefix, logger });
  proc.onClose('ring', () => ring.close());
  const pings = openPings({
    ...{ url: valkeyUrl, prefix: config.queuePrefix, logger },
    everyMs: config.health.intervalMs,
  });
  proc.onClose('pings', () => pings.close());

  const fleet = makeFleetView({ db, sealer, maxAgeMs: 500 });
  await fleet.look();
  const mover = makeMover({ db, limits, logger });
  const asking = { db, fleet, clients, mover, logger, silenceMs: limits.silenceMs };
  const duties = [
    makeSweep({ db, ring, everyMs: config.sweepIntervalMs }),
    makeRelease({ db, ring, everyMs: config.sweepIntervalMs }),
    makeKills(asking),
    makeStops({ db, mover }),
    makeReconcile({ ...asking, everyMs: config.reconcile.intervalMs }),
    makeDeadlines({ ...asking, everyMs: deadlinesEveryMs }),
    makeRemoved({ db, mover, ...limits }),
    makePingJobs({ db, pings }),
    makeRetention({ db, keepMs: config.retentionMs }),
  ];
  const leadership = openLeadership({ url, logger });
  proc.onClose('leadership', () => leadership.close());
  const loops = startDuties(duties, { isLeader: leadership.isLeader, logger });
  proc.onClose('duties', () => loops.close());
  const listener = await openListener({
    url,
    channels: ['release', 'kills', 'backends', 'fence'],
    onNotice: (channel) => {
      if (channel === 'backends') fleet.forget();
      loops.wake(channel);
    },
    onReconnect: () => loops.wake('release'),
    logger,
  });
  proc.onClose('listener', () => listener.close());
  // The duties reckon database time by the last picture: it must not grow old.
  const refresh = setInterval(() => void fleet.look().catch(() => undefined), 5000);
  proc.onClose('refresh', () => clearInterval(refresh));

  const ping = makePing({ db, fleet, clients, logger, policy: config.health });
  const worker = openRingWorker<PingData>({
    ...{ url: valkeyUrl, prefix: config.queuePrefix, logger },
    queue: 'health',
    concurrency: 20,
    work: ({ backendId }) => ping(backendId),
  });
  proc.onClose('worker', () => worker.close());
});
