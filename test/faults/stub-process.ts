import { fork } from 'node:child_process';
import { join } from 'node:path';

/** One spawn request that arrived whole. */
export type CountedSpawn = {
  readonly taskId: string;
  readonly attempt: number;
  readonly key: string;
  /** Of the body's bytes. */
  readonly hash: string;
  /** When its head arrived, ms since the epoch. */
  readonly headAt: number;
  /** When its last byte arrived. */
  readonly at: number;
  readonly answeredAt: number | null;
  /** When its connection broke before the answer was out. */
  readonly cutAt: number | null;
  readonly sessionId: string | null;
};

export type StubReport = {
  readonly spawns: readonly CountedSpawn[];
  /** Each try to call back; status 0 is a connection that failed. */
  readonly callbacks: readonly { status: number; ms: number; at: number }[];
  readonly kills: readonly { sessionId: string; at: number }[];
  /** Agents that came to their end. */
  readonly ended: number;
  readonly pings: readonly number[];
  readonly sessions: readonly { id: string; taskId: string; attempt: number; status: string }[];
};

export type StubSettings = {
  answerMs: number;
  stepMs: number;
  asks: boolean;
  cutStartsAgent: boolean;
  fails: boolean;
};

export type StubProcess = {
  readonly url: string;
  set(settings: Partial<StubSettings>): Promise<void>;
  report(): Promise<StubReport>;
  count(): Promise<{ spawns: number; inFlight: number; ended: number; pings: number }>;
  /** Forgets what was counted; sessions stay. */
  forget(): Promise<void>;
  down(): Promise<void>;
  up(): Promise<void>;
  /**
   * Sends `signal` to `pid` in the instant in which `sends` spawns are in flight; from now until then none is answered.
   */
  killAt(pid: number, signal: NodeJS.Signals, sends: number): Promise<{ inFlight: number; at: number }>;
  close(): Promise<void>;
};

type Reply = { readonly id: number; readonly value: unknown };

/** Starts the honest Orchestrator; it ends with this process at the latest. */
export async function openStubProcess(name = 'stub'): Promise<StubProcess> {
  const child = fork(join(process.cwd(), 'test', 'faults', 'stub.mjs'), [name], {
    execArgv: [],
    // Not the environment of the tests: it would bring Jest's options.
    env: { PATH: process.env['PATH'] ?? '' },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const waiting = new Map<number, (value: unknown) => void>();
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let last = 0;
  child.on('message', ({ id, value }: Reply) => {
    waiting.get(id)?.(value);
    waiting.delete(id);
  });
  const listening = new Promise<unknown>((resolve) => waiting.set(0, resolve));
  const ask = <T>(command: string, given: unknown = null): Promise<T> => {
    last += 1;
    const id = last;
    return new Promise<T>((resolve) => {
      waiting.set(id, (value) => resolve(value as T));
      child.send({ id, command, given });
    });
  };
  const { port } = (await listening) as { port: number };
  return {
    url: `http://127.0.0.1:${port}`,
    set: (settings) => ask('set', settings),
    report: () => ask('report'),
    count: () => ask('count'),
    forget: () => ask('forget'),
    down: () => ask('down'),
    up: () => ask('up'),
    killAt: (pid, signal, sends) => ask('killAt', { pid, signal, sends }),
    async close() {
      child.disconnect();
      await exited;
    },
  };
}
