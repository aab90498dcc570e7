import { setTimeout as wait } from 'node:timers/promises';

/**
 * Repeats an assertion until it holds and gives its value; after `timeoutMs` the last failure is thrown.
 * It replaces every sleep: a test waits for the fact and no longer.
 */
export async function eventually<T>(
  assertion: () => T | Promise<T>,
  { timeoutMs = 10_000, everyMs = 20 }: { timeoutMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await assertion();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await wait(everyMs);
    }
  }
}
