import { setTimeout as wait } from 'node:timers/promises';
import { eventually } from '../support/eventually.js';
import type { System, SystemChild } from '../support/system.js';

export type AddedBackend = { readonly id: string };

/** Configures a backend over the API and waits until its first ping has made it up. */
export async function addBackend(
  system: Pick<System, 'api'>,
  given: { readonly name: string; readonly url: string; readonly [field: string]: unknown },
  { isUp = true } = {},
): Promise<AddedBackend> {
  const { status, body } = await system.api('POST', '/v1/backends', { protocol: 'gateway', ...given });
  if (status !== 201) throw new Error(`the backend was answered ${status}: ${JSON.stringify(body)}`);
  if (isUp) await untilHealth(system, body.id, 'up');
  return body as AddedBackend;
}

export async function untilHealth(
  system: Pick<System, 'api'>,
  backendId: string,
  wanted: 'up' | 'down',
  timeoutMs = 10_000,
): Promise<void> {
  await eventually(
    async () => {
      const { body } = await system.api('GET', `/v1/backends/${backendId}`);
      if (body.health?.status !== wanted) throw new Error(`the backend is ${JSON.stringify(body.health)}`);
    },
    { timeoutMs, everyMs: 50 },
  );
}

export async function isGone(child: SystemChild): Promise<boolean> {
  return (await Promise.race([child.exited, wait(0, null)])) !== null;
}

/** One line of what was measured, for whoever reads the run. */
export function say(what: string, figures: object): void {
  process.stdout.write(`${what}: ${JSON.stringify(figures)}\n`);
}
