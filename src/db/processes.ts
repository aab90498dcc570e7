import { hostname } from 'node:os';
import { performance } from 'node:perf_hooks';
import pg from 'pg';
import { DispatcherError } from '../domain/errors.js';
import type { Logger } from '../logger.js';

/** A dead process' tasks are due again after at most this. */
export const leaseMs = 6000;
const renewEveryMs = 2000;
/** Between the check and the socket write something may still happen: the lease must hold that much longer. */
const marginMs = 1000;

export type ProcessName = 'web' | 'dispatch' | 'transitions' | 'scheduler';

/** A stop that binds every task made before it. */
export type Fence = { readonly id: number; readonly workspaceId: string | null; readonly at: Date };

export type Lease = {
  readonly id: string;
  /** Whether it surely holds now, by the monotonic clock: a process that was paused knows it before it writes. */
  holds(): boolean;
  /** Whether a stop forbids to send this task. */
  isFenced(task: { readonly createdAt: Date; readonly workspaceId: string | null }): boolean;
  /** Renews at once; called when a stop is rung, so that whoever raised it need not wait. */
  renew(): Promise<void>;
  /** Gives it back: what this process had is due at once. */
  close(): Promise<void>;
};

const beginText = `
INSERT INTO processes (id, name, host, pid, lease_until)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond')`;

/* It says which stops are known here already, not which it is about to tell: a stop waits until nobody can miss it. */
const renewText = `
WITH mine AS (
  INSERT INTO processes (id, name, host, pid, lease_until, fence_seen)
  VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond', $6)
  ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until, fence_seen = excluded.fence_seen)
SELECT id, workspace_id, at FROM fences WHERE id > $6 ORDER BY id`;

/* While no callback door is open nobody can be heard: the end of such a gap gives every clock a full window. */
const intakeText = `
UPDATE intake SET resumed_at = CASE WHEN open_until < clock_timestamp() THEN clock_timestamp() ELSE resumed_at END,
  open_until = clock_timestamp() + $1 * interval '1 millisecond'`;

type FenceRow = { id: string; workspace_id: string | null; at: Date };

/**
 * The lease of a process: one row, renewed every 2 s on a connection of its own, so that neither a full pool
 * nor a locked task can cost it. It expires on database time; here it is judged on the monotonic clock.
 */
export async function openLease(options: {
  readonly url: string;
  readonly name: ProcessName;
  readonly id: string;
  readonly logger: Logger;
}): Promise<Lease> {
  const identity = [options.id, options.name, hostname(), process.pid, leaseMs];
  const fences: Fence[] = [];
  let client: pg.Client | null = null;
  let heldUntil = 0;
  let renewing: Promise<void> | null = null;
  let closed = false;

  const connect = async (): Promise<pg.Client> => {
    const next = new pg.Client({
      connectionString: options.url,
      application_name: `mosaic-dispatch lease ${options.name}`,
      connectionTimeoutMillis: renewEveryMs,
      query_timeout: renewEveryMs,
      keepAlive: true,
    });
    const forget = (): void => {
      if (client === next) client = null;
    };
    next.on('error', forget);
    next.on('end', forget);
    await next.connect();
    return next;
  };

  const renewOnce = async (): Promise<void> => {
    const startedAt = performance.now();
    try {
      client ??= await connect();
      for (let isNews = true; isNews;) {
        const { rows } = await client.query<FenceRow>(renewText, [...identity, fences.at(-1)?.id ?? 0]);
        for (const row of rows)
          fences.push({ id: Number(row.id), workspaceId: row.workspace_id, at: row.at });
        isNews = rows.length > 0;
      }
      // Counted from before the question: the row cannot run out before we think so.
      heldUntil = startedAt + leaseMs - marginMs;
      if (options.name === 'web') await client.query(intakeText, [leaseMs]);
    } catch (error) {
      options.logger.warn('lease.unrenewed', { error });
      await client?.end().catch(() => undefined);
      client = null;
    }
  };

  const renew = async (): Promise<void> => {
    // One that is under way may have read before the bell was rung: wait for it, then renew anew.
    await renewing;
    renewing ??= renewOnce().finally(() => {
      renewing = null;
    });
    await renewing;
  };

  client = await connect();
  try {
    const startedAt = performance.now();
    await client.query(beginText, identity);
    heldUntil = startedAt + leaseMs - marginMs;
    await renewOnce();
  } catch (error) {
    await client?.end().catch(() => undefined);
    throw new DispatcherError('database_unavailable', 'the process could not take its lease', {
      cause: error,
    });
  }
  const timer = setInterval(() => {
    if (!closed) void renew();
  }, renewEveryMs);

  return {
    id: options.id,
    holds: () => performance.now() < heldUntil,
    isFenced: (task) =>
      fences.some(
        (fence) =>
          fence.at >= task.createdAt &&
          (fence.workspaceId === null || fence.workspaceId === task.workspaceId),
      ),
    renew,
    async close() {
      closed = true;
      clearInterval(timer);
      heldUntil = 0;
      await renewing;
      await client?.query('DELETE FROM processes WHERE id = $1', [options.id]).catch(() => undefined);
      await client?.end().catch(() => undefined);
    },
  };
}
