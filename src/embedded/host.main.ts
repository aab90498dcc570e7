/**
 * The process that owns the embedded servers. It is forked detached: Ctrl+C reaches the main process alone, which
 * first drains its workers, who still need both servers. When main goes away, even by kill -9, the channel closes
 * and the servers are stopped: no orphan is left.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { keepRunning, type KeptServer } from './kept-server.js';
import { lockDirectory, type DirectoryLock } from './lock.js';
import type { HostCommand, HostMessage, HostRequest } from './messages.js';
import { installPostgres, startPostgres, stopOrphanedPostgres } from './postgres.js';
import { installValkey, startValkey, stopOrphanedValkey } from './valkey.js';

const lockWaitMs = 5_000;

const servers: KeptServer[] = [];
let lock: DirectoryLock | undefined;
let stopping: Promise<void> | undefined;

function say(message: HostMessage): void {
  if (process.connected) process.send?.(message, () => undefined);
}

const progress = (text: string) => say({ type: 'progress', text });

function giveUp(message: string): void {
  say({ type: 'failed', message });
  void stop(1);
}

async function start(request: HostRequest): Promise<void> {
  const { dataDir, want } = request;
  mkdirSync(join(dataDir, 'logs'), { recursive: true });
  lock = await lockDirectory(dataDir, lockWaitMs);
  const orphaned = lock.wasAbandoned;
  const [postgres, valkey] = await Promise.all([
    want.postgres ? openPostgres(dataDir, orphaned) : null,
    want.valkey ? openValkey(request, orphaned) : null,
  ]);
  say({
    type: 'ready',
    servers: {
      databaseUrl: postgres?.url ?? null,
      valkeyUrl: valkey?.url ?? null,
      versions: { postgres: postgres?.version ?? null, valkey: valkey?.version ?? null },
    },
  });
}

async function openPostgres(dataDir: string, orphaned: boolean) {
  const installed = await installPostgres(dataDir, progress);
  if (orphaned) await stopOrphanedPostgres(installed);
  // SIGINT is Postgres's fast shutdown; SIGTERM would wait for every session to leave by itself.
  return keep('Postgres', 'SIGINT', (port) => startPostgres(installed, port));
}

async function openValkey(request: HostRequest, orphaned: boolean) {
  if (orphaned) await stopOrphanedValkey(request.dataDir);
  const installed = await installValkey(request, progress);
  return keep('Valkey', 'SIGTERM', (port) => startValkey(installed, port));
}

async function keep<T extends Parameters<typeof keepRunning>[0]['first']>(
  name: string,
  stopSignal: NodeJS.Signals,
  startOn: (port?: number) => Promise<T>,
): Promise<T> {
  const first = await startOn();
  servers.push(keepRunning({ name, stopSignal, first, startOn, progress, giveUp }));
  return first;
}

function stop(exitCode: number): Promise<void> {
  stopping ??= (async () => {
    await Promise.allSettled(servers.map((server) => server.stop()));
    lock?.release();
    process.exit(exitCode);
  })();
  return stopping;
}

process.on('message', (command: HostCommand) => {
  if (command.type === 'stop') return void stop(0);
  start(command.request).catch((error: unknown) =>
    giveUp(error instanceof Error ? error.message : String(error)),
  );
});
process.on('disconnect', () => void stop(0));
// A signal to the whole group or unit is main's to answer: it drains first, and then closes the channel.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
