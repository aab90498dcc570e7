import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TaskView, WholeTask } from '../../examples/demo/api.js';
import { makeGit, prepareRepository } from '../../examples/demo/repository.js';
import { makeJsonScreen, makeLiveScreen, makePlainScreen } from '../../examples/demo/screen.js';
import { readTasks } from '../../examples/demo/tasks.js';
import { judge } from '../../examples/demo/verdict.js';
import { readContext } from '../../examples/orchestrator/context.js';

const root = join(import.meta.dirname, '../..');
const view = (values: Partial<WholeTask>): WholeTask => ({
  id: 'task_1',
  title: 'A title',
  state: 'RUNNING',
  attempt: 1,
  progress: null,
  waiting: null,
  error: null,
  result: null,
  createdAt: '2026-01-01T00:00:00.000Z',
  finishedAt: null,
  ...values,
});

describe('the tasks of the demo', () => {
  const run = { id: 'demo-1', repository: '/somewhere', backend: 'example', now: new Date(0) };
  const tasks = readTasks(join(root, 'examples/tasks.jsonl'), run);

  test('are at least twenty, and the example Orchestrator accepts the context of each', () => {
    expect(tasks.length).toBeGreaterThanOrEqual(20);
    for (const { body } of tasks) expect(readContext(body['context'])).toMatchObject({ ok: true });
  });

  test('have titles and keys of their own, and nothing in them is for the demo alone', () => {
    expect(new Set(tasks.map(({ title }) => title)).size).toBe(tasks.length);
    expect(new Set(tasks.map(({ body }) => body['idempotencyKey'])).size).toBe(tasks.length);
    for (const { body } of tasks) expect(body).not.toHaveProperty('demo');
  });

  test('show a failure, a cancellation, a busy backend, a second attempt, an urgent and a scheduled one', () => {
    const having = (isSo: (task: (typeof tasks)[number]) => boolean): number => tasks.filter(isSo).length;
    expect(having(({ expectation }) => expectation.errorCode === 'WORK_ITEM_FAILED')).toBe(1);
    expect(having(({ expectation }) => expectation.cancelWhenRunning)).toBe(1);
    expect(having(({ expectation }) => expectation.attempts === 2)).toBe(1);
    expect(having(({ body }) => JSON.stringify(body['metadata'])?.includes('busy-once') ?? false)).toBe(1);
    expect(having(({ body }) => body['priority'] === 1)).toBe(1);
    expect(having(({ body }) => body['scheduledFor'] === '1970-01-01T00:00:06.000Z')).toBe(1);
  });
});

describe('the repository of the demo', () => {
  let scratch: string;
  let repository: string;
  let git: (...args: string[]) => Promise<string>;
  const judged = async (...views: WholeTask[]) => {
    const byId = new Map(views.map((one) => [one.id, one]));
    const call = (_method: string, path: string) =>
      Promise.resolve({ status: 200, body: byId.get(path.split('/').at(-1) ?? '') });
    const expectation = {
      expect: 'COMPLETED',
      errorCode: null,
      attempts: 1,
      cancelWhenRunning: false,
    } as const;
    const verdicts = await judge(
      call,
      git,
      views.map(({ id, title }) => ({ id, title, body: {}, expectation })),
    );
    return verdicts.map(({ fault }) => fault);
  };
  /** A commit on the task's branch with a file of this content. */
  const work = async (id: string, content: string): Promise<string> => {
    await git('checkout', '--quiet', '-b', `agent/${id}`, 'main');
    writeFileSync(join(repository, 'report.txt'), content);
    await git('add', '.');
    await git('-c', 'user.name=T', '-c', 'user.email=t@example.invalid', 'commit', '--quiet', '-m', id);
    const commit = await git('rev-parse', 'HEAD');
    await git('checkout', '--quiet', 'main');
    return commit;
  };

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), 'demo-'));
    repository = join(scratch, 'repository');
    git = makeGit(repository);
    await prepareRepository(root, repository);
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  test('holds the sources, and is left as it is by a second run', async () => {
    expect(await git('ls-files', 'examples/tasks.jsonl')).toBe('examples/tasks.jsonl');
    const first = await git('rev-parse', 'HEAD');
    await prepareRepository(root, repository);
    expect(await git('rev-parse', 'HEAD')).toBe(first);
    expect(await git('status', '--porcelain')).toBe('');
  });

  test('gets a new commit when the sources have changed, also after a run that was killed', async () => {
    const changed = join(scratch, 'project');
    execFileSync('mkdir', ['-p', changed]);
    writeFileSync(join(changed, 'README.md'), 'new');
    writeFileSync(join(repository, '.git/index.lock'), '');
    await prepareRepository(changed, repository);
    expect(await git('ls-files')).toBe('README.md');
    expect(await git('rev-list', '--count', 'HEAD')).toBe('2');
  });

  test('tells work that was done from work that was not, or was done twice', async () => {
    const one = view({ id: 'task_a', state: 'COMPLETED', result: { commit: await work('task_a', 'a') } });
    const twin = view({ id: 'task_b', state: 'COMPLETED', result: { commit: await work('task_b', 'a') } });
    const other = view({ id: 'task_c', state: 'COMPLETED', result: { commit: await work('task_c', 'c') } });
    expect(await judged(one, other)).toEqual([null, null]);
    expect(await judged(one, twin)).toEqual([null, expect.stringContaining('the same as those of')]);
    expect(await judged(view({ ...one, result: { commit: other.result?.commit ?? '' } }))).toEqual([
      expect.stringContaining('its branch is at'),
    ]);
    expect(await judged(view({ ...one, id: 'task_none' }))).toEqual([
      expect.stringContaining('not in the repository'),
    ]);
    expect(await judged(view({ ...one, result: null }))).toEqual(['nothing was committed']);
    expect(await judged(view({ state: 'FAILED' }))).toEqual(['expected COMPLETED']);
    expect(await judged(view({ ...one, attempt: 2 }))).toEqual(['expected 1 attempts']);
  });
});

describe('what the demo shows', () => {
  const running = view({ progress: { percent: 50, message: 'half' } });
  const pictures: TaskView[][] = [
    [view({ state: 'PENDING' })],
    [running],
    [running],
    [view({ state: 'COMPLETED' })],
  ];
  const written = (make: (write: (text: string) => void) => { show(views: TaskView[]): void }): string => {
    let text = '';
    const screen = make((more) => {
      text += more;
    });
    for (const views of pictures) screen.show(views);
    return text;
  };

  test('in a pipe is one line for each change, without control characters', () => {
    const lines = written(makePlainScreen).split('\n');
    expect(lines).toEqual([
      'PENDING          A title',
      'RUNNING     50%  A title · half',
      'COMPLETED  100%  A title',
      '',
    ]);
  });

  test('in a terminal is redrawn in place and never higher or wider than it', () => {
    const text = written((write) => makeLiveScreen(write, () => ({ columns: 40, rows: 10 })));
    expect(text.split('\u001b[2A')).toHaveLength(4);
    let last = '';
    const small = makeLiveScreen(
      (more) => void (last = more),
      () => ({ columns: 40, rows: 10 }),
    );
    const many = Array.from({ length: 50 }, (_, index) =>
      view({ id: `task_${index}`, title: 'x'.repeat(100) }),
    );
    small.show(many);
    expect(last.trimEnd().split('\n')).toHaveLength(8);
    for (const line of last.split('\n')) expect(line.replaceAll('\u001b[J', '').length).toBeLessThan(60);
  });

  test('to programs is one object a line', () => {
    const lines = written(makeJsonScreen).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).state)).toEqual(['PENDING', 'RUNNING', 'COMPLETED']);
  });
});
