/** The agent: a process of its own that does one job, tells its parent of every step, and ends. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { agentEnvironment, commitAndPush, makeGit, type Git } from './git.js';
import type { AgentOrder, AgentReport } from './agent.js';
import type { SessionError } from './sessions.js';
import { runStep, type StepResult } from './step.js';

// Without its Orchestrator nobody could ask about this agent or stop it: it must not outlive it.
process.once('disconnect', endWholeGroup);
process.once('message', (order) => void work(order as AgentOrder));

async function work(order: AgentOrder): Promise<void> {
  try {
    await tell(await doJob(order));
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    await tell(failure({ code: 'AGENT_FAULT', message, retryable: true }, []));
  }
  endWholeGroup();
}

/** Ends this process and whatever a work item left running in the background. */
function endWholeGroup(): void {
  if (process.platform === 'win32') process.exit(0);
  process.kill(-process.pid, 'SIGKILL');
}

async function doJob({ job, taskId, attempt, title, workspace }: AgentOrder): Promise<AgentReport> {
  const { simulate } = job;
  await pause(simulate.startDelayMs);
  await tell({ kind: 'running' });
  if (attempt <= simulate.failAttempts) {
    return failure(
      { code: 'SIMULATED_FAILURE', message: `attempt ${attempt} fails on request`, retryable: true },
      [],
    );
  }
  const home = join(workspace, 'home');
  const tree = join(workspace, 'tree');
  mkdirSync(home, { recursive: true });
  const env = agentEnvironment(home);
  const branch = `agent/${taskId}`;
  const unready = await checkOut(makeGit(workspace, env), makeGit(tree, env), job, branch);
  if (unready !== null) return failure(unready, []);

  const steps: StepResult[] = [];
  for (const item of job.workItems) {
    const total = job.workItems.length;
    const percent = Math.floor((steps.length / total) * 100);
    await tell({ kind: 'progress', percent, message: `step ${steps.length + 1}/${total}: ${item.name}` });
    await pause(simulate.stepDelayMs);
    const step = await runStep(item, tree, env);
    steps.push(step);
    const error = faultOf(step, item.timeoutMs);
    if (error !== null) return failure(error, steps);
  }
  const message = `${title}\n\nTask: ${taskId}\nAttempt: ${attempt}`;
  try {
    // A first attempt never replaces a branch: what it finds there is a later attempt's work.
    const committed = await commitAndPush(makeGit(tree, env), branch, message, attempt > 1);
    return { kind: 'completed', result: { ...committed, steps } };
  } catch (error) {
    return failure({ code: 'PUSH_FAILED', message: (error as Error).message, retryable: true }, steps);
  }
}

async function checkOut(
  outside: Git,
  inside: Git,
  job: AgentOrder['job'],
  branch: string,
): Promise<SessionError | null> {
  try {
    await outside('clone', '--quiet', '--no-checkout', '--', job.repository, 'tree');
  } catch (error) {
    // A path that is not there stays away; a server that did not answer may be back for the next attempt.
    const retryable = !job.repository.startsWith('/') || existsSync(job.repository);
    return { code: 'REPOSITORY_UNAVAILABLE', message: (error as Error).message, retryable };
  }
  try {
    await inside('checkout', '--quiet', '--no-track', '-b', branch, `refs/remotes/origin/${job.branch}`);
    return null;
  } catch (error) {
    return { code: 'BRANCH_UNAVAILABLE', message: (error as Error).message, retryable: false };
  }
}

function faultOf(step: StepResult, timeoutMs: number): SessionError | null {
  if (step.timedOut) {
    const message = `"${step.name}" took longer than ${timeoutMs} ms`;
    return { code: 'WORK_ITEM_TIMED_OUT', message, retryable: false };
  }
  if (step.exitCode === 0) return null;
  const how = step.exitCode === null ? (step.signal ?? 'could not be run') : `exit code ${step.exitCode}`;
  const lastLine = step.tail.trim().split('\n').at(-1)?.slice(0, 200);
  const message = `"${step.name}" failed: ${how}${lastLine ? `: ${lastLine}` : ''}`;
  return { code: 'WORK_ITEM_FAILED', message, retryable: false };
}

function failure(error: SessionError, steps: StepResult[]): AgentReport {
  return { kind: 'failed', error, result: { commit: null, branch: null, changedFiles: [], steps } };
}

/** Resolves when the parent's pipe has taken the report, so that an end right after it loses nothing. */
function tell(report: AgentReport): Promise<void> {
  return new Promise((resolve) => process.send?.(report, undefined, undefined, () => resolve()));
}

function pause(ms: number): Promise<void> {
  return ms === 0 ? Promise.resolve() : new Promise((resolve) => setTimeout(resolve, ms));
}
