import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Queue, type ConnectionOptions } from 'bullmq';
import express, { type Express, type RequestHandler } from 'express';
import type { Logger } from '../logger.js';
import { queueNames } from '../queues/catalogue.js';
import { closeValkey, findEvictionPolicy, openValkey } from '../queues/valkey.js';
import { refusal } from './problems.js';

export const boardPath = '/admin/queues';

export type Board = {
  readonly handler: RequestHandler;
  /** What Valkey would forget by itself, or null while it cannot be asked. */
  evictionPolicy(): Promise<string | null>;
  close(): Promise<void>;
};

/** It brings pages and scripts of its own, and links fonts from elsewhere, which must not be fetched. */
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'";

/**
 * Bull Board behind a door, on a connection of its own that gives up soon: it is the X-ray of the bell, and
 * must neither hang when Valkey is away nor slow anything down when a queue is long.
 */
export function openBoard(options: {
  readonly url: string;
  readonly prefix: string;
  readonly writable: boolean;
  readonly door: RequestHandler;
  readonly logger: Logger;
}): Board {
  const { url, prefix, writable, door, logger } = options;
  const redis = openValkey(url, 'board', logger);
  const queues = queueNames.map((name) => {
    const connection = redis as unknown as ConnectionOptions;
    const queue = new Queue(name, { connection, prefix, skipVersionCheck: true });
    queue.on('error', () => undefined); // its connection has told it already
    return queue;
  });
  const adapter = new ExpressAdapter();
  adapter.setBasePath(boardPath);
  createBullBoard({
    queues: queues.map(
      (queue) => new BullMQAdapter(queue, { readOnlyMode: !writable, allowRetries: writable }),
    ),
    serverAdapter: adapter,
    options: { uiConfig: { boardTitle: 'Mosaic queues', hideRedisDetails: true } },
  });
  // Its own handler would answer with the stack.
  // The type lists fewer statuses than Express can send.
  adapter.setErrorHandler(() => ({
    status: 503 as 500,
    body: { error: 'the queues did not answer in time' },
  }));
  const pages = adapter.getRouter() as Express;
  pages.disable('x-powered-by').disable('etag');

  const handler = express.Router();
  handler.use(door, (_req, res, next) => {
    if (redis.status !== 'ready')
      throw refusal('queues_unavailable', 'Valkey is out of reach; what was accepted waits in Postgres');
    res.setHeader('Content-Security-Policy', policy);
    next();
  });
  handler.use(pages);
  return {
    handler,
    evictionPolicy: () => (redis.status === 'ready' ? findEvictionPolicy(redis) : Promise.resolve(null)),
    async close() {
      await Promise.race([
        Promise.allSettled(queues.map((queue) => queue.close())),
        new Promise((resolve) => setTimeout(resolve, 500).unref()),
      ]);
      closeValkey(redis);
    },
  };
}
