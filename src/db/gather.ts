import { DispatcherError } from '../domain/errors.js';
import { isDataError } from './pool.js';

export type GatherLimits = {
  /** Most items of one write. */
  readonly rows: number;
  /** Most bytes of one write. */
  readonly bytes: number;
  /** Most bytes that may wait before newcomers are refused. */
  readonly waitingBytes: number;
  /** Writes under way side by side. */
  readonly writers?: number;
};

type Waiter<I, O> = {
  readonly item: I;
  readonly bytes: number;
  readonly resolve: (result: O) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Collects what arrives while the last write is under way, and writes it as one batch (I9): no timer, so a
 * lone item is written on the next tick, and the batch grows only with the load.
 *
 * @param write takes an array and answers with one result an item, in order
 * @returns a function that resolves with its own item's result; it throws `overloaded` when too much waits
 */
export function makeGather<I, O>(
  write: (items: readonly I[]) => Promise<readonly O[]>,
  limits: GatherLimits,
  bytesOf: (item: I) => number = () => 0,
): (item: I) => Promise<O> {
  const waiting: Waiter<I, O>[] = [];
  const writers = limits.writers ?? 1;
  let waitingBytes = 0;
  let writing = 0;
  let scheduled = false;

  function take(): Waiter<I, O>[] {
    let bytes = 0;
    let count = 0;
    for (const waiter of waiting) {
      if (count >= limits.rows || (count > 0 && bytes + waiter.bytes > limits.bytes)) break;
      bytes += waiter.bytes;
      count += 1;
    }
    waitingBytes -= bytes;
    return waiting.splice(0, count);
  }

  function schedule(): void {
    if (scheduled || writing >= writers || waiting.length === 0) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (waiting.length === 0) return;
      writing += 1;
      void deliver(write, take()).finally(() => {
        writing -= 1;
        schedule();
      });
      schedule();
    });
  }

  return (item) => {
    const bytes = bytesOf(item);
    if (waitingBytes + bytes > limits.waitingBytes || waiting.length >= limits.rows * 100) {
      const error = new DispatcherError('overloaded', 'too much is waiting to be written; try again shortly');
      return Promise.reject(error);
    }
    return new Promise<O>((resolve, reject) => {
      waiting.push({ item, bytes, resolve, reject });
      waitingBytes += bytes;
      schedule();
    });
  };
}

/** One bad row harms only itself: on a data error the batch is halved. After anything else nothing is repeated. */
async function deliver<I, O>(
  write: (items: readonly I[]) => Promise<readonly O[]>,
  waiters: readonly Waiter<I, O>[],
): Promise<void> {
  try {
    const results = await write(waiters.map((waiter) => waiter.item));
    waiters.forEach((waiter, index) => waiter.resolve(results[index] as O));
  } catch (error) {
    if (waiters.length > 1 && isDataError(error)) {
      const half = Math.ceil(waiters.length / 2);
      await deliver(write, waiters.slice(0, half));
      await deliver(write, waiters.slice(half));
      return;
    }
    for (const waiter of waiters) waiter.reject(error);
  }
}
