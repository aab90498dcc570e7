import { execFile } from 'node:child_process';
import { devNull } from 'node:os';

export type Git = (...args: string[]) => Promise<string>;

/**
 * What git and the work items get to see: a path, a home and nothing of this process's own environment, so that
 * no secret of the Orchestrator ever reaches a program named by a context.
 */
export function agentEnvironment(home: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    HOME: home,
    LANG: 'C.UTF-8',
    // A repository's address must not start a program (ext::), ask a person, or obey this machine's settings.
    GIT_ALLOW_PROTOCOL: 'file:https:ssh',
    GIT_TERMINAL_PROMPT: '0',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: devNull,
    GIT_AUTHOR_NAME: 'Example agent',
    GIT_AUTHOR_EMAIL: 'agent@example.invalid',
    GIT_COMMITTER_NAME: 'Example agent',
    GIT_COMMITTER_EMAIL: 'agent@example.invalid',
  };
}

/** git in one work tree; rejects with what git said on stderr. */
export function makeGit(cwd: string, env: NodeJS.ProcessEnv): Git {
  return (...args) =>
    new Promise((resolve, reject) => {
      const options = { cwd, env, timeout: 120_000, maxBuffer: 8 * 1024 * 1024 };
      execFile(
        'git',
        ['-c', `core.hooksPath=${devNull}`, '-c', 'gc.auto=0', ...args],
        options,
        (error, stdout, stderr) => {
          if (error === null) resolve(stdout.trimEnd());
          else
            reject(
              new Error(`git ${args[0]}: ${(stderr.trim() || error.message).slice(-500)}`, { cause: error }),
            );
        },
      );
    });
}

export type Committed = {
  readonly commit: string | null;
  readonly branch: string | null;
  readonly changedFiles: string[];
};

/** Commits what changed and pushes it as `branch`; nothing changed is nothing to push, and no fault. */
export async function commitAndPush(
  git: Git,
  branch: string,
  message: string,
  mayReplace: boolean,
): Promise<Committed> {
  await git('add', '--all');
  const changed = (await git('diff', '--cached', '--name-only', '-z'))
    .split('\0')
    .filter((name) => name !== '');
  if (changed.length === 0) return { commit: null, branch: null, changedFiles: [] };
  await git('commit', '--quiet', '--no-verify', '--no-gpg-sign', '--message', message);
  const force = mayReplace ? ['--force'] : [];
  await git('push', '--quiet', ...force, 'origin', `HEAD:refs/heads/${branch}`);
  return { commit: await git('rev-parse', 'HEAD'), branch, changedFiles: changed.slice(0, 200) };
}
