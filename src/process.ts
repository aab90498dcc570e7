import { readConfigOrExit, type Config } from './config.js';
import { makeLogger, type Logger } from './logger.js';

export type Process = {
  readonly config: Config;
  readonly logger: Logger;
  /** What was opened last is closed first; register right after opening. */
  onClose(name: string, close: () => void | Promise<void>): void;
  /** Called first when the process is told to stop: from now on it is not ready. */
  onDrain(drain: () => void | Promise<void>): void;
  /** Aborted when the process begins to drain. */
  readonly signal: AbortSignal;
  /** Logs the error in one line and ends the process; 78 says that the configuration or the schema is at fault. */
  fail(error: unknown, exitCode?: 1 | 78): never;
};

type Step = { readonly name: string; readonly run: () => void | Promise<void> };

const stopSignals = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
const exitCodeOfSignal = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
/** What every later step is left with, however long the one before it takes. */
const leastStepMs = 500;

/**
 * The life of a process of the Procfile: configuration or exit 78, start, and on SIGTERM or SIGINT drain, close
 * in reverse order, exit 0 within SHUTDOWN_TIMEOUT_MS (P14). A second signal ends it at once, which is safe as
 * well: nothing that was acknowledged lives only here (I1). `start` resolves when the process has begun its work.
 */
export function runProcess(name: string, start: (proc: Process) => Promise<void>): void {
  const config = readConfigOrExit({ servers: true });
  const logger = makeLogger({ level: config.logLevel, process: name });
  const stopping = new AbortController();
  const drains: Step[] = [];
  const closes: Step[] = [];

  const fail = (error: unknown, exitCode: 1 | 78 = 1): never => {
    logger.error('process.failed', { error, exitCode });
    process.exit(exitCode);
  };
  const stop = async (reason: string) => {
    const startedMs = performance.now();
    logger.info('process.stopping', { reason });
    stopping.abort(new Error(`the process is stopping (${reason})`));
    const isClean = await runSteps([...drains, ...closes.toReversed()], config.shutdownTimeoutMs, logger);
    logger.info('process.stopped', { ms: Math.round(performance.now() - startedMs) });
    process.exit(isClean ? 0 : 1);
  };

  for (const signal of stopSignals) {
    process.on(signal, () => {
      if (stopping.signal.aborted) process.exit(exitCodeOfSignal[signal]);
      void stop(signal);
    });
  }
  // Under `npm start` the parent holds a channel: when it closes, the parent was killed, and so are its servers.
  process.on('disconnect', () => {
    if (!stopping.signal.aborted) void stop('the parent is gone');
  });
  process.channel?.unref();
  process.on('uncaughtException', (error) => fail(error));
  process.on('unhandledRejection', (error) => fail(error));
  // A reader of the log that went away must not take the process with it.
  process.stdout.on('error', () => undefined);

  const proc: Process = {
    config,
    logger,
    onClose: (step, close) => void closes.push({ name: step, run: close }),
    onDrain: (drain) => void drains.push({ name: 'drain', run: drain }),
    signal: stopping.signal,
    fail,
  };
  start(proc).then(
    () => {
      if (stopping.signal.aborted) return;
      logger.info('process.started', { pid: process.pid });
      process.send?.('started');
    },
    (error: unknown) => {
      // A start that is cut short by a signal fails of that; the stop is already under way.
      if (!stopping.signal.aborted) fail(error);
    },
  );
}

/** Runs the steps one after another within the time; false when one of them threw. One that hangs is left behind. */
async function runSteps(steps: readonly Step[], timeoutMs: number, logger: Logger): Promise<boolean> {
  // A little less than promised, so that the last line is written and the exit comes in time.
  const deadline = performance.now() + timeoutMs * 0.96;
  let isClean = true;
  for (const [index, step] of steps.entries()) {
    const laterMs = (steps.length - 1 - index) * leastStepMs;
    const allowedMs = Math.max(leastStepMs, deadline - performance.now() - laterMs);
    try {
      if (await overruns(step.run, allowedMs)) {
        logger.warn('process.close-overrun', { step: step.name, allowedMs: Math.round(allowedMs) });
      }
    } catch (error) {
      isClean = false;
      logger.error('process.close-failed', { step: step.name, error });
    }
  }
  return isClean;
}

async function overruns(run: () => void | Promise<void>, allowedMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(true), allowedMs);
  });
  try {
    return await Promise.race([Promise.resolve(run()).then(() => false), late]);
  } finally {
    clearTimeout(timer);
  }
}
