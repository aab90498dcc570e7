import type { RedisOptions } from 'bullmq';
import { Redis } from 'ioredis';
import type { Logger } from '../logger.js';

/**
 * `ring`: fails at once while Valkey is away, so that no request waits for it. `worker`: waits for ever, since
 * it has nothing else to do. `board`: answers soon or not at all, and never on the workers' connection.
 */
export type ValkeyRole = 'ring' | 'worker' | 'board';

const retryStrategy = (tries: number): number => Math.min(100 * tries, 1000);

const optionsOf: Readonly<Record<ValkeyRole, RedisOptions>> = {
  ring: { enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 1500, retryStrategy },
  worker: { maxRetriesPerRequest: null, retryStrategy },
  board: { enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 3000, retryStrategy },
};

/** Opens a connection of one role; `valkey://` and `valkeys://` are Redis' own schemes to the client. */
export function openValkey(url: string, role: ValkeyRole, logger: Logger): Redis {
  const redis = new Redis(url.replace(/^valkey(s?):/, 'redis$1:'), {
    ...optionsOf[role],
    connectionName: `mosaic-dispatch-${role}`,
  });
  let isDown = false;
  // Without a listener an error ends the process; one line for each outage is enough.
  redis.on('error', (error: Error) => {
    if (!isDown) logger.warn('valkey.lost', { role, error });
    isDown = true;
  });
  redis.on('ready', () => {
    if (isDown) logger.info('valkey.back', { role });
    isDown = false;
  });
  return redis;
}

/** Closes without waiting for a server that may be gone. */
export function closeValkey(redis: Redis): void {
  redis.disconnect(false);
}

/** Whether what Valkey forgets by itself could matter: any eviction policy but noeviction drops rings. */
export async function findEvictionPolicy(redis: Redis): Promise<string | null> {
  try {
    const answer = (await redis.config('GET', 'maxmemory-policy')) as string[];
    return answer[1] ?? null;
  } catch {
    return null; // forbidden on many hosted servers: then nobody knows
  }
}
