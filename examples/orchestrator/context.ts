/**
 * What an agent of this Orchestrator can be asked to do, and the checks that decide whether it may.
 *
 * The allow-list is a fence against accidents, not a sandbox: `node` and `git` can run anything that the user
 * of this process may run. Whoever holds the secret can execute programs here, so run it as a user of its own.
 * What the list does give: no shell ever reads a command, so no quoting mistake in a context turns an argument
 * into a second command; and the set of programs a reader has to think about is short.
 */
const reading = ['ls', 'cat', 'grep', 'wc', 'sort', 'uniq', 'head', 'tail', 'cut', 'echo', 'tee'];
/** The work tree's own history, and the work tree's own tools. */
const ownTools = ['git', 'node'];
/** They take time and end in a known way, for trying out limits and failures. */
const rehearsing = ['sleep', 'true', 'false'];
export const allowedPrograms: ReadonlySet<string> = new Set([...reading, ...ownTools, ...rehearsing]);

/** Carried out by the agent itself: `write <path> <text>`, `append <path> <text>`, `remove <path>`. */
export const builtIns: ReadonlySet<string> = new Set(['write', 'append', 'remove']);

export type WorkItem = {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly timeoutMs: number;
  /** A path in the work tree that standard input is read from; without it there is no input. */
  readonly stdinFrom: string | null;
  /** A path in the work tree that standard output goes to, instead of the result's tail. */
  readonly stdoutTo: string | null;
};

/** Delays and failures on request, so that a producer can see what those look like. */
export type Simulate = {
  readonly startDelayMs: number;
  readonly stepDelayMs: number;
  /** Attempts of the task that end with a retryable failure before one is let through. */
  readonly failAttempts: number;
};

export type Job = {
  readonly repository: string;
  readonly branch: string;
  readonly workItems: readonly WorkItem[];
  readonly simulate: Simulate;
};

export type Checked<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly faults: string[] };

const maxItems = 50;
const defaultTimeoutMs = 60_000;
const maxTimeoutMs = 600_000;

/** Reads a task's context: `{repository, branch, workItems: [{name, command, …}], simulate?}`; names every fault at once. */
export function readContext(context: unknown): Checked<Job> {
  if (!isRecord(context)) return { ok: false, faults: ['context must be an object'] };
  const faults: string[] = [];
  const { repository, branch } = context;
  if (!isRepository(repository)) {
    faults.push(
      'context.repository must be an absolute path or a file, https or ssh URL of a git repository',
    );
  }
  if (!isBranch(branch)) faults.push('context.branch must be the name of a branch');
  const items = Array.isArray(context['workItems']) ? context['workItems'] : [];
  if (items.length < 1 || items.length > maxItems) {
    faults.push(`context.workItems must be a list of 1 to ${maxItems} work items`);
  }
  const workItems = items.slice(0, maxItems).flatMap((item, index) => readItem(item, index, faults));
  const simulate = readSimulate(context['simulate'] ?? {}, faults);
  if (faults.length > 0) return { ok: false, faults };
  return { ok: true, value: { repository, branch, workItems, simulate } as Job };
}

function readItem(item: unknown, index: number, faults: string[]): WorkItem[] {
  const at = `context.workItems[${index}]`;
  if (!isRecord(item)) {
    faults.push(`${at} must be an object`);
    return [];
  }
  const before = faults.length;
  const { name, command, timeoutMs = defaultTimeoutMs, stdinFrom = null, stdoutTo = null } = item;
  const must = (isRight: boolean, fault: string): void => {
    if (!isRight) faults.push(`${at}${fault}`);
  };
  must(typeof name === 'string' && name !== '' && name.length <= 200, '.name must be a short text');
  must(isWholeNumber(timeoutMs, 1, maxTimeoutMs), `.timeoutMs must be 1 to ${maxTimeoutMs}`);
  must(isCommand(command), '.command must be a list of texts: the program and its arguments');
  if (isCommand(command)) {
    const [program, path] = command;
    const isBuiltIn = builtIns.has(program);
    const isKnown = isBuiltIn || allowedPrograms.has(program);
    must(isKnown, `.command: "${program.slice(0, 40)}" is not on the list of programs that may be run`);
    must(!isBuiltIn || isInsidePath(path), `.command: ${program} needs a relative path in the work tree`);
  }
  must(stdinFrom === null || isInsidePath(stdinFrom), '.stdinFrom must be a relative path in the work tree');
  must(stdoutTo === null || isInsidePath(stdoutTo), '.stdoutTo must be a relative path in the work tree');
  // What passed the checks above has exactly these types.
  return faults.length > before ? [] : [{ name, command, timeoutMs, stdinFrom, stdoutTo } as WorkItem];
}

function readSimulate(simulate: unknown, faults: string[]): Simulate {
  const wish = isRecord(simulate) ? simulate : {};
  const { startDelayMs = 0, stepDelayMs = 0, failAttempts = 0 } = wish;
  const numbers = { startDelayMs, stepDelayMs, failAttempts };
  for (const [key, value] of Object.entries(numbers)) {
    if (!isWholeNumber(value, 0, maxTimeoutMs))
      faults.push(`context.simulate.${key} must be 0 to ${maxTimeoutMs}`);
  }
  return numbers as Simulate;
}

/** A leading dash would be read as an option by git, and addresses like "ext::" run programs. */
function isRepository(text: unknown): boolean {
  if (typeof text !== 'string' || text.includes('::')) return false;
  return /^(\/|file:\/\/|https:\/\/|ssh:\/\/)[^\s\0]{1,1000}$/.test(text);
}

function isBranch(text: unknown): boolean {
  return typeof text === 'string' && /^[A-Za-z0-9][\w./-]{0,199}$/.test(text) && !text.includes('..');
}

/** Relative, without a way out and without git's own folder; links are followed and checked when the step runs. */
export function isInsidePath(path: unknown): path is string {
  if (typeof path !== 'string' || path === '' || path.length > 300 || path.includes('\0')) return false;
  return (
    !path.startsWith('/') && path.split(/[\\/]/).every((part) => part !== '..' && !/^\.git$/i.test(part))
  );
}

function isCommand(command: unknown): command is [string, ...string[]] {
  if (!Array.isArray(command) || command.length < 1 || command.length > 100) return false;
  return command.every((part) => typeof part === 'string' && !part.includes('\0')) && command[0] !== '';
}

function isWholeNumber(value: unknown, min: number, max: number): value is number {
  return Number.isInteger(value) && Number(value) >= min && Number(value) <= max;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
