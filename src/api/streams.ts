import type { Sql } from '../db/pool.js';
import { findStandings, type TaskStanding } from '../db/task-reads.js';
import { isTerminal } from '../domain/task.js';
import type { Logger } from '../logger.js';
import type { Caller } from './auth.js';
import { refusal } from './problems.js';

/** Why a watcher is called: its task is at this standing, or watching is over. */
export type Wake = TaskStanding | 'draining' | 'forbidden';

export type StreamHub = {
  /** Registers first; the caller reads afterwards, so that nothing falls between. Returns how to stop. */
  watch(taskId: string, keyId: string, wake: (wake: Wake) => void): () => void;
  /** Resolves when the task has ended, the time is over, the process drains or the client is gone. */
  untilEnded(
    taskId: string,
    options: { readonly timeoutMs: number; readonly keyId: string; readonly closed: AbortSignal },
  ): Promise<void>;
  /** Tasks that moved; unknown ids cost nothing. */
  notice(taskIds: readonly string[]): void;
  /** Looks at every watched task: after a reconnect nobody knows what was missed. */
  lookAtAll(): void;
  drain(): void;
  close(): void;
};

type Watcher = { readonly taskId: string; readonly keyId: string; readonly wake: (wake: Wake) => void };

const lookEveryMs = 2000;

/**
 * One hub for all that wait: notices wake those concerned, and every two seconds one statement reads the
 * standing of every watched task, so that a lost notice costs two seconds. Revoked keys end by it too.
 */
export function openStreamHub(deps: {
  readonly db: Sql;
  readonly callerOfKey: (keyId: string) => Promise<Caller | null>;
  readonly logger: Logger;
}): StreamHub {
  const watchers = new Map<string, Set<Watcher>>();
  const noticed = new Set<string>();
  let reading = false;
  let draining = false;

  const read = async (): Promise<void> => {
    if (reading) return;
    reading = true;
    try {
      while (noticed.size > 0) {
        const ids = [...noticed].slice(0, 1000);
        for (const id of ids) noticed.delete(id);
        for (const standing of await findStandings(deps.db, ids)) {
          for (const watcher of watchers.get(standing.id) ?? []) watcher.wake(standing);
        }
      }
    } catch (error) {
      deps.logger.debug('streams.unread', { error }); // the next look reads them again
    } finally {
      reading = false;
    }
  };

  const notice = (ids: readonly string[]): void => {
    for (const id of ids) if (watchers.has(id)) noticed.add(id);
    if (noticed.size > 0) setImmediate(() => void read());
  };

  const checkKeys = async (): Promise<void> => {
    const all = [...watchers.values()].flatMap((set) => [...set]);
    for (const keyId of new Set(all.map((watcher) => watcher.keyId))) {
      // While the database cannot be asked nobody is turned away: nothing can be read either.
      const caller = await deps.callerOfKey(keyId).catch(() => undefined);
      if (caller !== null) continue;
      for (const watcher of all) if (watcher.keyId === keyId) watcher.wake('forbidden');
    }
  };

  const timer = setInterval(() => {
    notice([...watchers.keys()]);
    void checkKeys();
  }, lookEveryMs);

  const watch: StreamHub['watch'] = (taskId, keyId, wake) => {
    const watcher = { taskId, keyId, wake };
    const set = watchers.get(taskId) ?? new Set();
    watchers.set(taskId, set.add(watcher));
    if (draining) setImmediate(() => wake('draining'));
    return () => {
      set.delete(watcher);
      if (set.size === 0 && watchers.get(taskId) === set) watchers.delete(taskId);
    };
  };

  return {
    watch,
    notice,
    untilEnded: (taskId, { timeoutMs, keyId, closed }) =>
      new Promise((resolve, reject) => {
        const finish = (error?: Error): void => {
          clearTimeout(timeout);
          closed.removeEventListener('abort', stop);
          unwatch();
          if (error === undefined) resolve();
          else reject(error);
        };
        const stop = (): void => finish();
        const unwatch = watch(taskId, keyId, (wake) => {
          if (wake === 'forbidden') finish(refusal('key_revoked', 'this API key was revoked; use another'));
          else if (wake === 'draining' || isTerminal(wake.state)) finish();
        });
        const timeout = setTimeout(stop, timeoutMs);
        closed.addEventListener('abort', stop);
        // It may have ended between the caller's read and this registration.
        notice([taskId]);
      }),
    lookAtAll: () => notice([...watchers.keys()]),
    drain() {
      draining = true;
      for (const set of watchers.values()) for (const watcher of set) watcher.wake('draining');
    },
    close: () => clearInterval(timer),
  };
}
