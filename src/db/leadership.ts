import { performance } from 'node:perf_hooks';
import pg from 'pg';
import type { Logger } from '../logger.js';

const leaderLock = 7_264_002;
const pingEveryMs = 1000;
/** The server ends a leader's session that has been silent this long, so that a paused one leads no more. */
const silenceMs = 5000;

export type Leadership = { readonly isLeader: () => boolean; readonly close: () => Promise<void> };

/**
 * One runner of duties at a time, however many schedulers there are: a session's advisory lock. A killed
 * leader's lock is free with its connection, a paused one's when the server ends the idle session.
 */
export function openLeadership(options: { readonly url: string; readonly logger: Logger }): Leadership {
  let client: pg.Client | null = null;
  let ledUntil = 0;
  let busy: Promise<void> | null = null;

  const connect = async (): Promise<pg.Client> => {
    const next = new pg.Client({
      connectionString: options.url,
      application_name: 'mosaic-dispatch leader',
      connectionTimeoutMillis: 2000,
      query_timeout: 2000,
      keepAlive: true,
    });
    const forget = (): void => {
      if (client !== next) return;
      client = null;
      ledUntil = 0;
    };
    next.on('error', forget);
    next.on('end', forget);
    await next.connect();
    // Not known before PostgreSQL 14; there a paused leader is only found by the network.
    await next.query(`SET idle_session_timeout = ${silenceMs}`).catch(() => undefined);
    return next;
  };

  const tick = async (): Promise<void> => {
    const startedAt = performance.now();
    const wasLeader = ledUntil > startedAt;
    try {
      client ??= await connect();
      const text = wasLeader ? 'SELECT true AS mine' : `SELECT pg_try_advisory_lock(${leaderLock}) AS mine`;
      const { rows } = await client.query<{ mine: boolean }>(text);
      ledUntil = rows[0]?.mine === true ? startedAt + silenceMs - pingEveryMs : 0;
      if (ledUntil > 0 && !wasLeader) options.logger.info('leadership.taken');
    } catch (error) {
      ledUntil = 0;
      options.logger.debug('leadership.unknown', { error });
      await client?.end().catch(() => undefined);
      client = null;
    }
  };

  const timer = setInterval(() => {
    busy ??= tick().finally(() => {
      busy = null;
    });
  }, pingEveryMs);
  busy = tick().finally(() => {
    busy = null;
  });

  return {
    isLeader: () => performance.now() < ledUntil,
    async close() {
      clearInterval(timer);
      await busy;
      ledUntil = 0;
      await client?.end().catch(() => undefined);
    },
  };
}
