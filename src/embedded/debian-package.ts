import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './server-process.js';

const debianKeyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const machineSources = ['/etc/apt/sources.list', '/etc/apt/sources.list.d'];

export type PrivateServer = { readonly command: string; readonly libraryPath: string };

/** A server package and what else must be unpacked with it: the server itself is a link into the tools package. */
const candidates = [
  { server: 'valkey-server', packages: ['valkey-server', 'valkey-tools'] },
  { server: 'redis-server', packages: ['redis-server', 'redis-tools'] },
] as const;

/**
 * Fetches Valkey (or Redis, where the release has no Valkey) with the machine's own apt, without root and without
 * touching the system: lists, cache and the unpacked files live below `directory`. Only what apt has verified by its
 * signature is unpacked. Returns null where apt is missing or the archive has neither or cannot be reached.
 */
export async function fetchPrivateServer(
  directory: string,
  progress: (text: string) => void,
): Promise<PrivateServer | null> {
  const known = findUnpacked(directory);
  if (known !== null) return known;
  if (!existsSync('/usr/bin/apt-get') || !existsSync('/usr/bin/dpkg')) return null;
  progress('Valkey: none on PATH, fetching the signed Debian package into a private directory');
  // Work in a draft and rename it at the end: what exists under the final name is whole.
  const draft = `${directory}.${process.pid}`;
  try {
    const release = await prepareSources(draft);
    const updated = await runApt(draft, ['update']);
    if (updated.code !== 0) return null;
    for (const { packages } of candidates) {
      if (!(await download(draft, packages, release))) continue;
      takePlace(join(draft, 'root'), directory);
      return findUnpacked(directory);
    }
    return null;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

function takePlace(unpacked: string, directory: string): void {
  // Another start may have fetched it meanwhile, and its server may already run from there.
  if (findUnpacked(directory) !== null) return;
  rmSync(directory, { recursive: true, force: true });
  renameSync(unpacked, directory);
}

function findUnpacked(directory: string): PrivateServer | null {
  const found = candidates
    .map(({ server }) => join(directory, 'usr', 'bin', server))
    .find((file) => existsSync(file));
  if (found === undefined) return null;
  const lib = join(directory, 'usr', 'lib');
  // Debian keeps libraries in a directory named after the architecture, such as x86_64-linux-gnu.
  const libraryPath = readdirSync(lib).filter((name) => name.includes('-linux-gnu'));
  return { command: found, libraryPath: [lib, ...libraryPath.map((name) => join(lib, name))].join(':') };
}

/**
 * Lays out a private apt directory: the machine's own sources, so that its mirrors and proxies are used, and on Debian
 * the same archive's backports, where Valkey is for Debian 12. Returns the backports' name, or null.
 */
async function prepareSources(draft: string): Promise<string | null> {
  for (const path of ['lists/partial', 'cache/archives/partial', 'sources', 'root']) {
    mkdirSync(join(draft, path), { recursive: true });
  }
  for (const source of machineSources.filter((path) => existsSync(path))) {
    if (source.endsWith('.list')) symlinkSync(source, join(draft, 'sources', 'machine.list'));
    else
      for (const name of readdirSync(source)) symlinkSync(join(source, name), join(draft, 'sources', name));
  }
  const system = readFileSync('/etc/os-release', 'utf8');
  const codename = /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(system)?.[1];
  if (codename === undefined || !/^ID="?debian"?$/m.test(system)) return null;
  const uris = await runApt(draft, ['update', '--print-uris']);
  const release = new RegExp(`'(\\S+/)dists/${codename}/InRelease'`);
  const archive = release.exec(uris.output)?.[1];
  if (archive === undefined) return null;
  const signedBy = existsSync(debianKeyring) ? `[signed-by=${debianKeyring}] ` : '';
  const backports = `${codename}-backports`;
  writeFileSync(join(draft, 'sources', 'zz-backports.list'), `deb ${signedBy}${archive} ${backports} main\n`);
  return backports;
}

/** Downloads the packages and whatever they need that the system lacks, and unpacks them below `draft/root`. */
async function download(
  draft: string,
  packages: readonly string[],
  backports: string | null,
): Promise<boolean> {
  const install = ['install', '--yes', '--no-install-recommends', '--download-only', '--reinstall'];
  const wanted = [packages, ...(backports === null ? [] : [packages.map((name) => `${name}/${backports}`)])];
  for (const names of wanted.toReversed()) {
    const archives = join(draft, 'cache', 'archives');
    if ((await runApt(draft, [...install, ...names])).code !== 0) continue;
    for (const name of readdirSync(archives).filter((file) => file.endsWith('.deb'))) {
      const unpacked = await runCommand(['dpkg', '-x', join(archives, name), join(draft, 'root')], {
        timeoutMs: 60_000,
      });
      if (unpacked.code !== 0) return false;
    }
    return findUnpacked(join(draft, 'root')) !== null;
  }
  return false;
}

function runApt(draft: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const settings = {
    'Dir::State': draft,
    'Dir::State::lists': join(draft, 'lists'),
    'Dir::State::status': '/var/lib/dpkg/status',
    'Dir::Cache': join(draft, 'cache'),
    'Dir::Etc::sourcelist': '/dev/null',
    'Dir::Etc::sourceparts': join(draft, 'sources'),
    // The state is private, and an ordinary user may not take the system's lock.
    'Debug::NoLocking': '1',
    // As root apt would download as the account `_apt`, who cannot reach a closed home directory.
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '1',
    'Acquire::http::Timeout': '15',
    'Acquire::https::Timeout': '15',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  return runCommand(['apt-get', '-q', ...options, ...args], { timeoutMs: 120_000 });
}
