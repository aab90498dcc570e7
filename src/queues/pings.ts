import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, type ConnectionOptions } from 'bullmq';
import type { Logger } from '../logger.js';
import { jobOptions, type PingData } from './catalogue.js';
import { closeValkey, openValkey } from './valkey.js';

/** The repeatable jobs of the health pings: one a backend. A wiped Valkey forgets them, so they are put again and again. */
export interface Pings {
  /** Makes the repeatable jobs be exactly those of `backendIds`. Throws while Valkey is away. */
  put(backendIds: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export function openPings(options: {
  readonly url: string;
  readonly prefix: string;
  readonly everyMs: number;
  readonly logger: Logger;
}): Pings {
  const redis = openValkey(options.url, 'ring', options.logger);
  const queue = new Queue<PingData>('health', {
    connection: redis as unknown as ConnectionOptions,
    prefix: options.prefix,
    defaultJobOptions: jobOptions,
    skipVersionCheck: true,
    streams: { events: { maxLen: 1000 } },
  });
  queue.on('error', () => undefined);
  return {
    async put(backendIds) {
      if (redis.status !== 'ready') throw new Error('Valkey is out of reach');
      const known = await queue.getJobSchedulers(0, -1);
      const wanted = new Set(backendIds);
      for (const { key } of known) if (!wanted.has(key)) await queue.removeJobScheduler(key);
      const asIs = new Set(
        known.filter(({ every }) => Number(every) === options.everyMs).map(({ key }) => key),
      );
      for (const backendId of backendIds) {
        if (asIs.has(backendId)) continue;
        await queue.upsertJobScheduler(
          backendId,
          { every: options.everyMs },
          { name: 'ping', data: { backendId }, opts: jobOptions },
        );
      }
    },
    async close() {
      await Promise.race([queue.close(), sleep(500, undefined, { ref: false })]);
      closeValkey(redis);
    },
  };
}
