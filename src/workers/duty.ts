import type { Channel } from '../db/notify.js';
import type { Logger } from '../logger.js';

/** What a run of a duty did; nothing is logged when every figure is 0. */
export type DutyReport = Readonly<Record<string, number>>;

/** A thing that must be done again and again. It needs Postgres only: a rescue must not depend on what it rescues. */
export type Duty = {
  readonly name: string;
  readonly everyMs: number;
  /** A bell that calls it early; it runs anyway every `everyMs`. */
  readonly wakenBy?: Channel;
  /** Least time between two runs, however often the bell rings, ms. */
  readonly restMs?: number;
  runOnce(signal: AbortSignal): Promise<DutyReport>;
};

const firstRetryMs = 1000;

export type DutyLoop = { wake(channel: Channel): void; close(): Promise<void> };

/** Drives every duty, each never beside itself, while `isLeader` says that this process is the one to do it. */
export function startDuties(
  duties: readonly Duty[],
  options: { readonly isLeader: () => boolean; readonly logger: Logger },
): DutyLoop {
  const abort = new AbortController();
  const loops = duties.map((duty) => startLoop(duty, abort.signal, options));
  return {
    wake(channel) {
      for (const loop of loops) if (loop.wakenBy === channel) loop.wake();
    },
    async close() {
      abort.abort();
      await Promise.all(loops.map((loop) => loop.stop()));
    },
  };
}

function startLoop(
  duty: Duty,
  signal: AbortSignal,
  options: { readonly isLeader: () => boolean; readonly logger: Logger },
) {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | null = null;
  let isWoken = false;
  let failures = 0;

  /** One that failed is tried again sooner than its turn: half a minute is long when a server just came back. */
  const pauseMs = (): number =>
    failures === 0 ? duty.everyMs : Math.min(duty.everyMs, firstRetryMs * 2 ** Math.min(failures - 1, 10));

  const run = async (): Promise<void> => {
    isWoken = false;
    if (!options.isLeader()) return;
    try {
      const report = await duty.runOnce(signal);
      failures = 0;
      if (Object.values(report).some((count) => count > 0)) options.logger.info(`duty.${duty.name}`, report);
    } catch (error) {
      failures += 1;
      if (!signal.aborted && failures <= 3) options.logger.warn(`duty.failed`, { duty: duty.name, error });
    }
  };

  const plan = (afterMs: number): void => {
    clearTimeout(timer);
    if (!signal.aborted) timer = setTimeout(start, afterMs);
  };

  const start = (): void => {
    running ??= run().finally(() => {
      running = null;
      plan(isWoken ? (duty.restMs ?? 0) : pauseMs());
    });
  };

  // Spread over the first interval, so that not all of them hit the database in the same instant.
  plan(Math.random() * Math.min(duty.everyMs, 250));
  return {
    wakenBy: duty.wakenBy,
    wake(): void {
      if (isWoken) return;
      isWoken = true;
      if (running === null) plan(duty.restMs ?? 0);
    },
    async stop(): Promise<void> {
      clearTimeout(timer);
      await running;
    },
  };
}
