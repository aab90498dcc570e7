import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';

const logLimitBytes = 10 * 1024 * 1024;

export type ServerCommand = {
  /** The binary and its arguments. */
  readonly argv: readonly string[];
  readonly cwd?: string;
  /** The account to run as, where the starter is root and the server refuses root. */
  readonly account?: { readonly uid: number; readonly gid: number } | undefined;
  /** Both output streams are appended here. */
  readonly logFile: string;
};

export type ServerProcess = {
  readonly pid: number;
  /** Resolves when the process has ended, however it did; never rejects. */
  readonly exited: Promise<void>;
  isRunning(): boolean;
  /** What the server wrote since this start, its last 2 KB. */
  output(): string;
  /** Asks with the signal, and kills after the deadline. */
  stop(signal: NodeJS.Signals, deadlineMs: number): Promise<void>;
};

/** Starts a server and returns at once; rejects only where the binary cannot be run at all. */
export async function startServerProcess(server: ServerCommand): Promise<ServerProcess> {
  const writtenBefore = prepareLog(server.logFile);
  const log = openSync(server.logFile, 'a', 0o600);
  const [command = '', ...args] = server.argv;
  const child = spawn(command, args, {
    stdio: ['ignore', log, log],
    cwd: server.cwd,
    ...server.account,
  });
  closeSync(log);
  // `error` without a pid means that nothing was started; afterwards `exit` says all there is to know.
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await once(child, 'spawn');
  child.on('error', () => undefined);
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${command} was started without a process id`);
  const isRunning = () => child.exitCode === null && child.signalCode === null;
  return {
    pid,
    exited,
    isRunning,
    output: () => readFileSync(server.logFile, 'utf8').slice(writtenBefore).slice(-2048).trim(),
    stop: async (signal, deadlineMs) => {
      if (!isRunning()) return;
      child.kill(signal);
      const late = new AbortController();
      const ended = await Promise.race([
        exited.then(() => true),
        wait(deadlineMs, false, { signal: late.signal }).catch(() => true),
      ]);
      late.abort();
      if (ended) return;
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** The log's length in characters before this start; a log that grew too long starts anew. */
function prepareLog(logFile: string): number {
  const sizeBytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (sizeBytes > logLimitBytes) truncateSync(logFile, 0);
  return sizeBytes === 0 || sizeBytes > logLimitBytes ? 0 : readFileSync(logFile, 'utf8').length;
}

/** Runs a command to its end. Gives the exit code (null for a signal) and what it wrote, both streams together. */
export async function runCommand(
  argv: readonly string[],
  options: Pick<ServerCommand, 'cwd' | 'account'> & { readonly timeoutMs: number },
): Promise<{ code: number | null; output: string }> {
  const [command = '', ...args] = argv;
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    timeout: options.timeoutMs,
    ...options.account,
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (output += chunk));
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, output: `${output}${error.message}` }));
    child.once('close', (code) => resolve({ code, output }));
  });
}

/** A port of the loopback interface that was free a moment ago; who loses the race for it tries another. */
export async function findFreePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('the loopback interface gave no port');
  return address.port;
}
