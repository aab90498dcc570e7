import { chownSync, lstatSync, readdirSync, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { runCommand } from './server-process.js';

/** Debian's, macOS's and every container image's `nobody`: it owns nothing and has a passwd entry. */
const nobody = { uid: 65534, gid: 65534 };

/** How a Postgres binary is started: Postgres refuses root, and an account without a passwd entry. */
export type PostgresAccount = {
  /** Put before the binary and its arguments. */
  readonly prefix: readonly string[];
  /** Given to spawn; undefined keeps the account of the starter. */
  readonly account: { readonly uid: number; readonly gid: number } | undefined;
};

/**
 * An ordinary user starts it as itself. For root, and for a number without a passwd entry as some containers give, a
 * user namespace is tried: no file changes hands, and it works below a closed home directory. Containers often refuse
 * namespaces: then root runs it as `nobody`, who must be able to reach the binaries and the data.
 */
export async function findPostgresAccount(): Promise<PostgresAccount> {
  const isRoot = process.getuid?.() === 0;
  if (!isRoot && hasPasswdEntry()) return { prefix: [], account: undefined };
  const prefix = ['unshare', '--user', `--map-user=${nobody.uid}`, `--map-group=${nobody.gid}`];
  const probe = await runCommand([...prefix, 'true'], { timeoutMs: 5_000 });
  if (probe.code === 0) return { prefix, account: undefined };
  if (isRoot) return { prefix: [], account: nobody };
  throw new Error(
    `Postgres refuses to run as user ${process.getuid?.()}, who has no passwd entry, and user namespaces are not allowed here. ` +
      'Fix: start as a user that /etc/passwd knows, or set DATABASE_URL',
  );
}

function hasPasswdEntry(): boolean {
  try {
    return userInfo().username !== '';
  } catch {
    return false;
  }
}

/** The first directory above `path`, or `path` itself, that `nobody` may not pass; null when it can be reached. */
export function findClosedDirectory(path: string): string | null {
  const parent = dirname(path);
  const closedAbove = parent === path ? null : findClosedDirectory(parent);
  if (closedAbove !== null) return closedAbove;
  const state = statSync(path, { throwIfNoEntry: false });
  return state !== undefined && state.isDirectory() && (state.mode & 0o001) === 0 ? path : null;
}

/** Gives a directory to the account that Postgres will run as; a directory already its own is left alone. */
export function giveDirectory(directory: string, account: PostgresAccount['account']): void {
  // Only root can give files away; an ordinary user meets a foreign directory as a plain EACCES.
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = account ?? { uid: 0, gid: 0 };
  if (statSync(directory).uid === uid) return;
  const pending = [directory];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const state = lstatSync(path);
    if (state.isSymbolicLink()) continue;
    if (state.isDirectory()) for (const name of readdirSync(path)) pending.push(join(path, name));
    chownSync(path, uid, gid);
  }
}
