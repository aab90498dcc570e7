import { fork, type ChildProcess } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EmbeddedServers, HostCommand, HostMessage, HostRequest } from './messages.js';

const stopLimitMs = 25_000;

export type Embedded = EmbeddedServers & {
  /** Resolves with the reason when the servers are gone although nobody closed them; never rejects. */
  readonly lost: Promise<string>;
  /** The host's process id: the servers are its children. */
  readonly hostPid: number;
  /** Stops both servers and waits for them; may be called again. */
  close(): Promise<void>;
};

/**
 * Starts the wanted servers, private and on loopback, with their data in `dataDir`, in a process of their own that
 * ends with this one. Rejects with a sentence that names the cure. `log` gets a line for each slow step.
 */
export async function openEmbedded(options: {
  readonly dataDir: string;
  readonly valkeyServer: string | null;
  /** Where a fetched Valkey is kept between starts; `dataDir` unless it says otherwise. */
  readonly packageDir?: string;
  readonly want: { readonly postgres: boolean; readonly valkey: boolean };
  readonly log: (text: string) => void;
  /** The compiled host; only a caller that itself runs uncompiled has to say where it is. */
  readonly hostFile?: string;
}): Promise<Embedded> {
  const dataDir = resolve(options.dataDir);
  makeDataDir(dataDir);
  const hostFile = options.hostFile ?? fileURLToPath(new URL('./host.main.js', import.meta.url));
  const host = fork(hostFile, [], {
    detached: true,
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    execArgv: [],
  });
  const exited = new Promise<void>((done) => host.once('exit', () => done()));
  const servers = await startServers(
    host,
    { ...options, packageDir: options.packageDir ?? null, dataDir },
    options.log,
  );
  let isClosing = false;
  const lost = new Promise<string>((tell) => {
    let reason = 'the process that holds the embedded servers ended';
    host.on('message', (message: HostMessage) => {
      if (message.type === 'progress') options.log(message.text);
      if (message.type === 'failed') reason = message.message;
    });
    void exited.then(() => {
      if (!isClosing) tell(reason);
    });
  });
  return {
    ...servers,
    lost,
    hostPid: host.pid ?? 0,
    close: async () => {
      isClosing = true;
      await stopHost(host, exited);
    },
  };
}

function makeDataDir(dataDir: string): void {
  try {
    // Others may pass through and not look: Postgres may have to run as another account than ours.
    mkdirSync(dataDir, { recursive: true, mode: 0o711 });
  } catch (error) {
    throw new Error(
      `DATA_DIR ${dataDir} cannot be made (${(error as Error).message}). Fix: set DATA_DIR to a directory of yours`,
      {
        cause: error,
      },
    );
  }
}

async function startServers(
  host: ChildProcess,
  { dataDir, valkeyServer, packageDir, want }: HostRequest,
  log: (text: string) => void,
): Promise<EmbeddedServers> {
  return new Promise((done, refuse) => {
    const onMessage = (message: HostMessage) => {
      if (message.type === 'progress') return log(message.text);
      settle();
      if (message.type === 'ready') done(message.servers);
      else refuse(new Error(message.message));
    };
    const onExit = () => {
      settle();
      refuse(new Error('the process that holds the embedded servers ended while it started'));
    };
    const settle = () => {
      host.off('message', onMessage);
      host.off('exit', onExit);
    };
    host.on('message', onMessage);
    host.once('exit', onExit);
    host.send({ type: 'start', request: { dataDir, valkeyServer, packageDir, want } } satisfies HostCommand);
  });
}

async function stopHost(host: ChildProcess, exited: Promise<void>): Promise<void> {
  if (host.connected) host.send({ type: 'stop' } satisfies HostCommand, () => undefined);
  const late = setTimeout(() => host.kill('SIGKILL'), stopLimitMs);
  await exited;
  clearTimeout(late);
}
