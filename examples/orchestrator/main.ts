/**
 * Starts the example Orchestrator, prints one line with its address on stdout, and logs to stderr.
 *
 *   node dist/examples/orchestrator/main.js --state-dir DIR [--port 0] [--host 127.0.0.1] [--max-agents 4]
 *        [--secret TEXT] [--misbehave]
 *
 * The secret is better given as ORCHESTRATOR_SECRET: a command line can be read by every user of a machine.
 */
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeStartAgent } from './agent.js';
import { openCallbacks } from './callbacks.js';
import { makeServer } from './server.js';
import { openSessions } from './sessions.js';
import { openSupervisor } from './supervisor.js';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    host: { type: 'string', default: '127.0.0.1' },
    secret: { type: 'string', default: process.env['ORCHESTRATOR_SECRET'] ?? '' },
    'state-dir': { type: 'string', default: '' },
    'max-agents': { type: 'string', default: '4' },
    misbehave: { type: 'boolean', default: false },
  },
});
const stateDir = values['state-dir'];
const maxAgents = Number(values['max-agents']);
const faults = [
  ...(values.secret === '' ? ['--secret or ORCHESTRATOR_SECRET is missing'] : []),
  ...(stateDir === '' ? ['--state-dir is missing'] : []),
  ...(Number.isInteger(maxAgents) && maxAgents > 0 ? [] : ['--max-agents must be a whole number above 0']),
];
if (faults.length > 0) {
  process.stderr.write(`${faults.join('\n')}\n`);
  process.exit(78);
}

const log = (line: Record<string, unknown>): void => {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`);
};
const sessions = openSessions(stateDir, () => new Date());
const callbacks = openCallbacks({
  backoffBaseMs: 200,
  backoffMaxMs: 10_000,
  timeoutMs: 10_000,
  random: Math.random,
  onTold: (session) => {
    session.told = true;
    sessions.save(session);
  },
  log,
});
const startAgent = makeStartAgent(join(stateDir, 'workspaces'));
const supervisor = openSupervisor({ sessions, callbacks, startAgent, maxAgents });
const server = makeServer({
  secret: values.secret,
  sessions,
  supervisor,
  maxAgents,
  misbehave: values.misbehave,
});

server.on('error', (error) => {
  log({ msg: 'cannot listen', error: error.message });
  process.exit(1);
});
server.listen(Number(values.port), values.host, () => {
  const { address, port, family } = server.address() as AddressInfo;
  const host = family === 'IPv6' ? `[${address}]` : address;
  process.stdout.write(`example Orchestrator listening on http://${host}:${port}\n`);
});

let isStopping = false;
async function stop(): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  await supervisor.close();
  await callbacks.close(2_000);
  server.close();
  server.closeAllConnections();
  sessions.close();
  process.exit(0);
}
process.on('SIGTERM', () => void stop());
process.on('SIGINT', () => void stop());
// Started by another program over a channel: it ends with that program, however that one ended.
process.on('disconnect', () => void stop());
