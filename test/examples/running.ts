import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export const secret = 'a secret for the example';

export type Running = {
  readonly url: string;
  readonly child: ChildProcess;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Ends it and returns its exit code, null when a signal did it. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<number | null>;
};
export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, any>; // oxlint-disable-line typescript/no-explicit-any -- whatever came
};

/** Starts the compiled example and waits for the line with its address. */
export async function startOrchestrator(
  folder: string,
  stateDir: string,
  args: string[] = [],
): Promise<Running> {
  const child = spawn(process.execPath, [join(folder, 'main.js'), '--state-dir', stateDir, ...args], {
    env: { PATH: process.env['PATH'], ORCHESTRATOR_SECRET: secret },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = once(child, 'exit');
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (line: Buffer) => resolve(/http:\S+/.exec(line.toString())?.[0] ?? ''));
    child.once('exit', (code) => reject(new Error(`the Orchestrator ended with ${code}`)));
  });
  return {
    url,
    child,
    call: async (method, path, body, headers = {}) => {
      const response = await fetch(url + path, {
        method,
        headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json', ...headers },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      return {
        status: response.status,
        headers: response.headers,
        body: (await response.json()) as Answer['body'],
      };
    },
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal);
      await ended;
      return child.exitCode;
    },
  };
}

/** Asks until it is so; what it is not in time is the failure's message. */
export async function eventually<T>(
  ask: () => T | Promise<T>,
  isSo: (value: T) => boolean,
  withinMs = 15_000,
): Promise<T> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const value = await ask();
    if (isSo(value)) return value;
    if (performance.now() > endMs) throw new Error(`not in time: ${JSON.stringify(value)?.slice(0, 2000)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
