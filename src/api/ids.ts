import { randomFillSync } from 'node:crypto';
import { makeId } from '../domain/ids.js';

/** Makes ids that grow even within one millisecond, so that what came later in a batch sorts later. */
export function makeIdSource(prefix: string): () => string {
  const random = new Uint8Array(10);
  let lastMs = 0;
  let order = 0;
  return () => {
    const now = Date.now();
    order = now > lastMs ? 0 : order + 1;
    // The 12 bits are used up, or the clock went back: borrow from the next millisecond.
    lastMs = order > 0xfff ? lastMs + 1 : Math.max(now, lastMs);
    if (order > 0xfff) order = 0;
    randomFillSync(random);
    random[0] = order >>> 8;
    random[1] = order & 0xff;
    return makeId(prefix, lastMs, random);
  };
}
