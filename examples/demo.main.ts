/**
 * The whole system at work on one machine: starts the service, adds the example Orchestrator as a backend, creates
 * the tasks of tasks.jsonl, shows their progress until all have ended, and checks that each ended as it should.
 *
 *   npm run demo              stays up for looking around, until Ctrl+C
 *   npm run demo -- --exit    ends everything; exit code 0 when all ended as expected, else 1
 *   npm run demo -- --json    one JSON object a line
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Child } from './demo/children.js';
import { createTasks, followTasks } from './demo/follow.js';
import { makeGit, prepareRepository } from './demo/repository.js';
import { makeJsonScreen, makeLiveScreen, makePlainScreen, type Screen, type Summary } from './demo/screen.js';
import { adminKeyFile, readSettings, type Settings } from './demo/settings.js';
import { addOrchestrator, backendName, startService, stopAll } from './demo/stage.js';
import { readTasks } from './demo/tasks.js';
import { judge } from './demo/verdict.js';

const limitMs = 5 * 60_000;

const { values: flags } = parseArgs({
  options: { exit: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});

function makeScreen(): Screen {
  const { stdout, env } = process;
  const write = (text: string): void => void stdout.write(text);
  if (flags.json) return makeJsonScreen(write);
  if (!stdout.isTTY || env['NO_COLOR'] || env['CI']) return makePlainScreen(write);
  return makeLiveScreen(write, () => ({ columns: stdout.columns || 80, rows: stdout.rows || 24 }));
}

/** True when every task ended as expected. */
async function play(settings: Settings, screen: Screen, own: Child[], signal: AbortSignal): Promise<boolean> {
  const repository = join(settings.demoDir, 'repository');
  mkdirSync(settings.demoDir, { recursive: true });
  screen.say('Starting the service … (the first start on a machine takes longest)');
  await startService(settings, own, signal);
  // From here on nobody else uses this folder: two services on one DATA_DIR exclude each other.
  screen.say('Making a repository from the sources of this project …');
  await prepareRepository(settings.projectRoot, repository);
  screen.say('Adding the example Orchestrator as a backend …');
  const call = await addOrchestrator(settings, own, signal);

  const id = `demo-${randomBytes(6).toString('hex')}`;
  const file = join(settings.projectRoot, 'examples/tasks.jsonl');
  const wanted = readTasks(file, { id, repository, backend: backendName, now: new Date() });
  const tasks = await createTasks(call, wanted);
  screen.say(`Created ${tasks.length} tasks.\n`);
  await followTasks(call, { id, tasks, limitMs }, (views) => screen.show(views), signal);
  const verdicts = await judge(call, makeGit(repository), tasks);
  screen.table(verdicts);

  const faults = verdicts.filter((one) => one.fault !== null).length;
  screen.sum({ ok: faults === 0, tasks: tasks.length, faults, look: whereToLook(settings, repository, id) });
  return faults === 0;
}

function whereToLook(settings: Settings, repository: string, id: string): Summary['look'] {
  return {
    api: `${settings.url}/v1/tasks?tag=${id}`,
    bullBoard: `${settings.url}/admin/queues`,
    key: settings.adminKey === null ? adminKeyFile(settings) : 'ADMIN_API_KEY',
    commits: `git -C ${repository} log --all --oneline`,
    logs: settings.demoDir,
  };
}

async function main(): Promise<number> {
  const settings = readSettings();
  const screen = makeScreen();
  const own: Child[] = [];
  const stop = new AbortController();
  const isStopped = new Promise<void>((resolve) => stop.signal.addEventListener('abort', () => resolve()));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  try {
    const isWell = await play(settings, screen, own, stop.signal);
    if (!flags.exit) {
      screen.say('\nEverything stays up. Ctrl+C ends it.');
      await Promise.race([isStopped, ...own.map((child) => child.ended)]);
    }
    return isWell ? 0 : 1;
  } catch (error) {
    if (stop.signal.aborted) return 130;
    process.stderr.write(`✖ ${error instanceof Error ? error.message : String(error)}\n`);
    return 1;
  } finally {
    if (own.length > 0) screen.say('Stopping …');
    await stopAll(own);
  }
}

process.exitCode = await main();
