import { setTimeout as sleep } from 'node:timers/promises';
import { Worker, type ConnectionOptions } from 'bullmq';
import type { Logger } from '../logger.js';
import { workerOptions, type QueueName } from './catalogue.js';
import { closeValkey, openValkey } from './valkey.js';

export type RingWorker = { close(): Promise<void> };

/**
 * Takes jobs of one queue. What `work` throws is logged and the job is failed; it is never a task's failure (I5),
 * for the rows it stood for are still due. Never waits for Valkey to come up.
 */
export function openRingWorker<D>(options: {
  readonly url: string;
  readonly prefix: string;
  readonly queue: QueueName;
  readonly concurrency: number;
  readonly work: (data: D, signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}): RingWorker {
  const { logger, queue } = options;
  const redis = openValkey(options.url, 'worker', logger);
  const worker = new Worker<D>(
    queue,
    // Three parameters: BullMQ gives the signal only to a processor that declares it.
    async (job, _token, signal) => {
      await options.work(job.data, signal ?? new AbortController().signal);
    },
    {
      ...workerOptions,
      connection: redis as unknown as ConnectionOptions,
      prefix: options.prefix,
      concurrency: options.concurrency,
      removeOnComplete: { count: 1000 },
      removeOnFail: { age: 24 * 3600, count: 5000 },
      skipVersionCheck: true,
    },
  );
  worker.on('error', (error) => logger.debug('queue.troubled', { queue, error }));
  worker.on('failed', (_job, error) => logger.error('ring.failed', { queue, error }));
  return {
    async close() {
      // A job that runs is finished; a server that is gone is not waited for.
      await Promise.race([worker.close(), sleep(5000, undefined, { ref: false })]);
      closeValkey(redis);
    },
  };
}
