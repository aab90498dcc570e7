import { spawn } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';

export type Child = {
  readonly name: string;
  readonly logFile: string;
  /** The first line on stdout that fits, or a rejection when it ends without one. */
  line(pattern: RegExp): Promise<string>;
  hasEnded(): boolean;
  /** Its exit code, null when a signal ended it. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, and SIGKILL when that was not enough; resolves when it is gone. */
  stop(patienceMs: number): Promise<number | null>;
  lastWords(): string;
};

/**
 * Starts a program of this project, its output in `logFile`.
 * It leads a process group of its own, so that Ctrl+C reaches this process alone, which then ends the others in
 * order; and it has a channel to this process, whose end tells it that this process was killed.
 */
export function startChild(
  name: string,
  script: string,
  args: string[],
  env: NodeJS.ProcessEnv,
  logFile: string,
): Child {
  const child = spawn(process.execPath, [script, ...args], {
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const log = createWriteStream(logFile, { mode: 0o600 });
  child.stdout?.pipe(log, { end: false });
  child.stderr?.pipe(log, { end: false });
  child.on('error', (error) => log.write(`${error.message}\n`));
  let isOver = false;
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', () => resolve(null));
    child.once('close', (code) => resolve(code));
  }).finally(() => {
    isOver = true;
    log.end();
  });
  // What it started on purpose ends with it; the group is asked only if the leader did not answer.
  const killGroup = (): void => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      child.kill('SIGKILL');
    }
  };
  return {
    name,
    logFile,
    ended,
    hasEnded: () => isOver,
    line: (pattern) =>
      new Promise((resolve, reject) => {
        let text = '';
        child.stdout?.on('data', (chunk: Buffer) => {
          if (text.length < 100_000) text += chunk.toString();
          const found = text.split('\n').find((one) => pattern.test(one));
          if (found !== undefined) resolve(found);
        });
        void ended.then((code) =>
          reject(new Error(`${name} ended with code ${code}; its log is ${logFile}`)),
        );
      }),
    stop: async (patienceMs) => {
      if (isOver) return ended;
      child.kill('SIGTERM');
      const timer = setTimeout(killGroup, patienceMs);
      return ended.finally(() => clearTimeout(timer));
    },
    lastWords: () => readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-15).join('\n'),
  };
}
