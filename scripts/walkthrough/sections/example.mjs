/** Section 6: the example Orchestrator, whose agents are processes that work in a git repository. */
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run, temporary } from '../programs.mjs';

const secret = 'the-secret-of-the-example';

/** A repository with one commit. */
function makeRepository() {
  const repository = temporary();
  const git = (...args) => execFileSync('git', ['-C', repository, ...args], { stdio: 'ignore' });
  git('init', '-q', '-b', 'main');
  writeFileSync(join(repository, 'words.txt'), 'pear\napple\n');
  git('add', '.');
  git('-c', 'user.name=walk', '-c', 'user.email=walk@example.com', 'commit', '-q', '-m', 'words');
  return repository;
}

/** @type {[string, (t: any) => Promise<void>][]} */
export const example = [
  [
    'The example Orchestrator does real work: an agent sorts a file of a repository and commits it',
    async (t) => {
      const [repository, stateDir] = [makeRepository(), temporary()];
      const args = ['--state-dir', stateDir];
      const program = run('examples/orchestrator/main.js', { ORCHESTRATOR_SECRET: secret }, { args });
      t.after(async () => {
        program.kill('SIGTERM');
        await program.within(10_000);
        for (const directory of [repository, stateDir]) rmSync(directory, { recursive: true, force: true });
      });
      const url = await t.until('it listens', () => /http:\S+/.exec(program.out())?.[0]);
      const backend = await t.ask('POST', '/v1/backends', {
        body: { name: 'example', protocol: 'gateway', url, auth: { type: 'bearer', secret } },
        expect: 201,
        pick: ['id', 'name', 'url', 'auth', 'health'],
      });
      const { id } = backend.json;
      t.after(() => t.admin('DELETE', `/v1/backends/${id}?force=true`));
      const test = await t.ask('POST', `/v1/backends/${id}/test`, { expect: 200 });
      t.is('every step', [test.json.ok, test.json.steps.length], [true, 4]);
      const work = [{ name: 'sort', command: ['sort', 'words.txt'], stdoutTo: 'sorted.txt' }];
      const context = { repository, branch: 'main', workItems: work, simulate: { failAttempts: 1 } };
      const task = await t.task({ type: 'sort', context, backend: { name: 'example' } });
      const { json } = await t.ask('GET', `/v1/tasks/${task.id}?wait=30`, {
        expect: 200,
        pick: ['state', 'attempt', 'error'],
      });
      t.is(
        'the first attempt failed as it was asked to, the second did it',
        [json.state, json.attempt],
        ['COMPLETED', 2],
      );
      t.ok(
        'the result names the changed file',
        JSON.stringify(json.result).includes('sorted.txt'),
        json.result,
      );
      const moves = (await t.events(task.id)).filter(({ from, to }) => from !== to).map(({ to }) => to);
      t.ok('a legal walk', moves.join(' ').startsWith('PENDING DISPATCHED'), moves);
      const long = { repository, branch: 'main', workItems: [{ name: 'nap', command: ['sleep', '60'] }] };
      const nap = await t.task({ type: 'nap', context: long, backend: { id } });
      await t.inState(nap.id, 'RUNNING');
      await t.ask('POST', `/v1/tasks/${nap.id}/cancel`, {
        body: { reason: 'no naps' },
        expect: 202,
        pick: ['state', 'cancelRequestedAt'],
      });
      t.is('its process was killed', (await t.inState(nap.id, 'CANCELLED', 'FAILED')).state, 'CANCELLED');
    },
  ],
];
