import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { isInsidePath, type WorkItem } from './context.js';

/** What is told of one work item. `tail`: the end of what it printed, without control characters. */
export type StepResult = {
  readonly name: string;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly ms: number;
  readonly tail: string;
};

const tailBytes = 4096;

/** Runs one work item in `workTree`; never throws, and takes no longer than its time limit. */
export async function runStep(item: WorkItem, workTree: string, env: NodeJS.ProcessEnv): Promise<StepResult> {
  const begun = performance.now();
  const opened: number[] = [];
  try {
    const [program] = item.command;
    const isBuiltIn = program === 'write' || program === 'append' || program === 'remove';
    const ended = isBuiltIn ? edit(item.command, workTree) : await runProgram(item, workTree, env, opened);
    return { name: item.name, ...ended, ms: Math.round(performance.now() - begun) };
  } catch (error) {
    const tail = error instanceof Error ? error.message : String(error);
    return { name: item.name, exitCode: null, signal: null, timedOut: false, ms: 0, tail };
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

type Ended = Pick<StepResult, 'exitCode' | 'signal' | 'timedOut' | 'tail'>;

function runProgram(
  item: WorkItem,
  workTree: string,
  env: NodeJS.ProcessEnv,
  opened: number[],
): Promise<Ended> {
  const open = (path: string, flags: string): number => {
    const fd = openSync(placeInside(workTree, path), flags);
    opened.push(fd);
    return fd;
  };
  const input = item.stdinFrom === null ? 'ignore' : open(item.stdinFrom, 'r');
  const output = item.stdoutTo === null ? 'pipe' : open(item.stdoutTo, 'w');
  const [program, ...args] = item.command;
  return new Promise((resolve) => {
    // No shell, and no process group of its own: whoever ends the agent's group ends this one too.
    const child = spawn(program === 'node' ? process.execPath : program, args, {
      cwd: workTree,
      env,
      stdio: [input, output, 'pipe'],
    });
    let tail = Buffer.alloc(0);
    const keep = (chunk: Buffer): void => {
      tail = Buffer.concat([tail, chunk]).subarray(-tailBytes);
    };
    child.stdout?.on('data', keep);
    child.stderr?.on('data', keep);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill('SIGKILL');
    }, item.timeoutMs);
    const end = (exitCode: number | null, signal: string | null, message: string | null): void => {
      clearTimeout(timer);
      resolve({ exitCode, signal, timedOut, tail: message ?? printable(tail) });
    };
    child.once('error', (error) => end(null, null, error.message));
    // `close` waits for the pipes, which something left behind by the program may hold open: not for ever.
    child.once('exit', (code, signal) => {
      const late = setTimeout(() => end(code, signal, null), 500);
      child.once('close', () => {
        clearTimeout(late);
        end(code, signal, null);
      });
    });
  });
}

function edit(command: readonly string[], workTree: string): Ended {
  const [verb, path = '', ...words] = command;
  const place = placeInside(workTree, path);
  const text = `${words.join(' ')}\n`;
  if (verb === 'remove') rmSync(place);
  else writeFileSync(place, text, { flag: verb === 'append' ? 'a' : 'w' });
  return { exitCode: 0, signal: null, timedOut: false, tail: '' };
}

/** The absolute place of a relative path; folders are made. A link that leads out of the work tree is refused. */
function placeInside(workTree: string, path: string): string {
  if (!isInsidePath(path)) throw new Error('not a path inside the work tree');
  const root = realpathSync(workTree);
  const place = join(root, path);
  mkdirSync(dirname(place), { recursive: true });
  for (const real of [realpathSync(dirname(place)), realPlace(place)]) {
    if (real !== root && !real.startsWith(root + sep)) throw new Error(`${path} leads out of the work tree`);
  }
  return place;
}

function realPlace(place: string): string {
  try {
    return realpathSync(place);
  } catch {
    return place;
  }
}

/** Backends and terminals choke on control characters; line breaks and tabs are text. */
function printable(bytes: Buffer): string {
  return Array.from(bytes.toString('utf8'))
    .filter((letter) => letter === '\n' || letter === '\t' || (letter >= ' ' && letter !== '\u007f'))
    .join('');
}
