import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileFolder } from './compile.js';
import { openReceiver, type Receiver } from './receiver.js';
import { eventually, startOrchestrator, type Answer, type Running } from './running.js';

let folder: string;
let scratch: string;
let repository: string;
let receiver: Receiver;
let running: Running;
let count = 0;

const git = (...args: string[]): string =>
  execFileSync('git', ['-C', repository, ...args])
    .toString()
    .trim();
const start = async (...args: string[]): Promise<Running> =>
  startOrchestrator(folder, join(scratch, 'state'), args);
const ofSession = (id: string) => receiver.received.filter((one) => one.body['sessionId'] === id);
const statusOf = (id: string): Promise<Answer> => running.call('GET', `/orchestrator/sessions/${id}/status`);
const ended = (id: string): Promise<Answer> =>
  eventually(
    () => statusOf(id),
    ({ body }) => ['completed', 'failed', 'killed'].includes(String(body['status'])),
  );

const item = (name: string, ...command: string[]): Record<string, unknown> => ({ name, command });
function spawnBody(workItems: unknown[], more: Record<string, unknown> = {}): Record<string, unknown> {
  count += 1;
  return {
    task: { id: `task_${count}`, attempt: 1, type: 'work', title: `Work ${count}`, metadata: {} },
    context: { repository, branch: 'main', workItems },
    callback_url: `${receiver.url}/callbacks/${count}`,
    callback_token: `token-${count}`,
    ...more,
  };
}
const spawn = (body: unknown, key = `key-${count}`): Promise<Answer> =>
  running.call('POST', '/orchestrator/sessions/spawn', body, { 'idempotency-key': key });

/** A work item that writes its process id to a file and then stays. */
const stayingItem = (pidFile: string): Record<string, unknown> =>
  item(
    'stay',
    'node',
    '-e',
    `require('fs').writeFileSync(${JSON.stringify(pidFile)}, String(process.pid)); setInterval(() => 0, 1000)`,
  );
async function pidIn(file: string): Promise<number> {
  return Number(
    await eventually(
      () => (existsSync(file) ? readFileSync(file, 'utf8') : ''),
      (text) => text !== '',
    ),
  );
}
/** Also true of one that is dead and only waits to be collected. */
function isGone(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return /^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

beforeAll(async () => {
  folder = await compileFolder(join(import.meta.dirname, '../../examples/orchestrator'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'orchestrator-'));
  repository = join(scratch, 'repository');
  execFileSync('git', ['init', '--quiet', '--initial-branch=main', repository]);
  writeFileSync(join(repository, 'list.txt'), 'pear\napple\nfig\n');
  git('add', '.');
  git('-c', 'user.name=T', '-c', 'user.email=t@example.invalid', 'commit', '--quiet', '-m', 'first');
  receiver = await openReceiver();
  running = await start();
});
afterEach(async () => {
  await running.stop();
  await receiver.close();
  rmSync(scratch, { recursive: true, force: true });
});

describe('work', () => {
  test('is done in a clone, committed, pushed as a branch of its own, and told step by step', async () => {
    const sort = { ...item('sort the list', 'sort'), stdinFrom: 'list.txt', stdoutTo: 'out/sorted.txt' };
    const answer = await spawn(
      spawnBody([sort, item('say', 'echo', 'hello'), item('note', 'write', 'n.txt', 'a', 'b')]),
    );
    expect(answer.status).toBe(201);
    const id = String(answer.body['sessionId']);
    const { body } = await ended(id);

    expect(body).toMatchObject({ status: 'completed', taskId: 'task_1', attempt: 1, error: null });
    expect(body['result']).toMatchObject({
      branch: 'agent/task_1',
      changedFiles: ['n.txt', 'out/sorted.txt'],
    });
    expect(body['result'].steps).toMatchObject([
      { name: 'sort the list', exitCode: 0, tail: '' },
      { name: 'say', exitCode: 0, tail: 'hello\n' },
      { name: 'note', exitCode: 0, tail: '' },
    ]);
    expect(git('rev-parse', 'agent/task_1')).toBe(body['result'].commit);
    expect(git('show', 'agent/task_1:out/sorted.txt')).toBe('apple\nfig\npear');
    expect(git('show', 'agent/task_1:n.txt')).toBe('a b');
    expect(git('log', '-1', '--format=%B', 'agent/task_1')).toContain('Work 1\n\nTask: task_1\nAttempt: 1');

    await eventually(
      () => ofSession(id),
      (all) => all.at(-1)?.body['status'] === 'completed',
    );
    const told = ofSession(id).map((one) => one.body);
    // Progress that a newer one overtook is not sent, so how many there are depends on the machine.
    expect(told[0]).toMatchObject({ status: 'running', sequence: 1 });
    expect(told.at(-1)).toMatchObject({ status: 'completed', sequence: 5, progress: { percent: 100 } });
    const between = told.slice(1, -1);
    expect(between.length).toBeGreaterThan(0);
    expect(between.at(-1)).toMatchObject({
      status: 'progress',
      progress: { percent: 66, message: 'step 3/3: note' },
    });
    const sequences = told.map((one) => Number(one['sequence']));
    expect(sequences).toEqual([...new Set(sequences)].toSorted((a, b) => a - b));
    expect(new Set(told.map((one) => one['id'])).size).toBe(told.length);
    for (const one of ofSession(id)) expect(one.headers.authorization).toBe('Bearer token-1');
    expect(readdirSync(join(scratch, 'state/workspaces'))).toEqual([]);
  });

  test('that exits with another code than 0 fails the task, and the next step is not begun', async () => {
    const body = spawnBody([item('look', 'cat', 'absent.txt'), item('never', 'write', 'x', 'y')]);
    const { body: end } = await ended((await spawn(body)).body['sessionId']);
    expect(end).toMatchObject({ status: 'failed', error: { code: 'WORK_ITEM_FAILED', retryable: false } });
    expect(end['error'].message).toMatch(/"look" failed: exit code 1.*absent\.txt/);
    expect(end['result'].steps).toHaveLength(1);
    expect(git('branch', '--list', 'agent/*')).toBe('');
  });

  test('that outlasts its time limit is ended', async () => {
    const pidFile = join(scratch, 'pid');
    const begun = performance.now();
    const { body } = await ended(
      (await spawn(spawnBody([{ ...stayingItem(pidFile), timeoutMs: 700 }]))).body['sessionId'],
    );
    expect(body['error']).toMatchObject({
      code: 'WORK_ITEM_TIMED_OUT',
      message: '"stay" took longer than 700 ms',
    });
    expect(performance.now() - begun).toBeGreaterThan(700);
    expect(isGone(await pidIn(pidFile))).toBe(true);
  });

  test('that leaves a process in the background has it ended with the agent', async () => {
    const pidFile = join(scratch, 'pid');
    const script = `const c = require('child_process').spawn('sleep', ['100'], {stdio: 'ignore'}); require('fs').writeFileSync(${JSON.stringify(pidFile)}, String(c.pid)); c.unref()`;
    const { body } = await ended(
      (await spawn(spawnBody([item('leave', 'node', '-e', script)]))).body['sessionId'],
    );
    expect(body['status']).toBe('completed');
    const pid = await pidIn(pidFile);
    await eventually(() => isGone(pid), Boolean);
  });

  test('does not reach a file outside of its work tree through a link', async () => {
    const steps = [
      item('link', 'node', '-e', `require('fs').symlinkSync(${JSON.stringify(scratch)}, 'out')`),
      item('write', 'write', 'out/escaped', 'x'),
    ];
    const { body } = await ended((await spawn(spawnBody(steps))).body['sessionId']);
    expect(body['error'].message).toContain('leads out of the work tree');
    expect(existsSync(join(scratch, 'escaped'))).toBe(false);
  });

  test('sees none of the secrets of the Orchestrator', async () => {
    const { body } = await ended(
      (await spawn(spawnBody([item('env', 'node', '-p', 'JSON.stringify(process.env)')]))).body['sessionId'],
    );
    expect(body['result'].steps[0].tail).toContain('PATH');
    expect(body['result'].steps[0].tail).not.toMatch(/secret|token/i);
  });

  test('keeps only the end of a long output', async () => {
    const script = "process.stdout.write('x'.repeat(500000) + '\\u001b[31mend')";
    const { body } = await ended(
      (await spawn(spawnBody([item('talk', 'node', '-e', script)]))).body['sessionId'],
    );
    expect(body['result'].steps[0].tail).toMatch(/^x{4000,4096}\[31mend$/);
  });

  test('fails the first attempts on request, and says that another may follow', async () => {
    const body = spawnBody([item('do', 'write', 'a', 'b')]);
    const context = { ...(body['context'] as object), simulate: { failAttempts: 1 } };
    const first = await ended((await spawn({ ...body, context }, 'first')).body['sessionId']);
    expect(first.body['error']).toMatchObject({ code: 'SIMULATED_FAILURE', retryable: true });
    const task = { ...(body['task'] as object), attempt: 2 };
    const second = await ended((await spawn({ ...body, task, context }, 'second')).body['sessionId']);
    expect(second.body['status']).toBe('completed');
    const list = await running.call('GET', `/orchestrator/sessions?taskId=task_${count}`);
    expect(list.body['sessions']).toEqual([
      { id: second.body['id'], taskId: `task_${count}`, attempt: 2, status: 'completed' },
      { id: first.body['id'], taskId: `task_${count}`, attempt: 1, status: 'failed' },
    ]);
    expect((await running.call('GET', '/orchestrator/sessions?taskId=task_other')).body['sessions']).toEqual(
      [],
    );
  });

  test('on a repository or a branch that is not there fails for good', async () => {
    const body = spawnBody([item('do', 'true')]);
    const context = body['context'] as object;
    const noRepository = await spawn(
      { ...body, context: { ...context, repository: join(scratch, 'none') } },
      'a',
    );
    const noBranch = await spawn({ ...body, context: { ...context, branch: 'none' } }, 'b');
    expect((await ended(noRepository.body['sessionId'])).body['error']).toMatchObject({
      code: 'REPOSITORY_UNAVAILABLE',
      retryable: false,
    });
    expect((await ended(noBranch.body['sessionId'])).body['error']).toMatchObject({
      code: 'BRANCH_UNAVAILABLE',
      retryable: false,
    });
  });
});

describe('a spawn', () => {
  test('repeated under its key is answered with the same session, also after a crash', async () => {
    const body = spawnBody([item('do', 'write', 'a', 'b')]);
    const [one, two] = await Promise.all([spawn(body), spawn(body)]);
    expect([one.status, two.status].toSorted((a, b) => a - b)).toEqual([200, 201]);
    expect(two.body['sessionId']).toBe(one.body['sessionId']);
    await ended(one.body['sessionId']);
    await running.stop('SIGKILL');
    running = await start();
    const again = await spawn(body);
    expect(again).toMatchObject({
      status: 200,
      body: { sessionId: one.body['sessionId'], status: 'completed' },
    });
    expect(
      (await running.call('GET', `/orchestrator/sessions?taskId=task_${count}`)).body['sessions'],
    ).toHaveLength(1);
  });

  test('under a used key with another body is refused', async () => {
    const body = spawnBody([item('do', 'true')]);
    await spawn(body, 'k');
    const answer = await spawn({ ...body, callback_token: 'another' }, 'k');
    expect(answer).toMatchObject({ status: 422, body: { error: expect.stringContaining('another body') } });
  });

  test('with a bad context is refused with every fault at once', async () => {
    const body = spawnBody([]);
    const workItems = [
      item('shell', 'sh', '-c', 'true'),
      { name: '', command: 'ls' },
      item('out', 'write', '../x', 'y'),
      { ...item('x', 'ls'), stdoutTo: '.git/config', timeoutMs: 0 },
    ];
    const answer = await spawn({
      ...body,
      context: { repository: 'ext::sh -c id', branch: '--upload-pack=x', workItems },
    });
    expect(answer.status).toBe(422);
    expect(answer.body['faults']).toHaveLength(8);
    expect(answer.body['faults'].join('\n')).toContain('"sh" is not on the list of programs that may be run');
    expect((await spawn(spawnBody([]))).status).toBe(422);
    expect((await spawn({ ...body, task: { id: '../x' } })).status).toBe(422);
  });

  test('without JSON, without a key or beyond the size limit is refused', async () => {
    expect((await spawn('{')).status).toBe(400);
    expect((await running.call('POST', '/orchestrator/sessions/spawn', spawnBody([]))).status).toBe(400);
    expect((await spawn(`"${'x'.repeat(2_100_000)}"`)).status).toBe(413);
  });

  test('beyond the number of agents is told to come later, and its key stays free', async () => {
    await running.stop();
    running = await start('--max-agents', '1');
    const first = await spawn(spawnBody([item('wait', 'sleep', '60')]));
    const second = spawnBody([item('do', 'true')]);
    const refused = await spawn(second, 'second');
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('1');
    await running.call('POST', `/orchestrator/sessions/${first.body['sessionId']}/kill`, { reason: 'room' });
    expect((await spawn(second, 'second')).status).toBe(201);
  });

  test('is told once to come later when a task asks for it and --misbehave is set', async () => {
    await running.stop();
    running = await start('--misbehave');
    const body = spawnBody([item('do', 'true')]);
    const task = { ...(body['task'] as object), metadata: { misbehave: 'busy-once' } };
    const first = await spawn({ ...body, task });
    expect([first.status, first.headers.get('retry-after')]).toEqual([503, '1']);
    expect((await spawn({ ...body, task })).status).toBe(201);
  });
});

describe('a kill', () => {
  test('ends the agent and its work before it is answered, and may be repeated', async () => {
    const pidFile = join(scratch, 'pid');
    const id = String((await spawn(spawnBody([stayingItem(pidFile)]))).body['sessionId']);
    const pid = await pidIn(pidFile);
    const kill = (): Promise<Answer> =>
      running.call('POST', `/orchestrator/sessions/${id}/kill`, { reason: 'test' });
    expect(await kill()).toMatchObject({ status: 200, body: { id, status: 'killed' } });
    await eventually(() => isGone(pid), Boolean, 1000);
    expect(await kill()).toMatchObject({ status: 200, body: { status: 'killed' } });
    expect((await statusOf(id)).body['status']).toBe('killed');
    await eventually(
      () => ofSession(id),
      (all) => all.at(-1)?.body['status'] === 'killed',
    );
    expect((await running.call('GET', '/health')).body['agents'].atWork).toBe(0);
    expect(git('branch', '--list', 'agent/*')).toBe('');
  });

  test('of an agent that has ended is answered with its end', async () => {
    const id = String((await spawn(spawnBody([item('do', 'true')]))).body['sessionId']);
    await ended(id);
    const answer = await running.call('POST', `/orchestrator/sessions/${id}/kill`, { reason: 'late' });
    expect(answer).toMatchObject({ status: 409, body: { id, status: 'completed' } });
    expect((await running.call('POST', '/orchestrator/sessions/sess_none/kill', {})).status).toBe(404);
  });
});

describe('callbacks', () => {
  test('are repeated after 503, 500 and a lost connection, in order, each with one id', async () => {
    receiver.answers.push({ status: 503, retryAfter: '1' }, { status: 202 }, { status: 500 }, { status: 0 });
    const id = String((await spawn(spawnBody([item('do', 'true')]))).body['sessionId']);
    await eventually(
      () => ofSession(id),
      (all) => all.at(-1)?.body['status'] === 'completed',
    );
    const all = ofSession(id);
    expect(all.map((one) => [one.body['status'], one.answered])).toEqual([
      ['running', 503],
      ['running', 202],
      ['progress', 500],
      ['progress', 0],
      ['progress', 202],
      ['completed', 202],
    ]);
    expect(all[1]!.body['id']).toBe(all[0]!.body['id']);
    expect(all[1]!.atMs - all[0]!.atMs).toBeGreaterThan(950);
  });

  test('are not repeated when they are refused', async () => {
    receiver.answers.push({ status: 401 }, { status: 422 });
    const id = String((await spawn(spawnBody([item('do', 'true')]))).body['sessionId']);
    await eventually(
      () => ofSession(id),
      (all) => all.at(-1)?.body['status'] === 'completed',
    );
    expect(ofSession(id).map((one) => one.answered)).toEqual([401, 422, 202]);
  });

  test('that nobody could take are delivered after a restart', async () => {
    const body = spawnBody([item('do', 'true')]);
    const port = Number(new URL(receiver.url).port);
    await receiver.close();
    const id = String((await spawn(body)).body['sessionId']);
    await ended(id);
    await running.stop('SIGKILL');
    receiver = await openReceiver(port);
    running = await start();
    const [told] = await eventually(
      () => ofSession(id),
      (all) => all.length > 0,
    );
    expect(told?.body).toMatchObject({ status: 'completed', id: `${id}_3`, result: { commit: null } });
    expect(told?.headers.authorization).toBe(`Bearer token-${count}`);
  });

  test('carry the trace of the spawn', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await running.call('POST', '/orchestrator/sessions/spawn', spawnBody([item('do', 'true')]), {
      'idempotency-key': 'k',
      traceparent,
    });
    await eventually(
      () => receiver.received,
      (all) => all.length > 0,
    );
    expect(receiver.received[0]?.headers['traceparent']).toBe(traceparent);
  });
});

describe('the Orchestrator', () => {
  test('refuses a missing or wrong secret on every route but health, and takes both headers', async () => {
    const ask = async (path: string, headers: Record<string, string>): Promise<number> =>
      (await fetch(running.url + path, { headers })).status;
    expect(await ask('/health', {})).toBe(200);
    expect(await ask('/orchestrator/sessions', {})).toBe(401);
    expect(await ask('/orchestrator/sessions', { authorization: 'Bearer wrong' })).toBe(401);
    expect(await ask('/orchestrator/sessions', { 'x-api-key': 'a secret for the example' })).toBe(200);
    expect(
      await ask('/orchestrator/sessions/sess_none/status', { 'x-api-key': 'a secret for the example' }),
    ).toBe(404);
    expect(
      (await fetch(`${running.url}/orchestrator/sessions/spawn`, { method: 'POST', body: '{' })).status,
    ).toBe(401);
  });

  test('that is stopped ends its agents, says that another attempt may follow, and exits with 0', async () => {
    const pidFile = join(scratch, 'pid');
    const id = String((await spawn(spawnBody([stayingItem(pidFile)]))).body['sessionId']);
    const pid = await pidIn(pidFile);
    expect(await running.stop()).toBe(0);
    await eventually(() => isGone(pid), Boolean, 1000);
    expect(ofSession(id).at(-1)?.body).toMatchObject({
      status: 'failed',
      error: { code: 'ORCHESTRATOR_STOPPED', retryable: true },
    });
    running = await start();
    expect((await statusOf(id)).body['status']).toBe('failed');
  });

  test('that dies takes its agents along, and says so after its restart', async () => {
    const pidFile = join(scratch, 'pid');
    const id = String((await spawn(spawnBody([stayingItem(pidFile)]))).body['sessionId']);
    const pid = await pidIn(pidFile);
    await running.stop('SIGKILL');
    await eventually(() => isGone(pid), Boolean, 3000);
    running = await start();
    await eventually(
      () => ofSession(id),
      (all) => all.at(-1)?.body['error']?.code === 'AGENT_LOST',
    );
    expect((await statusOf(id)).body).toMatchObject({ status: 'failed', error: { retryable: true } });
  });

  test('survives a last line that a crash cut short', async () => {
    const id = String((await spawn(spawnBody([item('do', 'true')]))).body['sessionId']);
    await ended(id);
    await running.stop('SIGKILL');
    const file = join(scratch, 'state/sessions.jsonl');
    writeFileSync(file, `${readFileSync(file, 'utf8')}{"id":"sess_half","task`);
    running = await start();
    expect((await statusOf(id)).body['status']).toBe('completed');
    expect((await statusOf('sess_half')).status).toBe(404);
  });
});
