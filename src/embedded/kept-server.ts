import type { ServerProcess } from './server-process.js';

const deathsTolerated = 5;
const deathWindowMs = 60_000;
const stopLimitMs = 15_000;

type Running = { readonly url: string; readonly version: string; readonly server: ServerProcess };

export type KeptServer = { stop(): Promise<void> };

/**
 * Starts a server again, on the same port, each time it dies, until it is stopped; after five deaths within a minute
 * `giveUp` is told instead. Clients hold the URL, so it never changes.
 */
export function keepRunning(options: {
  readonly name: string;
  readonly stopSignal: NodeJS.Signals;
  readonly first: Running;
  readonly startOn: (port: number) => Promise<Running>;
  readonly progress: (text: string) => void;
  readonly giveUp: (message: string) => void;
}): KeptServer {
  const { name, first, progress, giveUp } = options;
  const port = Number(new URL(first.url).port);
  let current = first.server;
  let isStopping = false;
  let restart: Promise<void> = Promise.resolve();
  let deaths: number[] = [];

  const watch = () => {
    void current.exited.then(() => {
      if (!isStopping) restart = startAgain();
    });
  };
  const startAgain = async () => {
    deaths = [...deaths.filter((at) => performance.now() - at < deathWindowMs), performance.now()];
    if (deaths.length >= deathsTolerated) {
      giveUp(`${name} died ${deaths.length} times within a minute: ${current.output()}`);
      return;
    }
    progress(`${name} died and is started again`);
    try {
      current = (await options.startOn(port)).server;
      watch();
    } catch (error) {
      giveUp(
        `${name} died and could not be started again: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  };
  watch();

  return {
    stop: async () => {
      isStopping = true;
      await restart;
      await current.stop(options.stopSignal, stopLimitMs);
    },
  };
}
