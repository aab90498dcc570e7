import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import got, { type Method } from 'got';
import { findFreePort } from '../../src/embedded/server-process.js';
import { openTestDatabase, openTestValkey } from './database.js';
import { eventually } from './eventually.js';

export type ProcessName = 'web' | 'dispatch' | 'transitions' | 'scheduler';
export type Ended = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type SystemChild = {
  readonly name: ProcessName;
  readonly pid: number;
  /** Where this process listens; null for all but `web`. */
  readonly baseUrl: string | null;
  kill(signal: NodeJS.Signals): void;
  readonly exited: Promise<Ended>;
  /** The last lines of its log, parsed where they are JSON. */
  log(): readonly (Readonly<Record<string, unknown>> | string)[];
};

export type ApiAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Parsed where the answer is JSON, else its text. */
  readonly body: any; // oxlint-disable-line typescript/no-explicit-any -- each test knows what it asked for
};

export type System = {
  readonly baseUrl: string;
  readonly adminKey: string;
  readonly databaseUrl: string;
  readonly valkeyUrl: string;
  readonly queuePrefix: string;
  readonly env: Readonly<Record<string, string>>;
  /** All that run or ran, in the order in which they were started. */
  readonly children: readonly SystemChild[];
  startOne(name: ProcessName): Promise<SystemChild>;
  /** With the admin key, unless `headers` say otherwise; never throws for a status. */
  api(method: Method, path: string, body?: unknown, headers?: Record<string, string>): Promise<ApiAnswer>;
  /** Drains all; throws when one of those still running did not exit 0. Then drops the database. */
  stop(): Promise<void>;
};

const files: Record<ProcessName, string> = {
  web: 'api/web.main.js',
  dispatch: 'workers/dispatch.main.js',
  transitions: 'workers/transitions.main.js',
  scheduler: 'workers/scheduler.main.js',
};

const stopLimitMs = 28_000;
const keptLines = 500;

/** Short intervals: a test waits for what they bring about. Everything else is what a user gets. */
const quick = {
  HEALTH_INTERVAL_MS: '500',
  SWEEP_INTERVAL_MS: '200',
  RECONCILE_INTERVAL_MS: '500',
  RECONCILE_SILENCE_MS: '2000',
  DISPATCH_BACKOFF_BASE_MS: '100',
  DISPATCH_BACKOFF_MAX_MS: '1000',
  BACKEND_ALLOW_CIDRS: '127.0.0.0/8,::1/128',
};

/**
 * The real, compiled processes against a fresh database and keys of their own, one of each unless `processes` says
 * otherwise. They end by themselves when the test's process does.
 */
export async function openSystem(
  options: { env?: Record<string, string>; processes?: Partial<Record<ProcessName, number>> } = {},
): Promise<System> {
  const database = await openTestDatabase();
  const valkey = openTestValkey();
  const port = await findFreePort();
  const adminKey = `mdk_${randomBytes(32).toString('base64url')}`;
  const env = {
    DATABASE_URL: database.url,
    VALKEY_URL: valkey.url,
    QUEUE_PREFIX: valkey.prefix,
    ADMIN_API_KEY: adminKey,
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
    HOST: '127.0.0.1',
    PORT: String(port),
    PUBLIC_URL: `http://127.0.0.1:${port}`,
    ...quick,
    ...options.env,
  };
  const baseUrl = `http://127.0.0.1:${env.PORT}`;
  const children: SystemChild[] = [];
  const startOne = async (name: ProcessName): Promise<SystemChild> => {
    // Callbacks go to the first web; a later one, or one in place of a killed one, takes the port that is free.
    const isFirst = name === 'web' && !(await isListening(baseUrl));
    const ownPort = isFirst ? env.PORT : String(await findFreePort());
    const { child, started } = startChild(name, { ...env, PORT: ownPort });
    children.push(child);
    await started;
    return child;
  };
  const stop = async () => {
    try {
      await stopAll(children);
    } finally {
      await database.close();
    }
  };
  try {
    const wanted = Object.entries({
      web: 1,
      dispatch: 1,
      transitions: 1,
      scheduler: 1,
      ...options.processes,
    });
    // One web first: the others of its kind look whether its port is taken.
    const names = wanted.flatMap(([name, count]) => Array.from({ length: count }, () => name as ProcessName));
    for (const name of names.filter((one) => one === 'web')) await startOne(name);
    await Promise.all(names.filter((one) => one !== 'web').map(startOne));
    if (names.includes('web')) await eventually(() => checkReady(baseUrl), { timeoutMs: 15_000 });
  } catch (error) {
    for (const child of children) child.kill('SIGKILL');
    await database.close();
    throw error;
  }
  return {
    baseUrl,
    adminKey,
    databaseUrl: database.url,
    valkeyUrl: valkey.url,
    queuePrefix: valkey.prefix,
    env,
    children,
    startOne,
    stop,
    api: (method, path, body, headers) =>
      ask(`${baseUrl}${path}`, method, body, { authorization: `Bearer ${adminKey}`, ...headers }),
  };
}

function startChild(
  name: ProcessName,
  env: Record<string, string>,
): { child: SystemChild; started: Promise<void> } {
  const file = join(process.cwd(), 'dist', 'src', files[name]);
  const spawned = spawn(process.execPath, ['--enable-source-maps', file], {
    // Not the environment of the tests: it would bring Jest's options, and a developer's settings.
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const lines: (Record<string, unknown> | string)[] = [];
  for (const stream of [spawned.stdout, spawned.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(parseLine(line));
      if (lines.length > keptLines) lines.shift();
    });
  }
  const exited = new Promise<Ended>((resolve) => {
    spawned.once('close', (code, signal) => resolve({ code, signal }));
  });
  const started = waitUntilStarted(name, spawned, exited, lines);
  const child: SystemChild = {
    name,
    pid: spawned.pid ?? 0,
    baseUrl: name === 'web' ? `http://127.0.0.1:${env['PORT']}` : null,
    kill: (signal) => void spawned.kill(signal),
    exited,
    log: () => lines,
  };
  return { child, started };
}

async function waitUntilStarted(
  name: ProcessName,
  spawned: ChildProcess,
  exited: Promise<Ended>,
  lines: readonly unknown[],
): Promise<void> {
  const said = new Promise<null>((resolve) => {
    spawned.on('message', (message) => {
      if (message === 'started') resolve(null);
    });
  });
  const ended = await Promise.race([said, exited]);
  if (ended !== null) throw new Error(`${name} ended while it started: ${JSON.stringify({ ended, lines })}`);
}

async function stopAll(children: readonly SystemChild[]): Promise<void> {
  const ends = await Promise.all(
    children.map(async (child) => {
      const before = await Promise.race([child.exited, wait(0, null)]);
      if (before !== null) return null;
      child.kill('SIGTERM');
      const end = await Promise.race([child.exited, wait(stopLimitMs, null, { ref: false })]);
      if (end === null) child.kill('SIGKILL');
      return end?.code === 0
        ? null
        : { process: child.name, end: end ?? 'did not stop', log: child.log().slice(-20) };
    }),
  );
  const faults = ends.filter((end) => end !== null);
  if (faults.length > 0)
    throw new Error(`not every process stopped with 0: ${JSON.stringify(faults, null, 1)}`);
}

async function checkReady(baseUrl: string): Promise<void> {
  const { status, body } = await ask(`${baseUrl}/readyz`, 'GET', undefined, {});
  if (status !== 200) throw new Error(`/readyz answers ${status}: ${JSON.stringify(body)}`);
}

const isListening = (baseUrl: string): Promise<boolean> =>
  ask(`${baseUrl}/livez`, 'GET', undefined, {}).then(
    () => true,
    () => false,
  );

async function ask(
  url: string,
  method: Method,
  body: unknown,
  headers: Record<string, string>,
): Promise<ApiAnswer> {
  const answer = await got(url, {
    method,
    headers,
    ...(body === undefined ? {} : { json: body }),
    throwHttpErrors: false,
    followRedirect: false,
    retry: { limit: 0 },
    timeout: { request: 70_000 },
  });
  return { status: answer.statusCode, headers: answer.headers, body: parseBody(answer.body) };
}

function parseLine(line: string): Record<string, unknown> | string {
  const value = parseBody(line);
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : line;
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
