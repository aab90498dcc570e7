import { expected, type Call, type WholeTask } from './api.js';
import type { Followed } from './follow.js';

export type Verdict = {
  readonly id: string;
  readonly title: string;
  readonly state: string;
  readonly attempts: number;
  readonly seconds: number;
  readonly commit: string | null;
  readonly error: string | null;
  /** What is not as it was expected to be; null if all is well. */
  readonly fault: string | null;
};

/** Reads every task once more and compares it with what was expected, and its commit with the repository. */
export async function judge(
  call: Call,
  git: (...args: string[]) => Promise<string>,
  tasks: readonly Followed[],
): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const trees = new Map<string, string>();
  for (const task of tasks) {
    const view = expected<WholeTask>(await call('GET', `/v1/tasks/${task.id}`), 'reading a task', 200);
    const commit = view.result?.commit ?? null;
    const fault =
      faultOf(task, view) ??
      (view.state === 'COMPLETED' ? await faultOfCommit(git, task, commit, trees) : null);
    const endMs = view.finishedAt === null ? Date.now() : Date.parse(view.finishedAt);
    verdicts.push({
      id: task.id,
      title: task.title,
      state: view.state,
      attempts: view.attempt,
      seconds: (endMs - Date.parse(view.createdAt)) / 1000,
      commit,
      error: view.error === null ? null : `${view.error.code}: ${view.error.message}`,
      fault,
    });
  }
  return verdicts;
}

function faultOf({ expectation }: Followed, view: WholeTask): string | null {
  const { expect, errorCode, attempts } = expectation;
  const said = view.error === null ? '' : ` (${view.error.code}: ${view.error.message})`;
  if (view.state !== expect) return `expected ${expect}${said}`;
  if (errorCode !== null && view.error?.code !== errorCode) return `expected ${errorCode}${said}`;
  return view.attempt === attempts ? null : `expected ${attempts} attempts`;
}

/** The commit is in the repository, on the task's own branch, and holds other files than every other one. */
async function faultOfCommit(
  git: (...args: string[]) => Promise<string>,
  task: Followed,
  commit: string | null,
  trees: Map<string, string>,
): Promise<string | null> {
  if (commit === null) return 'nothing was committed';
  try {
    const branch = await git('rev-parse', '--verify', '--quiet', `refs/heads/agent/${task.id}`);
    if (branch !== commit) return `its branch is at ${branch.slice(0, 10)}, not at ${commit.slice(0, 10)}`;
    const tree = await git('rev-parse', '--verify', '--quiet', `${commit}^{tree}`);
    const twin = trees.get(tree);
    trees.set(tree, task.title);
    return twin === undefined ? null : `its files are the same as those of "${twin}"`;
  } catch {
    return `its commit ${commit.slice(0, 10)} is not in the repository`;
  }
}
