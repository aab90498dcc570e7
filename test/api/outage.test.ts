import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openDb } from '../../src/db/pool.js';
import { DispatcherError } from '../../src/domain/errors.js';
import { problemOf } from '../../src/api/problems.js';
import { openTestApi, type TestApi } from '../support/api.js';
import { taskBody } from '../support/builders.js';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());

const withCode = (code: string, message = 'x'): Error => Object.assign(new Error(message), { code });

describe('problemOf', () => {
  test.each([
    ['the server is shutting down', withCode('57P01')],
    ['the statement took too long', withCode('57014')],
    ['the connection was lost', withCode('08006')],
    ['there are too many connections', withCode('53300')],
    ['the lock was not had', withCode('55P03')],
    ['nobody listens', withCode('ECONNREFUSED')],
    ['the connection was reset', withCode('ECONNRESET')],
    ['no answer came', new Error('Query read timeout')],
    ['the socket ended', new Error('Connection terminated unexpectedly')],
    ['the pool is empty', new DispatcherError('database_unavailable', 'no database connection could be had')],
  ])('%s: 503, nothing was promised', (_name, error) => {
    expect(problemOf(error, 'r')).toMatchObject({
      problem: { status: 503, code: 'database_unavailable' },
      known: true,
    });
  });

  test('a commit without an answer is told as such', () => {
    const error = new DispatcherError('commit_unknown', 'the connection was lost during COMMIT');
    expect(problemOf(error, 'r').problem).toMatchObject({ status: 503, code: 'commit_unknown' });
  });

  test.each([
    [withCode('42P01', 'relation "tasks" does not exist')],
    [new TypeError('x is not a function')],
    ['text'],
    [new DispatcherError('credential_unreadable', 'a secret detail')],
  ])('anything else is 500 and tells nothing, case %#', (error) => {
    const { problem, known } = problemOf(error, 'r');
    expect([problem.status, problem.code, known]).toEqual([500, 'internal', false]);
    expect(JSON.stringify(problem)).not.toMatch(/relation|function|secret/);
  });
});

describe('without Postgres', () => {
  test('every request is 503 within three seconds, and none is logged as a fault of ours', async () => {
    // A port where nothing answers, as after a crash of the server.
    const gone = openDb({ url: 'postgres://nobody@127.0.0.1:9/none', name: 'test gone', max: 2 });
    const cut = await openTestApi({ db: gone, callbackDb: gone }, api.databaseUrl);
    const requests = [
      cut.call('POST', '/v1/tasks', { body: taskBody() }),
      cut.call('POST', '/v1/tasks/batch', { body: { tasks: [taskBody(), taskBody()] } }),
      cut.call('GET', '/v1/tasks'),
      cut.call('GET', '/v1/tasks/task_x'),
      cut.call('POST', '/v1/tasks/task_x/cancel', { body: { reason: 'x' } }),
      cut.call('GET', '/v1/backends'),
      cut.call('GET', '/v1/audit'),
      cut.call('POST', '/v1/callbacks/task_x/1', {
        key: cut.tokens.sign('task_x', 1).token,
        body: { status: 'running' },
      }),
    ];
    const startedAt = performance.now();
    for (const { status, json, headers } of await Promise.all(requests)) {
      expect([status, json.code, headers.get('retry-after')]).toEqual([503, 'database_unavailable', '1']);
    }
    expect(performance.now() - startedAt).toBeLessThan(3000);
    expect(cut.rung).toEqual([]);
    expect(cut.logged.filter(({ event }) => event === 'request.failed')).toEqual([]);
    await cut.close();
    await gone.close();
  });

  test('a fault of ours is 500, logged once, with nothing of it in the answer', async () => {
    const broken = await openTestApi(
      {
        ring: () => Promise.resolve(true),
        urlObstacle: () => {
          throw new Error('SELECT secret FROM /etc/passwd');
        },
      },
      api.databaseUrl,
    );
    const answer = await broken.call('POST', '/v1/tasks', {
      body: taskBody({ notify: { url: 'http://a' } }),
    });
    expect([answer.status, answer.json.code]).toEqual([500, 'internal']);
    expect(answer.text).not.toMatch(/SELECT|passwd/);
    expect(broken.logged.filter(({ event }) => event === 'request.failed')).toHaveLength(1);
    await broken.close();
  });
});
