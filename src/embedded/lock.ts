import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';

type Holder = { readonly pid: number; readonly startedAt: string };

export type DirectoryLock = {
  /** True when an earlier holder was killed: its servers may still be running. */
  readonly wasAbandoned: boolean;
  release(): void;
};

/**
 * One host a data directory. A host that is just stopping is waited for; one that lives is an error that names it;
 * one that was killed is replaced. Postgres's own lock file would stop a second cluster, but not a second
 * Valkey from opening the same append-only file where only Valkey is embedded.
 */
export async function lockDirectory(dataDir: string, waitMs: number): Promise<DirectoryLock> {
  const file = join(dataDir, 'host.lock');
  const self: Holder = { pid: process.pid, startedAt: readStartTime(process.pid) ?? '' };
  const deadline = performance.now() + waitMs;
  let wasAbandoned = false;
  for (;;) {
    try {
      writeFileSync(file, JSON.stringify(self), { flag: 'wx', mode: 0o600 });
      return { wasAbandoned, release: () => rmSync(file, { force: true }) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const holder = readHolder(file);
    if (holder === null || !isAlive(holder)) {
      wasAbandoned = true;
      rmSync(file, { force: true });
    } else if (performance.now() > deadline) {
      throw new Error(
        `DATA_DIR ${dataDir} is in use by another start (its servers belong to process ${holder.pid}). ` +
          'Fix: stop that one, or set DATA_DIR to another directory',
      );
    } else {
      await wait(50);
    }
  }
}

function readHolder(file: string): Holder | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Holder;
  } catch {
    return null;
  }
}

/** A number alone is not proof: after a restart of a container the same pid is soon someone else. */
function isAlive(holder: Holder): boolean {
  const startedAt = readStartTime(holder.pid);
  if (startedAt !== null) return startedAt === holder.startedAt;
  try {
    process.kill(holder.pid, 0);
    return process.platform !== 'linux';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** When the process began, on this boot of this machine; null where the system does not tell. */
function readStartTime(pid: number): string | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    // The command's name comes second, in brackets, and may itself hold brackets and blanks.
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return `${boot} ${state.slice(state.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`;
  } catch {
    return null;
  }
}
