import { findUnapplied } from '../db/due.js';
import { runProcess } from '../process.js';
import type { RingData } from '../queues/catalogue.js';
import { openRingWorker } from '../queues/ring-worker.js';
import { openRing } from '../queues/ring.js';
import { startFallback } from './fallback.js';
import { openGround } from './ground.js';
import { makeMover } from './mover.js';
import { makeTransitions } from './transitions.js';

runProcess('transitions', async (proc) => {
  const { config, logger } = proc;
  const { db, valkeyUrl, limits } = await openGround(proc, 'transitions', { max: 6 });
  const fold = makeTransitions({ db, limits, logger, mover: makeMover({ db, limits, logger }) });

  const ring = openRing({ url: valkeyUrl, prefix: config.queuePrefix, logger });
  proc.onClose('ring', () => ring.close());
  const fallback = startFallback({
    ...{ ring, logger, everyMs: config.sweepIntervalMs },
    look: async () => {
      const ids = await findUnapplied(db, 0, 500);
      if (ids.length > 0) await fold(ids);
      return ids.length;
    },
  });
  proc.onClose('fallback', () => fallback.close());
  const worker = openRingWorker<RingData>({
    ...{ url: valkeyUrl, prefix: config.queuePrefix, logger },
    queue: 'transitions',
    concurrency: 4,
    work: ({ ids }) => fold(ids),
  });
  proc.onClose('worker', () => worker.close());
});
