import {
  closeSync,
  existsSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { isRecord } from './context.js';

export const endedStatuses = ['completed', 'failed', 'killed'] as const;
export type SessionStatus = 'spawning' | 'running' | (typeof endedStatuses)[number];
export type SessionError = { readonly code: string; readonly message: string; readonly retryable: boolean };

/** One agent's life. Kept: what a repeated spawn, a status question and a late callback need; never the context. */
export type Session = {
  readonly id: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly idempotencyKey: string;
  /** SHA-256 of the spawn request's bytes: tells a repeated request from another one under the same key. */
  readonly bodyHash: string;
  readonly callbackUrl: string;
  readonly callbackToken: string;
  readonly traceparent: string | null;
  readonly startedAt: string;
  status: SessionStatus;
  progress: { percent: number; message: string } | null;
  result: unknown;
  error: SessionError | null;
  /** Number of the last callback made for this session. */
  sequence: number;
  endedAt: string | null;
  /** Its last callback was answered for good, so there is nothing left to tell. */
  told: boolean;
};

export type SessionTable = {
  find(id: string): Session | null;
  findByKey(idempotencyKey: string): Session | null;
  /** Newest first; all of them without a task id. */
  list(taskId: string | null): Session[];
  /** Adds or saves a session; on return it survives a crash of this process and of the machine. */
  save(session: Session): void;
  close(): void;
};

const keepEndedMs = 48 * 3_600_000;

/**
 * Opens the table kept in `dir/sessions.jsonl`: one whole session a line, the last line of an id counts.
 * The file carries callback tokens, so only this user may read it.
 * Writing is synchronous: two requests with one key can never pass each other between look-up and save.
 */
export function openSessions(dir: string, now: () => Date): SessionTable {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = join(dir, 'sessions.jsonl');
  const oldest = now().getTime() - keepEndedMs;
  const sessions = new Map<string, Session>();
  for (const session of readLines(file)) sessions.set(session.id, session);
  for (const session of sessions.values()) {
    if (session.endedAt !== null && Date.parse(session.endedAt) < oldest) sessions.delete(session.id);
  }
  const byKey = new Map([...sessions.values()].map((session) => [session.idempotencyKey, session]));

  // Rewritten at each start, under another name first: a crash here leaves the old file whole.
  const draft = openSync(`${file}.new`, 'w', 0o600);
  for (const session of sessions.values()) writeSync(draft, `${JSON.stringify(session)}\n`);
  fdatasyncSync(draft);
  closeSync(draft);
  renameSync(`${file}.new`, file);
  const journal = openSync(file, 'a', 0o600);

  return {
    find: (id) => sessions.get(id) ?? null,
    findByKey: (key) => byKey.get(key) ?? null,
    list: (taskId) =>
      [...sessions.values()].filter((one) => taskId === null || one.taskId === taskId).toReversed(),
    save: (session) => {
      writeSync(journal, `${JSON.stringify(session)}\n`);
      fdatasyncSync(journal);
      sessions.set(session.id, session);
      byKey.set(session.idempotencyKey, session);
    },
    close: () => closeSync(journal),
  };
}

/** A line cut short by a crash was never answered for: it is skipped. */
function readLines(file: string): Session[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => {
      try {
        const value: unknown = JSON.parse(line);
        return isRecord(value) && typeof value['id'] === 'string' ? [value as Session] : [];
      } catch {
        return [];
      }
    });
}

export function hasEnded(session: Session): boolean {
  return session.status === 'completed' || session.status === 'failed' || session.status === 'killed';
}
