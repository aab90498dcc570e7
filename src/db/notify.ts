import pg from 'pg';
import type { Logger } from '../logger.js';
import type { Sql } from './pool.js';

/** Doorbells of Postgres: tasks that moved, backends that changed, work for a duty, a stop. */
export const channels = ['tasks', 'backends', 'kills', 'release', 'fence'] as const;
export type Channel = (typeof channels)[number];

const notifyStatement = {
  name: 'notify',
  text: 'SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS bell(channel, payload)',
};

/** The server refuses payloads of 8,000 bytes; ids are some 32 bytes long. */
const idsPerNotice = 200;

export type Notice = { readonly channel: Channel; readonly ids: readonly string[] };

/** Rings after a commit. Bells only (I1): their failure is nobody's failure, and they are never awaited for an answer. */
export async function notifyAll(sql: Sql, notices: readonly Notice[]): Promise<void> {
  const bells = notices.flatMap(({ channel, ids }) =>
    chunksOf(ids).map((payload) => [`mosaic_${channel}`, payload]),
  );
  if (bells.length === 0) return;
  const columns = [bells.map(([channel]) => channel), bells.map(([, payload]) => payload)];
  await sql.query(notifyStatement, columns).catch(() => undefined);
}

export function notify(sql: Sql, channel: Channel, ids: readonly string[]): Promise<void> {
  return notifyAll(sql, [{ channel, ids }]);
}

/** Ids joined by commas; without any there is one empty payload, for a bell that needs none. */
function chunksOf(ids: readonly string[]): string[] {
  const chunks: string[] = [];
  for (let start = 0; start < ids.length; start += idsPerNotice) {
    chunks.push(ids.slice(start, start + idsPerNotice).join(','));
  }
  return chunks.length === 0 ? [''] : chunks;
}

export type Listener = { close(): Promise<void> };

/**
 * Listens on a connection of its own and connects again by itself. What was rung while it was away is lost:
 * `onReconnect` tells the caller to look at the rows.
 */
export async function openListener(options: {
  readonly url: string;
  readonly channels: readonly Channel[];
  readonly onNotice: (channel: Channel, ids: readonly string[]) => void;
  readonly onReconnect: () => void;
  readonly logger: Logger;
}): Promise<Listener> {
  let client: pg.Client | null = null;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;

  const connect = async (): Promise<void> => {
    const next = new pg.Client({
      connectionString: options.url,
      application_name: 'mosaic-dispatch listen',
      keepAlive: true,
      connectionTimeoutMillis: 3000,
    });
    next.on('error', () => lost(next));
    next.on('end', () => lost(next));
    next.on('notification', ({ channel, payload }) => {
      const name = options.channels.find((known) => channel === `mosaic_${known}`);
      if (name !== undefined) options.onNotice(name, payload ? payload.split(',') : []);
    });
    await next.connect();
    for (const channel of options.channels) await next.query(`LISTEN mosaic_${channel}`);
    if (closed) await next.end();
    else client = next;
  };

  const lost = (which: pg.Client): void => {
    if (closed || (client !== null && client !== which)) return;
    client = null;
    again();
  };

  const again = (): void => {
    if (closed || timer !== undefined) return;
    timer = setTimeout(() => {
      timer = undefined;
      connect().then(options.onReconnect, (error: unknown) => {
        options.logger.debug('listener.failed', { error });
        again();
      });
    }, 500);
  };

  await connect().catch(() => again());
  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await client?.end().catch(() => undefined);
    },
  };
}
