import { setTimeout as wait } from 'node:timers/promises';
import got from 'got';

const everyMs = 50;
const patienceMs = 10_000;

/** Asks `/readyz` until it answers 200; after ten seconds, and then every ten, `onSlow` is told what it says instead. */
export async function waitUntilReady(baseUrl: string, onSlow: (reason: string) => void): Promise<void> {
  let tellAtMs = performance.now() + patienceMs;
  for (;;) {
    const reason = await findUnreadiness(baseUrl);
    if (reason === null) return;
    if (performance.now() > tellAtMs) {
      onSlow(reason);
      tellAtMs = performance.now() + patienceMs;
    }
    await wait(everyMs);
  }
}

async function findUnreadiness(baseUrl: string): Promise<string | null> {
  try {
    const answer = await got(`${baseUrl}/readyz`, {
      throwHttpErrors: false,
      retry: { limit: 0 },
      timeout: { request: 2_000 },
    });
    return answer.statusCode === 200 ? null : `${answer.statusCode} ${answer.body.slice(0, 300)}`;
  } catch (error) {
    return (error as Error).message;
  }
}
