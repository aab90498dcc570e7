import { fetchPrivateServer } from './debian-package.js';
import { runCommand } from './server-process.js';

export type ValkeyBinary = { readonly command: string; readonly prefix: readonly string[] };

/** BullMQ uses commands that came with Redis 6.2. */
const oldestRedis = [6, 2] as const;

const cures: Partial<Record<NodeJS.Platform, string>> = {
  darwin: 'brew install valkey',
  linux:
    'install the package valkey (or redis) with your package manager, for example: apt-get install valkey-server',
  win32: 'docker run -d -p 6379:6379 valkey/valkey, and set VALKEY_URL=redis://127.0.0.1:6379',
};

/**
 * Finds a server to run: `valkeyServer` if one is named, else one on PATH, else a private package.
 * `packageDir` keeps the package between starts. Throws, with the one command to run on this platform.
 */
export async function findValkeyBinary(
  valkeyServer: string | null,
  packageDir: string,
  progress: (text: string) => void,
): Promise<ValkeyBinary> {
  if (valkeyServer !== null) {
    const refusal = await findRefusal({ command: valkeyServer, prefix: [] });
    if (refusal === null) return { command: valkeyServer, prefix: [] };
    throw new Error(`VALKEY_SERVER names ${valkeyServer}, which cannot be used: ${refusal}`);
  }
  const refusals: string[] = [];
  for (const command of ['valkey-server', 'redis-server']) {
    const refusal = await findRefusal({ command, prefix: [] });
    if (refusal === null) return { command, prefix: [] };
    if (!refusal.includes('ENOENT')) refusals.push(`${command}: ${refusal}`);
  }
  const fetched = await fetchPrivateServer(packageDir, progress);
  if (fetched !== null) {
    // Through env(1), so that the rest of the environment is handed on as it is.
    const binary = { command: fetched.command, prefix: ['env', `LD_LIBRARY_PATH=${fetched.libraryPath}`] };
    const refusal = await findRefusal(binary);
    if (refusal === null) return binary;
    refusals.push(`${fetched.command}: ${refusal}`);
  }
  const found = refusals.length === 0 ? '' : ` (${refusals.join('; ')})`;
  const cure = cures[process.platform] ?? 'install Valkey';
  throw new Error(
    `Valkey: no usable valkey-server or redis-server found${found}. Fix: ${cure}, or set VALKEY_URL`,
  );
}

/** Why a binary cannot be used; null when it can. */
async function findRefusal(binary: ValkeyBinary): Promise<string | null> {
  const argv = [...binary.prefix, binary.command, '--version'];
  const { code, output } = await runCommand(argv, { timeoutMs: 5_000 });
  if (code !== 0) return output.trim().split('\n')[0] ?? 'it does not run';
  const version = /v=(\d+)\.(\d+)/.exec(output);
  if (version === null) return `it does not say its version: ${output.trim().slice(0, 100)}`;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const isOld = major < oldestRedis[0] || (major === oldestRedis[0] && minor < oldestRedis[1]);
  return isOld ? `it is version ${major}.${minor}, and ${oldestRedis.join('.')} is needed` : null;
}
