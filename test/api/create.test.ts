import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openTestApi, type TestApi } from '../support/api.js';
import { insertUpBackend, taskBody } from '../support/builders.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
});
afterAll(() => api.close());
beforeEach(() => {
  api.rung.length = 0;
});

const create = (body: unknown, headers: Record<string, string> = {}) =>
  api.call('POST', '/v1/tasks', { body, headers });
const countTasks = async (): Promise<number> =>
  Number((await api.db.query<{ n: string }>({ text: 'SELECT count(*) AS n FROM tasks' }))[0]?.n);

describe('POST /v1/tasks', () => {
  test('answers the whole task, stored, and rings for it', async () => {
    const { status, headers, json } = await create(taskBody());
    expect(status).toBe(201);
    expect(headers.get('location')).toBe(`/v1/tasks/${json.id}`);
    expect(json).toEqual({
      id: expect.stringMatching(/^task_[0-9a-z]{26}$/),
      type: 'demo.echo',
      title: null,
      reference: null,
      state: 'PENDING',
      priority: 3,
      workspaceId: null,
      backend: null,
      backendId: null,
      externalId: null,
      attempt: 0,
      context: { text: 'hello' },
      tags: [],
      metadata: null,
      timeouts: { dispatchMs: 20000, startMs: 900000, heartbeatMs: 0, runMs: 86400000 },
      retry: {
        maxAttempts: 3,
        maxSends: 8,
        backoffBaseMs: 1000,
        backoffMaxMs: 300000,
        onUnknownOutcome: 'fail',
      },
      progress: null,
      result: null,
      error: null,
      waiting: { reason: 'queued', detail: expect.any(String), until: null },
      needs: null,
      retryOf: null,
      cancelRequestedAt: null,
      scheduledFor: null,
      deadlineAt: null,
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      dispatchedAt: null,
      startedAt: null,
      finishedAt: null,
      updatedAt: json.createdAt,
    });
    await eventually(() => expect(api.rung).toEqual([{ queue: 'dispatch', ids: [json.id] }]));
    expect((await api.call('GET', `/v1/tasks/${json.id}`)).json).toEqual(json);
  });

  test('keeps what was asked for', async () => {
    await insertUpBackend(api.db, 'bknd_named', 'named');
    const given = {
      title: 'a title 🙂',
      reference: 'order 42',
      priority: 1,
      workspaceId: 'team.a:1',
      backend: { name: 'named', labels: { region: 'eu' } },
      tags: ['nightly', 'x'],
      metadata: { a: 1 },
      timeouts: { runMs: 1 },
      retry: { maxAttempts: 1, onUnknownOutcome: 'failover' },
      deadlineAt: '2099-01-01T02:00:00.5+02:00',
    };
    const { status, json } = await create(taskBody(given));
    expect(status).toBe(201);
    expect(json).toMatchObject({ ...given, deadlineAt: '2099-01-01T00:00:00.500Z' });
    expect(json.timeouts.dispatchMs).toBe(20000);
  });

  test('a scheduled task waits and rings for nothing', async () => {
    const { json } = await create(taskBody({ scheduledFor: '2099-01-01T00:00:00Z' }));
    expect(json.waiting).toMatchObject({ reason: 'scheduled', until: '2099-01-01T00:00:00.000Z' });
    expect(api.rung).toEqual([]);
    expect((await api.call('GET', `/v1/tasks/${json.id}`)).json).toEqual(json);
  });

  test('payloads come back as the same bytes', async () => {
    const context =
      '{ "n": 9007199254740993,"e":1e400, "n":1, "__proto__": {"polluted":true},"s":"\\ud800", "toString":0 }';
    const made = await create(`{"type":"a","context":${context},"metadata":{"hasOwnProperty" : 1.0}}`);
    expect(made.status).toBe(201);
    const read = await api.call('GET', `/v1/tasks/${made.json.id}`);
    for (const { text } of [made, read]) {
      expect(text).toContain(`"context":${context},"metadata":{"hasOwnProperty" : 1.0}`);
    }
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  test.each([
    ['no body', '', 400, 'malformed_json'],
    ['blank', '  \n', 400, 'malformed_json'],
    ['a comma too many', '{"type":"a",}', 400, 'malformed_json'],
    ['two documents', '{}{}', 400, 'malformed_json'],
    ['invalid UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 400, 'malformed_json'],
    ['overlong UTF-8', Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d]), 400, 'malformed_json'],
    ['a member twice', '{"type":"a","type":"a","context":1}', 400, 'malformed_json'],
    ['too deep', `{"type":"a","context":${'['.repeat(32)}${']'.repeat(32)}}`, 400, 'json_too_deep'],
    ['very deep', '['.repeat(10_000) + ']'.repeat(10_000), 400, 'json_too_deep'],
    ['null', 'null', 422, 'validation_failed'],
    ['an array', '[]', 422, 'validation_failed'],
    ['a number', '7', 422, 'validation_failed'],
  ])('refuses %s', async (_name, body, status, code) => {
    const before = await countTasks();
    const { json, ...answer } = await create(body);
    expect([answer.status, json.code, json.status]).toEqual([status, code, status]);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(json.type).toBe(`/errors/${code.replaceAll('_', '-')}`);
    expect(json.requestId).toBe(answer.headers.get('x-request-id'));
    expect(await countTasks()).toBe(before);
  });

  test('accepts 32 levels', async () => {
    const body = `{"type":"a","context":${'['.repeat(31)}${']'.repeat(31)}}`;
    expect((await create(body)).status).toBe(201);
  });

  test.each([
    [{ context: {} }, '/type', 'is required'],
    [{ type: 'a' }, '/context', 'is required'],
    [taskBody({ type: 5 }), '/type', 'must be a string'],
    [taskBody({ type: '' }), '/type', 'at least 1'],
    [taskBody({ type: 'x'.repeat(10_000) }), '/type', 'at most 128'],
    [taskBody({ title: 'x'.repeat(513) }), '/title', 'at most 512'],
    [taskBody({ title: 'a\u0000b' }), '/title', 'null character'],
    [`{"type":"a","context":1,"title":"\\ud800"}`, '/title', 'well-formed'],
    [taskBody({ priority: 0 }), '/priority', 'at least 1'],
    [taskBody({ priority: 6 }), '/priority', 'at most 5'],
    [taskBody({ priority: 1.5 }), '/priority', 'an integer'],
    [`{"type":"a","context":1,"priority":1e400}`, '/priority', 'must be'],
    [taskBody({ workspaceId: 'a b' }), '/workspaceId', '128'],
    [taskBody({ workspaceId: '' }), '/workspaceId', '128'],
    [taskBody({ tags: Array.from({ length: 51 }, () => 'a') }), '/tags', 'at most 50'],
    [taskBody({ tags: ['x'.repeat(129)] }), '/tags/0', 'at most 128'],
    [taskBody({ metadata: [] }), '/metadata', 'an object'],
    [taskBody({ metadata: { a: 'x'.repeat(65536) } }), '/metadata', '65536 bytes'],
    [taskBody({ timeouts: { runMs: 0 } }), '/timeouts/runMs', 'at least 1'],
    [taskBody({ timeouts: { runMs: 31_536_000_000 } }), '/timeouts/runMs', 'at most 2592000000'],
    [taskBody({ deadlineAt: '+275760-09-13T00:00:00Z' }), '/deadlineAt', 'RFC 3339'],
    [taskBody({ deadlineAt: '2026-02-30T00:00:00Z' }), '/deadlineAt', 'RFC 3339'],
    [taskBody({ scheduledFor: '2026-02-03' }), '/scheduledFor', 'RFC 3339'],
    [taskBody({ id: 'task_x' }), '/id', '"id" is not known'],
    [taskBody({ state: 'RUNNING' }), '/state', 'not known'],
    [taskBody({ prioritty: 1 }), '/prioritty', 'did you mean "priority"?'],
    [taskBody({ retry: { maxAtempts: 1 } }), '/retry/maxAtempts', 'did you mean "maxAttempts"?'],
    [taskBody({ retry: { maxAttempts: 0 } }), '/retry/maxAttempts', 'at least 1'],
    [`{"type":"a","context":1,"__proto__":{"x":1}}`, '/__proto__', 'not known'],
    [taskBody({ notify: { url: 'ftp://x' } }), '/notify/url', 'http'],
    [taskBody({ notify: { url: 'http://169.254.169.254/' } }), '/notify/url', '169.254'],
  ])('refuses a faulty member, case %#', async (body, pointer, detail) => {
    const { status, json } = await create(body);
    expect([status, json.code]).toEqual([422, 'validation_failed']);
    expect(json.errors).toEqual([{ pointer, detail: expect.stringContaining(detail) }]);
  });

  test('names all faults at once', async () => {
    const { json } = await create({ priority: 9, tittle: 'x', tags: 5 });
    expect(json.errors.map((fault: { pointer: string }) => fault.pointer).sort()).toEqual(
      ['/context', '/priority', '/tags', '/tittle', '/type'].sort(),
    );
  });

  test('an unknown backend is refused with a suggestion, a disabled one is not', async () => {
    await insertUpBackend(api.db, 'bknd_east', 'claude-east');
    await api.db.query({ text: `UPDATE backends SET mode = 'disabled' WHERE id = 'bknd_east'` });
    const refused = await create(taskBody({ backend: { name: 'claude-esat' } }));
    expect([refused.status, refused.json.code]).toEqual([422, 'unknown_backend']);
    expect(refused.json.errors[0]).toEqual({
      pointer: '/backend/name',
      detail: 'backend "claude-esat" is not known; did you mean "claude-east"?',
    });
    expect((await create(taskBody({ backend: { id: 'bknd_nope' } }))).json.errors[0].pointer).toBe(
      '/backend/id',
    );
    expect((await create(taskBody({ backend: { id: 'bknd_east' } }))).status).toBe(201);
    expect((await create(taskBody({ backend: { labels: { not: 'there yet' } } }))).status).toBe(201);
  });

  test.each([
    [undefined],
    ['text/plain'],
    ['multipart/form-data; boundary=x'],
    ['application/jsonx'],
    ['application/json; charset=latin1'],
  ])('refuses the media type %s', async (type) => {
    const answer = await fetch(`${api.baseUrl}/v1/tasks`, {
      method: 'POST',
      headers: {
        authorization: 'Bearer an-admin-key-for-tests',
        ...(type === undefined ? {} : { 'content-type': type }),
      },
      body: Buffer.from(JSON.stringify(taskBody())),
    });
    expect(answer.status).toBe(415);
  });

  test('accepts a charset, refuses an encoding', async () => {
    const body = taskBody();
    expect((await create(body, { 'content-type': 'application/json; charset="UTF-8"' })).status).toBe(201);
    expect((await create(body, { 'content-encoding': 'gzip' })).status).toBe(415);
  });

  test('a body over the limit is 413 and the connection is closed', async () => {
    const { status, headers, json } = await create(taskBody({ context: 'x'.repeat(1024 * 1024) }));
    expect([status, json.code, json.limitBytes]).toEqual([413, 'payload_too_large', 1024 * 1024]);
    expect(headers.get('connection')).toBe('close');
  });

  test('endless chunks are 413', async () => {
    const head = `POST /v1/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-key-for-tests\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
    expect(await api.raw(head + chunk.repeat(20))).toMatch(/^HTTP\/1\.1 413 /);
  });

  test('a body that is cut off stores nothing', async () => {
    const before = await countTasks();
    const head = `POST /v1/tasks HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer an-admin-key-for-tests\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"type":"a"`;
    await api.raw(head, { endAfterMs: 50 });
    expect(await countTasks()).toBe(before);
    expect((await create(taskBody())).status).toBe(201);
  });
});

describe('Idempotency-Key', () => {
  test('the same key and meaning give the same task', async () => {
    const first = await create('{"type":"a","context":{"b":1},"priority":2}', {
      'idempotency-key': 'order-1',
    });
    const again = await create('{ "priority":2, "context":{"b":1},"type":"a" }', {
      'idempotency-key': '"order-1"',
    });
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(again.json).toEqual(first.json);
  });

  test('the same key with another body is refused, and says when it first came', async () => {
    const first = await create(taskBody(), { 'idempotency-key': 'order-2' });
    const other = await create(taskBody({ context: { text: 'hello ' } }), { 'idempotency-key': 'order-2' });
    expect([other.status, other.json.code]).toEqual([422, 'idempotency_key_reused']);
    expect(other.json.detail).toContain(first.json.createdAt);
  });

  test('a refused request leaves its key free', async () => {
    expect((await create({ type: 'a' }, { 'idempotency-key': 'order-3' })).status).toBe(422);
    expect((await create(taskBody(), { 'idempotency-key': 'order-3' })).status).toBe(201);
  });

  test('fifty racing creates with one key make one task', async () => {
    const made = await Promise.all(
      Array.from({ length: 50 }, () => create(taskBody(), { 'idempotency-key': 'race' })),
    );
    expect(new Set(made.map(({ json }) => json.id)).size).toBe(1);
    expect(made.filter(({ headers }) => headers.get('idempotency-replayed') === null)).toHaveLength(1);
  });

  test.each([['x'.repeat(256)], [''], ['""'], ['ä']])('refuses a malformed one, case %#', async (key) => {
    const head = `POST /v1/tasks HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer an-admin-key-for-tests\r\nContent-Type: application/json\r\nIdempotency-Key: ${key}\r\nContent-Length: 2\r\n\r\n{}`;
    const answer = await api.raw(head);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('idempotency_key_malformed');
  });

  test('keys belong to the API key, or to its workspace', async () => {
    const [one, two, bound, sameWorkspace] = await Promise.all([
      api.key(['tasks:write']),
      api.key(['tasks:write']),
      api.key(['tasks:write'], 'shared'),
      api.key(['tasks:write'], 'shared'),
    ]);
    const made = [];
    for (const { secret } of [one, two, bound, sameWorkspace]) {
      const options = { key: secret, body: taskBody(), headers: { 'idempotency-key': 'mine' } };
      made.push((await api.call('POST', '/v1/tasks', options)).json.id);
    }
    expect(new Set(made).size).toBe(3);
    expect(made[2]).toBe(made[3]);
  });
});

describe('POST /v1/tasks/batch', () => {
  test('each item has its own verdict, and one bad item spoils no other', async () => {
    const items = [
      JSON.stringify(taskBody({ title: 'first', idempotencyKey: 'b1' })),
      '{"type":"a"}',
      `{"type":"a","context":${'['.repeat(40)}${']'.repeat(40)}}`,
      '{"type":"a","type":"b","context":1}',
      '7',
      JSON.stringify(taskBody({ title: 'first', idempotencyKey: 'b1' })),
      JSON.stringify(taskBody({ title: 'other', idempotencyKey: 'b1' })),
      `{"type":"a","context":{ "n": 1.0 }}`,
    ];
    const { status, json, text } = await api.call('POST', '/v1/tasks/batch', {
      body: `{"tasks":[${items.join(',')}]}`,
    });
    expect(status).toBe(200);
    expect(json.data.map((item: { index: number }) => item.index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(json.data.map((item: { status: number }) => item.status)).toEqual([
      201, 422, 400, 400, 422, 201, 422, 201,
    ]);
    expect(json.data.map((item: { problem?: { code: string } }) => item.problem?.code ?? null)).toEqual([
      null,
      'validation_failed',
      'json_too_deep',
      'malformed_json',
      'validation_failed',
      null,
      'idempotency_key_reused',
      null,
    ]);
    expect(json.data[5].task.id).toBe(json.data[0].task.id);
    expect(text).toContain('{ "n": 1.0 }');
    await eventually(() => expect(api.rung).toEqual([{ queue: 'dispatch', ids: expect.any(Array) }]));
    expect(new Set(api.rung[0]?.ids)).toEqual(new Set([json.data[0].task.id, json.data[7].task.id]));
  });

  test('a key of a batch and of a header are one', async () => {
    const first = await create(taskBody(), { 'idempotency-key': 'both' });
    const batch = await api.call('POST', '/v1/tasks/batch', {
      body: { tasks: [taskBody({ idempotencyKey: 'both' })] },
    });
    expect(batch.json.data[0].task.id).toBe(first.json.id);
  });

  test('takes a thousand at once', async () => {
    const before = await countTasks();
    const { json } = await api.call('POST', '/v1/tasks/batch', {
      body: { tasks: Array.from({ length: 1000 }, () => taskBody()) },
    });
    expect(new Set(json.data.map((item: { task: { id: string } }) => item.task.id)).size).toBe(1000);
    expect(await countTasks()).toBe(before + 1000);
  });

  test.each([
    [{}],
    [{ tasks: [] }],
    [{ tasks: {} }],
    [{ tasks: Array.from({ length: 1001 }, () => 1) }],
    [[]],
  ])('refuses %#', async (body) => {
    const { status, json } = await api.call('POST', '/v1/tasks/batch', { body });
    expect([status, json.code]).toEqual([422, 'validation_failed']);
  });

  test('accepts more than a plain body may have, and no more than 16 MiB', async () => {
    const large = taskBody({ context: 'x'.repeat(900_000) });
    const some = await api.call('POST', '/v1/tasks/batch', { body: { tasks: [large, large, large] } });
    expect(some.json.data.map((item: { status: number }) => item.status)).toEqual([201, 201, 201]);
    const tooMuch = await api.call('POST', '/v1/tasks/batch', {
      body: { tasks: Array.from({ length: 20 }, () => large) },
    });
    expect(tooMuch.status).toBe(413);
  });
});
