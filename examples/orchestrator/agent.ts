import { fork, type ChildProcess } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Job } from './context.js';
import type { SessionError } from './sessions.js';

export type AgentOrder = {
  readonly job: Job;
  readonly taskId: string;
  readonly attempt: number;
  /** First line of the commit message. */
  readonly title: string;
  /** A folder of its own that is removed when the agent is gone. */
  readonly workspace: string;
};

/** What an agent says of itself; `completed` and `failed` are its last words. */
export type AgentReport =
  | { readonly kind: 'running' }
  | { readonly kind: 'progress'; readonly percent: number; readonly message: string }
  | { readonly kind: 'completed'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly error: SessionError; readonly result: unknown };

export type Agent = {
  readonly pid: number | undefined;
  /** Ends the agent's whole process group; resolves when the process is gone. */
  kill(): Promise<void>;
  /** The process is gone and its workspace removed. */
  readonly gone: Promise<void>;
};

export type StartAgent = (
  sessionId: string,
  order: Omit<AgentOrder, 'workspace'>,
  hear: (report: AgentReport) => void,
) => Agent;

/** Agents work under `dir`, each in a folder of its own; what a crash left there is removed first. */
export function makeStartAgent(dir: string): StartAgent {
  rmSync(dir, { recursive: true, force: true });
  return (sessionId, order, hear) => {
    const workspace = join(dir, sessionId);
    mkdirSync(workspace, { recursive: true, mode: 0o700 });
    const child = fork(fileURLToPath(new URL('./agent-child.js', import.meta.url)), [], {
      // `detached` makes it the leader of a process group, so that a kill reaches what its work items started.
      detached: true,
      execArgv: [],
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (report) => hear(report as AgentReport));
    // Nobody waits for this event by name alone: unheard it would end this process.
    child.on('error', () => undefined);
    child.send({ ...order, workspace } satisfies AgentOrder, () => undefined);
    const gone = endOf(child)
      .then(() => rm(workspace, { recursive: true, force: true, maxRetries: 3 }))
      // What could not be removed now is removed by the next start.
      .catch(() => undefined);
    return {
      pid: child.pid,
      kill: async () => {
        killGroup(child);
        await gone;
      },
      gone,
    };
  };
}

/** Both: `exit` alone may come before its last words were read, `disconnect` alone before it is dead. */
async function endOf(child: ChildProcess): Promise<void> {
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const silent = new Promise<void>((resolve) => {
    if (!child.connected) resolve();
    child.once('disconnect', () => resolve());
    child.once('error', () => resolve());
  });
  await Promise.all([exited, silent]);
}

function killGroup(child: ChildProcess): void {
  // An exit that was seen frees the number for others: only a process that is still ours may be signalled.
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // No such group: it ended this instant, or this platform has none.
    child.kill('SIGKILL');
  }
}
