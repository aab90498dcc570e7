import { setTimeout as sleep } from 'node:timers/promises';
import { Queue, type ConnectionOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Logger } from '../logger.js';
import { idsPerRing, jobOptions, type RingData, type RingQueue } from './catalogue.js';
import { closeValkey, findEvictionPolicy, openValkey } from './valkey.js';

/** The doorbell. A ring that is lost or late costs time, never a task (I1): the sweep rings again. */
export interface Ring {
  /** Rings for ids that were committed together. Never throws; false means late, not lost. */
  ring(queue: RingQueue, ids: readonly string[]): Promise<boolean>;
  /** Rings that wait to be taken; null while Valkey cannot say. */
  depth(queue: RingQueue): Promise<number | null>;
  /** How long Valkey has been out of reach, ms; 0 while it is there. */
  awayMs(): number;
  close(): Promise<void>;
}

/** Nobody waits longer than this for a bell. */
const ringWithinMs = 250;
const pulseEveryMs = 1000;

export function openRing(options: {
  readonly url: string;
  readonly prefix: string;
  readonly logger: Logger;
}): Ring {
  const redis = openValkey(options.url, 'ring', options.logger);
  const connection = redis as unknown as ConnectionOptions;
  const open = (name: RingQueue): Queue<RingData> => {
    const queue = new Queue<RingData>(name, {
      connection,
      prefix: options.prefix,
      defaultJobOptions: jobOptions,
      skipVersionCheck: true,
      streams: { events: { maxLen: 1000 } },
    });
    queue.on('error', () => undefined); // its connection has told it already
    return queue;
  };
  const queues = { dispatch: open('dispatch'), transitions: open('transitions') } as const;
  let awaySince: number | null = performance.now();
  redis.on('ready', () => {
    awaySince = null;
    void warnOfEviction(redis, options.logger);
  });
  redis.on('close', () => {
    awaySince ??= performance.now();
  });
  // A server that is frozen, or behind a line that swallows everything, keeps its connection open: it has to be asked.
  const pulse = setInterval(() => {
    if (redis.status !== 'ready') return;
    const askedAt = performance.now();
    redis.ping().then(
      () => {
        awaySince = null;
      },
      () => {
        awaySince ??= askedAt;
      },
    );
  }, pulseEveryMs);

  const add = (name: RingQueue, ids: readonly string[]): Promise<unknown> => {
    const jobs: { name: string; data: RingData }[] = [];
    for (let start = 0; start < ids.length; start += idsPerRing) {
      jobs.push({ name: 'ring', data: { ids: ids.slice(start, start + idsPerRing) } });
    }
    return queues[name].addBulk(jobs);
  };

  return {
    async ring(name, ids) {
      if (ids.length === 0) return true;
      // Before the first connection an add would wait for ever, and be replayed long after.
      if (redis.status !== 'ready') return false;
      return within(
        add(name, ids).then(() => true),
        false,
      );
    },
    async depth(name) {
      if (redis.status !== 'ready') return null;
      return within<number | null>(queues[name].getWaitingCount(), null);
    },
    awayMs: () => (awaySince === null ? 0 : performance.now() - awaySince),
    async close() {
      clearInterval(pulse);
      await Promise.race([
        Promise.allSettled(Object.values(queues).map((queue) => queue.close())),
        sleep(500),
      ]);
      closeValkey(redis);
    },
  };
}

/** The answer, or `otherwise` when it fails or is late. */
async function within<T>(answer: Promise<T>, otherwise: T): Promise<T> {
  const timer = new AbortController();
  try {
    const late = sleep(ringWithinMs, otherwise, { signal: timer.signal });
    late.catch(() => undefined);
    return await Promise.race([answer.catch(() => otherwise), late]);
  } finally {
    timer.abort();
  }
}

/** Rings that the server evicts cost time: the sweep finds their tasks. Worth a word to whoever runs it. */
async function warnOfEviction(redis: Redis, logger: Logger): Promise<void> {
  const policy = await findEvictionPolicy(redis);
  if (policy === null || policy === 'noeviction') return;
  const meaning =
    'when its memory is full it drops rings, and their tasks wait for the sweep; set noeviction';
  logger.warn('valkey.weak', { fault: `maxmemory-policy is ${policy}`, meaning });
}
