import { spawn, type ChildProcess } from 'node:child_process';
import type { ProcfileLine } from './procfile.js';

const deathsTolerated = 5;
const deathWindowMs = 60_000;
const restartDelayMs = 200;
/** `EX_CONFIG`: what a start again would not cure. */
const configurationExitCode = 78;

export type Loss = { readonly name: string; readonly sentence: string; readonly exitCode: number };

export type Supervised = {
  readonly name: string;
  /** Resolves when the process has said for the first time that it is started; never rejects. */
  readonly started: Promise<void>;
  pid(): number | null;
  /** Asks it to drain, kills it after the time, and waits until it is gone. False when it had to be killed. */
  stop(timeoutMs: number): Promise<boolean>;
};

/**
 * Keeps one process of the Procfile running until it is stopped. It is started again when it dies, a little later
 * each time; after five deaths within a minute, or at once when it refuses its configuration, `onLost` is told.
 */
export function supervise(options: {
  readonly line: ProcfileLine;
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
  /** Gets each new process: its output is a pipe where `pipesOutput`, else this process's own. */
  readonly onSpawn: (name: string, child: ChildProcess) => void;
  readonly pipesOutput: boolean;
  readonly onDeath: (name: string, sentence: string) => void;
  readonly onLost: (loss: Loss) => void;
}): Supervised {
  const { line, onLost } = options;
  let child: ChildProcess | null = null;
  let isStopping = false;
  let timer: NodeJS.Timeout | undefined;
  let deaths: number[] = [];
  let sayStarted: () => void = () => undefined;
  const started = new Promise<void>((resolve) => (sayStarted = resolve));

  const begin = () => {
    child = spawnLine(options);
    options.onSpawn(line.name, child);
    child.on('message', (message) => {
      if (message === 'started') sayStarted();
    });
    let isOver = false;
    const over = (how: string, exitCode: number | null) => {
      if (isOver) return;
      isOver = true;
      child = null;
      if (!isStopping) onEnd(how, exitCode);
    };
    child.once('error', (error) => over(`could not be run (${error.message})`, null));
    child.once('exit', (code, signal) =>
      over(signal === null ? `ended with code ${code}` : `was ended by ${signal}`, code),
    );
  };

  const onEnd = (how: string, exitCode: number | null) => {
    const { name } = line;
    if (exitCode === configurationExitCode) {
      return onLost({ name, sentence: `${name} refuses to run; it says why above`, exitCode });
    }
    deaths = [...deaths.filter((at) => performance.now() - at < deathWindowMs), performance.now()];
    if (deaths.length >= deathsTolerated) {
      const sentence = `${name} died ${deaths.length} times within a minute; the last time it ${how}`;
      return onLost({ name, sentence, exitCode: 1 });
    }
    options.onDeath(name, `${name} ${how} and is started again`);
    timer = setTimeout(begin, restartDelayMs * 2 ** (deaths.length - 1));
  };

  begin();
  return {
    name: line.name,
    started,
    pid: () => child?.pid ?? null,
    stop: async (timeoutMs) => {
      isStopping = true;
      clearTimeout(timer);
      return child === null ? true : end(child, timeoutMs);
    },
  };
}

/**
 * Detached, so that Ctrl+C in a terminal reaches the supervisor alone and each process is told to drain once; with a
 * channel, so that it notices when the supervisor is killed and leaves no orphan.
 */
function spawnLine(options: Parameters<typeof supervise>[0]): ChildProcess {
  const { line, cwd, env, pipesOutput } = options;
  const output = pipesOutput ? 'pipe' : 'inherit';
  return spawn(line.command, line.args, {
    cwd,
    env,
    detached: true,
    stdio: ['ignore', output, 'inherit', 'ipc'],
  });
}

async function end(child: ChildProcess, timeoutMs: number): Promise<boolean> {
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  let isKilled = false;
  const late = setTimeout(() => {
    isKilled = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  await gone;
  clearTimeout(late);
  return !isKilled;
}
