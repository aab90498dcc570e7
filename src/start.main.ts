/**
 * `npm start`: everything on one machine. Servers where none are given, migrations, then every process of the
 * Procfile, kept running until SIGTERM or SIGINT; then the processes drain first and the servers stop last.
 * The banner and all talk go to stderr; stdout carries the processes' log lines alone.
 */
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { readConfigOrExit, readEnvironment } from './config.js';
import { formatBanner } from './start/banner.js';
import { findPortFault } from './start/port.js';
import { readProcfile, type ProcfileLine } from './start/procfile.js';
import { waitUntilReady } from './start/ready.js';
import { openServers, type Servers } from './start/servers.js';
import { supervise, type Loss, type Supervised } from './start/supervised.js';
import { showTroubles } from './start/terminal.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
/** What is kept back from the processes' time, for the servers and the last words. */
const reserveMs = 3_000;
/** The same Ctrl+C may come by two ways, from the terminal and from npm; a second one that is meant comes later. */
const echoMs = 500;

const config = readConfigOrExit({ servers: false });
const isTerminal = process.stdout.isTTY === true;
const processMs = Math.max(1_000, config.shutdownTimeoutMs - reserveMs);
const supervised: Supervised[] = [];
let servers: Servers | null = null;
let stopping: { readonly sinceMs: number } | null = null;

const say = (text: string) => process.stderr.write(`${text}\n`);

async function stop(exitCode: number, reason: string): Promise<void> {
  if (stopping !== null) return;
  stopping = { sinceMs: performance.now() };
  say(`  ${reason}`);
  const drained = await Promise.all(
    supervised.map(async (child) => ({ child, ok: await child.stop(processMs) })),
  );
  for (const { child, ok } of drained) if (!ok) say(`  ▲ ${child.name} did not drain in time and was killed`);
  await servers?.close();
  say(`  stopped in ${((performance.now() - stopping.sinceMs) / 1000).toFixed(1)} s`);
  process.exit(exitCode);
}

function onSignal(signal: NodeJS.Signals): void {
  if (stopping === null) return void stop(0, `${signal}: draining; once more ends everything at once`);
  if (performance.now() - stopping.sinceMs < echoMs) return;
  for (const child of supervised) {
    const pid = child.pid();
    if (pid !== null) process.kill(pid, 'SIGKILL');
  }
  // The servers end by themselves when the channel to them closes with this process.
  process.exit(signal === 'SIGINT' ? 130 : 143);
}

async function onLost(loss: Loss): Promise<void> {
  const portFault = loss.name === 'web' ? await findPortFault(config.port, config.host) : null;
  await stop(loss.exitCode, `✖ ${portFault ?? loss.sentence}`);
}

async function migrate(line: ProcfileLine, env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(line.command, line.args, {
    cwd: root,
    env,
    stdio: ['ignore', isTerminal ? 'pipe' : 'inherit', 'inherit'],
  });
  showTroubles(child, line.name, process.stderr);
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) await stop(code ?? 1, `✖ ${line.name} failed with code ${code}; it says why above`);
}

async function run(): Promise<void> {
  const startedMs = performance.now();
  const portFault = await findPortFault(config.port, config.host);
  if (portFault !== null) return stop(1, `✖ ${portFault}`);
  servers = await openServers(config, (text) => say(`  ${text}`));
  if (stopping !== null) return servers.close();
  void servers.lost.then((reason) => stop(1, `✖ ${reason}`));

  const env = { ...readEnvironment(), ...servers.env, SHUTDOWN_TIMEOUT_MS: String(processMs) };
  const lines = readProcfile(`${root}Procfile`);
  const release = lines.find((line) => line.name === 'release');
  if (release !== undefined) await migrate(release, env);
  if (stopping !== null) return;

  const keep = (line: ProcfileLine) =>
    supervise({
      line,
      cwd: root,
      env,
      pipesOutput: isTerminal,
      onSpawn: (name, child) => showTroubles(child, name, process.stderr),
      onDeath: (_name, sentence) => say(`  ▲ ${sentence}`),
      onLost: (loss) => void onLost(loss),
    });
  supervised.push(...lines.filter((line) => line !== release).map(keep));
  await Promise.all(supervised.map((child) => child.started));
  await waitUntilReady(baseUrl(), (reason) => say(`  waiting until the API is ready: ${reason}`));
  if (stopping !== null) return;
  announce(performance.now() - startedMs);
}

function baseUrl(): string {
  // An address that stands for all of them can be listened on, and not called.
  const host = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[config.host] ?? config.host;
  return `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${config.port}`;
}

function announce(tookMs: number): void {
  if (servers === null) return;
  const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string };
  const processes = supervised.map((child) => child.name);
  say(formatBanner({ version, baseUrl: baseUrl(), servers, processes }));
  say(`  ready after ${(tookMs / 1000).toFixed(1)} s; Ctrl+C drains and stops`);
  // A program that forked this one, such as the demo, is told what a person reads above.
  process.send?.({ type: 'ready', baseUrl: baseUrl(), adminApiKey: servers.adminApiKey?.value ?? null });
}

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => onSignal(signal));
process.on('disconnect', () => void stop(0, 'the program that started this one is gone: draining'));
process.channel?.unref();
run().catch((error: unknown) => stop(1, `✖ ${error instanceof Error ? error.message : String(error)}`));
