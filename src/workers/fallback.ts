import type { Logger } from '../logger.js';
import type { Ring } from '../queues/ring.js';

/** Valkey may blink; after this long a worker takes its work straight from Postgres. */
const usualDeadAfterMs = 5000;

/** While Valkey is dead nobody rings: then `look` is called every `everyMs`, and looks at the rows itself (P18). */
export function startFallback(options: {
  readonly everyMs: number;
  /** A test does not wait that long. */
  readonly deadAfterMs?: number;
  readonly ring: Pick<Ring, 'awayMs'>;
  readonly look: () => Promise<number>;
  readonly logger: Logger;
}): { close(): void } {
  const { deadAfterMs = usualDeadAfterMs } = options;
  let looking = false;
  const timer = setInterval(() => {
    if (looking || options.ring.awayMs() < deadAfterMs) return;
    looking = true;
    options
      .look()
      .then((found) => {
        if (found > 0) options.logger.info('fallback.found', { found });
      })
      .catch((error: unknown) => options.logger.debug('fallback.failed', { error }))
      .finally(() => {
        looking = false;
      });
  }, options.everyMs);
  return { close: () => clearInterval(timer) };
}
