import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expected, makeCall, pause, type BackendView, type Call } from './api.js';
import { startChild, type Child } from './children.js';
import { findAdminKey, type Settings } from './settings.js';

export const backendName = 'example';
const maxAgents = 4;

/** Starts the service as `npm start` does, and waits until it can serve; the first start may have to fetch a server. */
export async function startService(settings: Settings, own: Child[], signal: AbortSignal): Promise<void> {
  // Otherwise another program's answer would be taken for ours.
  if (await isTaken(settings)) {
    throw new Error(
      `${settings.host}:${settings.port} is taken: stop what listens there, or set PORT to a free one`,
    );
  }
  const script = join(settings.projectRoot, 'dist/src/start.main.js');
  const service = startChild('the service', script, [], settings.env, join(settings.demoDir, 'service.log'));
  own.push(service);
  for (let tries = 0; tries < 1200; tries += 1) {
    if (service.hasEnded()) throw new Error(`the service ended:\n${service.lastWords()}`);
    const status = await fetch(`${settings.url}/readyz`, { signal: AbortSignal.timeout(2000) })
      .then((response) => response.status)
      .catch(() => 0);
    if (status === 200) return;
    await pause(200, signal);
  }
  throw new Error(`the service did not get ready:\n${service.lastWords()}`);
}

/** Starts the example Orchestrator and makes it known to the service, or known anew if an earlier run did that. */
export async function addOrchestrator(settings: Settings, own: Child[], signal: AbortSignal): Promise<Call> {
  const secret = randomBytes(24).toString('base64url');
  const script = join(settings.projectRoot, 'dist/examples/orchestrator/main.js');
  const args = [
    '--state-dir',
    join(settings.demoDir, 'orchestrator'),
    '--max-agents',
    `${maxAgents}`,
    '--misbehave',
  ];
  const env = { PATH: process.env['PATH'], ORCHESTRATOR_SECRET: secret };
  const child = startChild('the Orchestrator', script, args, env, join(settings.demoDir, 'orchestrator.log'));
  own.push(child);
  const url = /http:\S+/.exec(await child.line(/listening on/))?.[0] ?? '';

  const call = makeCall(settings.url, findAdminKey(settings), signal);
  const { id } = await register(call, {
    url,
    auth: { type: 'bearer', secret },
    maxConcurrency: maxAgents,
    mode: 'active',
  });
  for (let tries = 0; tries < 150; tries += 1) {
    const backend = expected<BackendView>(
      await call('GET', `/v1/backends/${id}`),
      'reading the backend',
      200,
    );
    if (backend.health.status === 'up') return call;
    await pause(200, signal);
  }
  throw new Error('the Orchestrator did not come up as a backend of the service');
}

async function register(call: Call, values: Record<string, unknown>): Promise<BackendView> {
  const reply = await call('GET', `/v1/backends?name=${backendName}`);
  const [known] = expected<{ data: BackendView[] }>(reply, 'listing the backends', 200).data;
  if (known === undefined) {
    const body = { name: backendName, protocol: 'gateway', ...values };
    return expected(await call('POST', '/v1/backends', body), 'adding the backend', 201);
  }
  return expected(await call('PATCH', `/v1/backends/${known.id}`, values), 'changing the backend', 200);
}

function isTaken({ host, port }: Settings): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const end = (taken: boolean) => (): void => {
      socket.destroy();
      resolve(taken);
    };
    socket.once('connect', end(true)).once('error', end(false)).once('timeout', end(false));
  });
}

/** The Orchestrator first: what it still has to tell is then heard. */
export async function stopAll(own: readonly Child[]): Promise<void> {
  for (const child of own.toReversed()) await child.stop(30_000);
}
