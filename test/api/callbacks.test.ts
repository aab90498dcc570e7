import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { makeCallbackTokens } from '../../src/orchestrators/callback-token.js';
import { openTestApi, type Answer, type TestApi } from '../support/api.js';
import { acceptTask, insertUpBackend, taskBody } from '../support/builders.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
let id: string;
beforeAll(async () => {
  api = await openTestApi();
  await insertUpBackend(api.db, 'bknd_one');
});
afterAll(() => api.close());
beforeEach(async () => {
  id = (await api.call('POST', '/v1/tasks', { body: taskBody() })).json.id;
  await acceptTask(api.db, id, 'bknd_one');
  api.rung.length = 0;
});

const token = (attempt = 1, taskId = id): string => api.tokens.sign(taskId, attempt).token;
const send = (
  body: unknown,
  headers: Record<string, string> = {},
  key: string | null = token(),
): Promise<Answer> => api.call('POST', `/v1/callbacks/${id}/1`, { key, body, headers });
const stored = () =>
  api.db.query<Record<string, unknown>>({ text: 'SELECT * FROM callbacks WHERE task_id = $1 ORDER BY id' }, [
    id,
  ]);

describe('POST /v1/callbacks/{task}/{attempt}', () => {
  test('stores, answers 202, and rings', async () => {
    const body = `{"status":"Completed","id":"e1","sessionId":"s1","sequence":9007199254740991,"occurredAt":"2026-01-01T00:00:00Z","progress":{"percent":100,"message":"done"},"result":{ "n": 9007199254740993 },"theirs":{"a":1,"a":2}}`;
    const { status, json } = await send(body);
    expect([status, json]).toEqual([202, { accepted: true }]);
    expect(await stored()).toMatchObject([
      {
        attempt: 1,
        status: 'completed',
        dedupe_key: 'id:completed:e1',
        event_id: 'e1',
        session_id: 's1',
        sequence: '9007199254740991',
        progress_percent: 100,
        progress_message: 'done',
        result: '{ "n": 9007199254740993 }',
        applied_at: null,
      },
    ]);
    await eventually(() => expect(api.rung).toEqual([{ queue: 'transitions', ids: [id] }]));
  });

  test('needs its own token, and says which is wrong, without a query', async () => {
    const good = token();
    const foreign = makeCallbackTokens([{ id: 'ffffffff', key: Buffer.alloc(32, 1) }]).sign(id, 1).token;
    const last = good.at(-1) === 'A' ? 'B' : 'A';
    const cases: [string | null, string][] = [
      [null, 'missing'],
      ['', 'malformed'],
      ['x', 'malformed'],
      ['cb9' + good.slice(3), 'malformed'],
      [`${good}ä`, 'malformed'],
      [good.slice(0, -1), 'malformed'],
      [foreign, 'malformed'],
      [token(2), 'other_attempt'],
      [token(1, 'task_other'), 'other_attempt'],
      [good.slice(0, -1) + last, 'other_attempt'],
    ];
    for (const [key, reason] of cases) {
      const headers =
        key === null ? undefined : { authorization: `Bearer ${Buffer.from(key).toString('latin1')}` };
      const { status, json, headers: got } = await send({ status: 'running' }, headers, null);
      expect([key, status, json.code, json.reason]).toEqual([key, 401, 'callback_token_invalid', reason]);
      expect(got.get('www-authenticate')).toBe('Bearer');
    }
    const basic = await send({ status: 'running' }, { authorization: `Basic ${good}` }, null);
    expect([basic.status, basic.json.reason]).toEqual([401, 'malformed']);
    const admin = await api.call('POST', `/v1/callbacks/${id}/1`, { body: { status: 'running' } });
    expect(admin.status).toBe(401);
    expect(await stored()).toEqual([]);
  });

  test('a token opens its own address only', async () => {
    for (const path of [`${id}/2`, `${id}/01`, `${id}/0`, `${id}/x`, 'task_other/1']) {
      const answer = await api.call('POST', `/v1/callbacks/${path}`, {
        key: token(),
        body: { status: 'running' },
      });
      expect([path, answer.status]).toEqual([path, 401]);
    }
    const answer = await api.raw(
      `POST /v1/callbacks/${id}/1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer ${token()}\r\nAuthorization: Bearer ${token()}\r\nContent-Length: 0\r\n\r\n`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  });

  test('a task that is gone is still answered 202', async () => {
    const key = token(1, 'task_gone');
    const answer = await api.call('POST', '/v1/callbacks/task_gone/1', { key, body: { status: 'running' } });
    expect(answer.status).toBe(202);
  });

  test('duplicates are the same id and status, or the same bytes of an end; signs of life never are', async () => {
    const rows = async (
      bodies: readonly unknown[],
      headers: Record<string, string> = {},
    ): Promise<number> => {
      const before = (await stored()).length;
      for (const body of bodies) expect((await send(body, headers)).status).toBe(202);
      return (await stored()).length - before;
    };
    expect(
      await rows([
        { status: 'running', id: 'a' },
        { status: 'RUNNING', id: 'a', x: 1 },
      ]),
    ).toBe(1);
    expect(await rows([{ status: 'progress', id: 'a' }])).toBe(1);
    expect(
      await rows([
        { status: 'running' },
        { status: 'running' },
        { status: 'progress' },
        { status: 'progress' },
      ]),
    ).toBe(4);
    expect(await rows(['{"status":"failed"}', '{"status":"failed"}', '{"status": "failed"}'])).toBe(2);
    expect(await rows([{ status: 'killed' }, { status: 'killed', x: 1 }], { 'webhook-id': 'w' })).toBe(1);
    expect(await rows([{ status: 'killed', id: 'w' }], { 'webhook-id': 'other' })).toBe(0);
  });

  test.each([
    [{}, '/status'],
    [{ status: 5 }, '/status'],
    [{ status: 'running', occurredAt: 'today' }, '/occurredAt'],
    [{ status: 'running', id: 'x'.repeat(300) }, '/id'],
    [{ status: 'running', id: '' }, '/id'],
    [{ status: 'progress', progress: { percent: -1 } }, '/progress/percent'],
    [{ status: 'progress', progress: { percent: 101 } }, '/progress/percent'],
    [{ status: 'progress', progress: { percent: '50' } }, '/progress/percent'],
    [{ status: 'progress', progress: {} }, '/progress/percent'],
    [{ status: 'running', sequence: -1 }, '/sequence'],
    [{ status: 'running', sequence: 1.5 }, '/sequence'],
    ['{"status":"running","sequence":9223372036854775808}', '/sequence'],
    [{ status: 'failed', error: { code: 'X' } }, '/error/message'],
    [{ status: 'failed', error: 'no' }, '/error'],
  ])('refuses a faulty member, case %#', async (body, pointer) => {
    const { status, json } = await send(body);
    expect([status, json.code, json.errors[0].pointer]).toEqual([422, 'validation_failed', pointer]);
    expect(await stored()).toEqual([]);
  });

  test('an unknown status says which are known', async () => {
    const { status, json } = await send({ status: 'DONE' });
    expect([status, json.code]).toEqual([422, 'callback_status_unknown']);
    expect(json.detail).toContain('running, progress, completed, failed, killed');
    expect((await send({ status: 'complete' })).json.detail).toContain('did you mean "completed"?');
  });

  test('refuses what is no JSON, no object, too deep, or too large', async () => {
    expect((await send('{')).status).toBe(400);
    expect((await send('[]')).status).toBe(422);
    expect((await send('{"status":"running","status":"failed"}')).status).toBe(400);
    expect((await send(`{"status":"running","x":${'['.repeat(40)}${']'.repeat(40)}}`)).status).toBe(400);
    expect((await send({ status: 'running' }, { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await send({ status: 'completed', x: 'x'.repeat(2 * 1024 * 1024) })).status).toBe(413);
    const exact = 'x'.repeat(1024 * 1024 - 2);
    expect((await send({ status: 'completed', result: `${exact}x` })).status).toBe(413);
    expect(await stored()).toEqual([]);
    expect((await send({ status: 'completed', result: exact })).status).toBe(202);
    expect(
      (
        await send(
          '{"status":"progress","result":null,"error":null,"progress":null,"occurredAt":"2199-01-01T00:00:00Z"}',
        )
      ).status,
    ).toBe(202);
  });

  test('words that Postgres cannot keep are mended, not refused', async () => {
    const body = `{"status":"failed","error":{"code":"A\\u0000B","message":"\\ud800 ${'x'.repeat(5000)}","retryable":true}}`;
    expect((await send(body)).status).toBe(202);
    const [row] = await stored();
    expect(row).toMatchObject({ error_code: 'AB', error_retryable: true });
    expect(String(row?.['error_message'])).toMatch(/^\ufffd x{100}.*…$/);
  });

  test('what cannot be stored is 503 with Retry-After, never 2xx', async () => {
    const broken = await openTestApi(
      { callbackDb: { query: () => Promise.reject(new Error('Connection terminated unexpectedly')) } },
      api.databaseUrl,
    );
    const key = broken.tokens.sign(id, 1).token;
    const { status, json, headers } = await broken.call('POST', `/v1/callbacks/${id}/1`, {
      key,
      body: { status: 'running' },
    });
    expect([status, json.code, headers.get('retry-after')]).toEqual([503, 'database_unavailable', '1']);
    expect(broken.rung).toEqual([]);
    await broken.close();
  });

  test('five hundred at once are stored, each once', async () => {
    const answers = await Promise.all(
      Array.from({ length: 500 }, (_, index) => send({ status: 'progress', id: `e${index % 250}` })),
    );
    expect(answers.every(({ status }) => status === 202)).toBe(true);
    expect(await stored()).toHaveLength(250);
  });
});

test('nothing was logged as a fault of ours', () => {
  expect(api.logged.filter(({ event }) => event === 'request.failed')).toEqual([]);
});
