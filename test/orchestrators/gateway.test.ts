import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Outcome } from '../../src/domain/outcome.js';
import type { Send, Target } from '../../src/orchestrators/client.js';
import { makeGatewayClient } from '../../src/orchestrators/gateway.js';
import { openHttp, type Http } from '../../src/orchestrators/http.js';
import { spawnBody } from '../../src/orchestrators/spawn-request.js';
import { guardWith, loopbackGuard, openCanary } from '../support/guard.js';
import {
  openStubOrchestrator,
  type Behaviour,
  type StubOptions,
  type StubOrchestrator,
} from '../support/orchestrator.js';

const now = new Date('2026-03-01T12:00:00.000Z');
const never = new AbortController().signal;
const opened: StubOrchestrator[] = [];
let http: Http;

beforeAll(() => void (http = openHttp({ guard: loopbackGuard() })));
afterEach(() => Promise.all(opened.splice(0).map((one) => one.close())));
afterAll(() => http.close());

const client = () => makeGatewayClient({ http, now: () => now });

async function open(options: StubOptions = {}): Promise<StubOrchestrator> {
  const stub = await openStubOrchestrator(options);
  opened.push(stub);
  return stub;
}

function targetOf(url: string, more: Partial<Target> = {}): Target {
  return {
    id: 'bknd_1',
    protocol: 'gateway',
    url,
    authType: 'bearer',
    secret: 's3cret',
    healthPath: '/health',
    healthExpect: '2xx',
    configVersion: 1,
    ...more,
  };
}

const body = spawnBody(
  {
    id: 'task_1',
    attempt: 1,
    type: 'worker',
    title: null,
    reference: null,
    priority: 3,
    workspaceId: null,
    tags: [],
    createdAt: now,
    deadlineAt: null,
  },
  '{"n": 9007199254740993}',
  null,
  'http://127.0.0.1:1/cb',
  'cb1.token',
);

function sendOf(more: Partial<Send> = {}): Send {
  return {
    taskId: 'task_1',
    attempt: 1,
    idempotencyKey: 'key-1',
    body,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    timeoutMs: 800,
    ...more,
  };
}

const agent = { taskId: 'task_1', attempt: 1, externalId: 'session_1' };

describe('spawn', () => {
  test('sends what the protocol says, the bytes unchanged', async () => {
    const stub = await open();
    const outcome = await client().spawn(targetOf(stub.url), sendOf(), never);
    expect(outcome).toEqual({ kind: 'accepted', externalId: 'session_1', httpStatus: 201 });
    expect(stub.spawns[0]).toMatchObject({ idempotencyKey: 'key-1', bodyText: body, complete: true });
    expect(stub.spawns[0]?.headers).toMatchObject({
      authorization: 'Bearer s3cret',
      'content-type': 'application/json',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    });
    expect(stub.spawns[0]?.headers).not.toHaveProperty('cookie');
  });

  test('carries the credential the way the backend wants it', async () => {
    const stub = await open();
    await client().spawn(targetOf(stub.url, { authType: 'apiKey' }), sendOf(), never);
    await client().spawn(targetOf(stub.url, { authType: 'none', secret: null }), sendOf(), never);
    expect(stub.spawns[0]?.headers).toMatchObject({ 'x-api-key': 's3cret' });
    expect(stub.spawns[0]?.headers).not.toHaveProperty('authorization');
    expect(stub.spawns[1]?.headers).not.toHaveProperty('x-api-key');
  });

  const answers: [string, Behaviour, Partial<Outcome>][] = [
    ['200', { status: 200, body: { sessionId: 's' } }, { kind: 'accepted', externalId: 's' }],
    [
      '202 with session_id',
      { status: 202, body: { session_id: 's' } },
      { kind: 'accepted', externalId: 's' },
    ],
    ['201 with id', { body: { id: 's', agentId: 'a' } }, { kind: 'accepted', externalId: 's' }],
    ['201 with agentId', { body: { id: '', agentId: 'a' } }, { kind: 'accepted', externalId: 'a' }],
    [
      'a number for an id',
      { body: '{"id": 90071992547409931}' },
      { kind: 'accepted', externalId: '90071992547409931' },
    ],
    ['an id of 513 characters', { body: { id: 'x'.repeat(513) } }, { kind: 'accepted', externalId: null }],
    ['an id of control characters', { body: { id: 'a\u0000b' } }, { kind: 'accepted', externalId: null }],
    ['an id that leaves its path', { body: { id: '..' } }, { kind: 'accepted', externalId: null }],
    ['no body', { status: 204, body: null }, { kind: 'accepted', externalId: null }],
    ['a page', { status: 200, body: '<h1>ok</h1>' }, { kind: 'accepted', externalId: null }],
    ['a list', { body: '[{"id":"s"}]' }, { kind: 'accepted', externalId: null }],
    ['a body too deep', { body: '['.repeat(30_000) }, { kind: 'accepted', externalId: null }],
    [
      'a body over the bound',
      { body: `{"id":"s","x":"${'x'.repeat(70_000)}"}` },
      { kind: 'accepted', externalId: null },
    ],
    ['an endless body', { fault: 'endless' }, { kind: 'accepted', externalId: null }],
    ['half a body', { fault: 'cutAnswer' }, { kind: 'accepted', externalId: null }],
    ['a body that never comes', { fault: 'headersThenSilence' }, { kind: 'accepted', externalId: null }],
    ['409 with an id', { status: 409, body: { sessionId: 's' } }, { kind: 'accepted', externalId: 's' }],
    ['409 without', { status: 409, body: { error: 'conflict' } }, { kind: 'unknown', httpStatus: 409 }],
    ...[400, 413, 415, 422].map((status): [string, Behaviour, Partial<Outcome>] => [
      String(status),
      { status },
      { kind: 'rejected', httpStatus: status },
    ]),
    ...[300, 301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 410, 418, 451].map(
      (status): [string, Behaviour, Partial<Outcome>] => [
        String(status),
        { status, headers: { location: 'http://127.0.0.1:1/' } },
        { kind: 'misconfigured', httpStatus: status },
      ],
    ),
    ...[500, 501, 502, 504, 520, 599].map((status): [string, Behaviour, Partial<Outcome>] => [
      String(status),
      { status },
      { kind: 'unknown', httpStatus: status },
    ]),
    ['429', { status: 429 }, { kind: 'later', holds: 'backend', retryAfterMs: null }],
    ['503, 7 s', { status: 503, headers: { 'retry-after': '7' } }, { kind: 'later', retryAfterMs: 7000 }],
    [
      '429, a date',
      { status: 429, headers: { 'retry-after': 'Sun, 01 Mar 2026 12:00:30 GMT' } },
      { kind: 'later', holds: 'backend', retryAfterMs: 30_000 },
    ],
    ['503, soon', { status: 503, headers: { 'retry-after': 'soon' } }, { kind: 'later', retryAfterMs: null }],
    ['503, -1', { status: 503, headers: { 'retry-after': '-1' } }, { kind: 'later', retryAfterMs: null }],
    [
      '503, 1e9 s',
      { status: 503, headers: { 'retry-after': '1000000000' } },
      { kind: 'later', retryAfterMs: 3_600_000 },
    ],
    [
      '408',
      { status: 408, headers: { 'retry-after': '2' } },
      { kind: 'later', holds: 'task', retryAfterMs: 2000 },
    ],
    ['425', { status: 425 }, { kind: 'later', holds: 'task' }],
    ['a reset', { fault: 'reset' }, { kind: 'unknown', httpStatus: null }],
    ['silence', { fault: 'hang' }, { kind: 'unknown', httpStatus: null }],
    ['a closed connection', { fault: 'close' }, { kind: 'unknown', httpStatus: null }],
    ['what is not HTTP', { fault: 'garbage' }, { kind: 'unknown', httpStatus: null }],
  ];
  test.each(answers)('understands %s', async (_name, behaviour, expected) => {
    const stub = await open({ behave: behaviour });
    expect(await client().spawn(targetOf(stub.url), sendOf(), never)).toMatchObject(expected);
    expect(stub.spawns).toHaveLength(1);
  });

  test('says that a backend which is away received nothing', async () => {
    const stub = await open();
    await stub.stop();
    expect(await client().spawn(targetOf(stub.url), sendOf(), never)).toEqual({
      kind: 'notReceived',
      reason: `127.0.0.1:${stub.port} could not be reached: it refused the connection`,
    });
    await stub.start();
    expect(await client().spawn(targetOf(stub.url), sendOf(), never)).toMatchObject({ kind: 'accepted' });
  });

  test('repeats nothing a backend wrote, and no secret, in a reason', async () => {
    const echo = { error: 'you sent Bearer s3cret <script>alert(1)</script>' };
    const stub = await open();
    for (const status of [301, 400, 401, 409, 429, 500]) {
      stub.behave({ status, body: echo, headers: { 'x-echo': 's3cret' } });
      const outcome = await client().spawn(targetOf(`${stub.url}/?key=s3cret`), sendOf(), never);
      expect(JSON.stringify(outcome)).not.toMatch(/s3cret|script/);
    }
  });

  test.each(['', '/', '/base', '/base/', '/base//'])('keeps the base path "%s" of the url', async (base) => {
    const stub = await open();
    await client().kill(targetOf(`${stub.url}${base}`), agent, 'why', never);
    expect(stub.requests).toEqual([`POST ${base.replace(/\/+$/, '')}/orchestrator/sessions/session_1/kill`]);
  });
});

describe('status', () => {
  const status = async (behaviour: { body: string | object; status?: number }) => {
    const server = await openOther((response) => {
      const text = typeof behaviour.body === 'string' ? behaviour.body : JSON.stringify(behaviour.body);
      response.writeHead(behaviour.status ?? 200, { 'content-type': 'application/json' }).end(text);
    });
    const sighting = await client().status(targetOf(server.url), agent, never);
    await server.close();
    return sighting;
  };

  test.each(['spawning', 'queued', 'running', 'completed', 'failed', 'killed'])(
    'knows %s in any case',
    async (word) => {
      for (const shown of [word, word.toUpperCase(), word[0]?.toUpperCase() + word.slice(1)]) {
        expect(await status({ body: { status: shown } })).toMatchObject({
          kind: 'seen',
          state: word,
          externalId: 'session_1',
          attempt: null,
        });
      }
    },
  );

  test('gives the result as the bytes that came', async () => {
    const result = '{ "n" : 9007199254740993, "e":1e400,"s":"\\ud800 \\u0000", "__proto__": [1 , {}] }';
    const text = `{"result": 1, "status":"completed","a":{"result":2} , "res\\u0075lt" :  ${result}\n}`;
    expect(await status({ body: text })).toMatchObject({ kind: 'seen', state: 'completed', result });
    expect(await status({ body: { status: 'completed' } })).toMatchObject({ result: null });
    expect(await status({ body: '{"status":"completed","result":null}' })).toMatchObject({ result: 'null' });
  });

  test('reads progress, error and attempt, and leaves out what is none', async () => {
    expect(
      await status({
        body: {
          sessionId: 'other',
          status: 'failed',
          attempt: 2,
          progress: { percent: 50, message: 'ha\u0007lf' },
          error: { message: 'boom' },
        },
      }),
    ).toEqual({
      kind: 'seen',
      state: 'failed',
      externalId: 'other',
      attempt: 2,
      progress: { percent: 50, message: 'ha lf' },
      result: null,
      error: { code: 'AGENT_FAILED', message: 'boom', retryable: false },
    });
    expect(
      await status({
        body: {
          status: 'failed',
          progress: { percent: 101 },
          error: { code: 'X', message: 'y'.repeat(9000), retryable: true },
        },
      }),
    ).toMatchObject({ progress: null, error: { code: 'X', message: 'y'.repeat(500), retryable: true } });
    expect(
      await status({ body: { status: 'running', progress: { percent: '50' }, error: 7, attempt: 'x' } }),
    ).toMatchObject({
      progress: null,
      error: null,
      attempt: null,
    });
  });

  test('asks again after an unknown word, nonsense or a failure, and echoes it in a bounded form only', async () => {
    expect(await status({ body: { status: 'paused\u0000\u001b[31m' } })).toEqual({
      kind: 'tryAgain',
      reason: 'unknown status "paused [31m"',
    });
    for (const body of [
      '',
      '[]',
      'null',
      '{',
      '{"status":',
      '"running"',
      '{}',
      '{"status":7}',
      '['.repeat(100_000),
    ]) {
      expect(await status({ body })).toMatchObject({ kind: 'tryAgain' });
    }
    expect(
      await status({ body: { status: 'completed', result: 'x'.repeat(2 * 1024 * 1024) } }),
    ).toMatchObject({
      kind: 'tryAgain',
      reason: expect.stringContaining('too large'),
    });
    for (const code of [301, 400, 401, 429, 500, 503]) {
      expect(await status({ status: code, body: {} })).toMatchObject({ kind: 'tryAgain' });
    }
  });

  test('takes a result of a megabyte', async () => {
    const result = 'x'.repeat(1024 * 1024);
    expect(await status({ body: { status: 'completed', result } })).toMatchObject({
      result: JSON.stringify(result),
    });
  });

  test('tells an unknown agent from a missing route', async () => {
    expect(await status({ status: 404, body: {} })).toEqual({ kind: 'unknownThere' });
    expect(await status({ status: 405, body: {} })).toMatchObject({ kind: 'cannotTell' });
    expect(await status({ status: 501, body: {} })).toMatchObject({ kind: 'cannotTell' });
  });

  test('takes a 404 for proof that an agent is gone only after the route has told of another', async () => {
    const stub = await open();
    const asking = client();
    const gone = { ...agent, externalId: 'session_9' };
    expect(await asking.status(targetOf(stub.url), gone, never)).toEqual({ kind: 'unknownThere' });
    await asking.spawn(targetOf(stub.url), sendOf(), never);
    expect(await asking.status(targetOf(stub.url), agent, never)).toMatchObject({ kind: 'seen' });
    expect(await asking.status(targetOf(stub.url), gone, never)).toEqual({
      kind: 'unknownThere',
      proven: true,
    });
  });

  test('escapes an id, and asks for none that would become another path', async () => {
    const stub = await open();
    await client().status(targetOf(stub.url), { ...agent, externalId: 'a/../b?c#d %' }, never);
    expect(stub.requests).toEqual(['GET /orchestrator/sessions/a%2F..%2Fb%3Fc%23d%20%25/status']);
    for (const externalId of ['..', '.', '', 'a\nb', '\ud800']) {
      expect(await client().status(targetOf(stub.url), { ...agent, externalId }, never)).toMatchObject({
        kind: 'cannotTell',
      });
    }
    expect(stub.requests).toHaveLength(1);
  });
});

describe('find', () => {
  test('lists the sessions of one task, also where the backend does not filter', async () => {
    const stub = await open();
    await client().spawn(targetOf(stub.url), sendOf(), never);
    await client().spawn(targetOf(stub.url), sendOf({ body: body.replace('task_1', 'task_2') }), never);
    expect(await client().find(targetOf(stub.url), 'task_1', never)).toEqual([
      expect.objectContaining({ kind: 'seen', state: 'spawning', externalId: 'session_1', attempt: 1 }),
    ]);
    const server = await openOther((response) =>
      response.end(
        JSON.stringify({
          sessions: [
            { id: 'a', taskId: 'task_2', status: 'running' },
            { id: 'b', taskId: 'task_1', status: 'RUNNING' },
            { id: 'c', taskId: 'task_1', status: 'dreaming' },
            null,
            [],
            7,
          ],
        }),
      ),
    );
    expect(await client().find(targetOf(server.url), 'task_1', never)).toEqual([
      expect.objectContaining({ externalId: 'b', state: 'running', attempt: null }),
      { kind: 'tryAgain', reason: 'unknown status "dreaming"' },
    ]);
    await server.close();
  });

  test('says when there is no list, and when there was no usable answer', async () => {
    const stub = await open();
    for (const missing of [404, 405, 501]) {
      stub.setRoutes({ list: missing });
      expect(await client().find(targetOf(stub.url), 'task_1', never)).toMatchObject({ kind: 'cannotTell' });
    }
    stub.setRoutes({ list: 500 });
    expect(await client().find(targetOf(stub.url), 'task_1', never)).toMatchObject({ kind: 'tryAgain' });
    await stub.stop();
    expect(await client().find(targetOf(stub.url), 'task_1', never)).toMatchObject({ kind: 'tryAgain' });
  });
});

describe('kill', () => {
  test('passes the reason on and takes only the word for an end', async () => {
    const stub = await open();
    await client().spawn(targetOf(stub.url), sendOf(), never);
    expect(await client().kill(targetOf(stub.url), agent, 'no "longer" wanted', never)).toEqual({
      kind: 'killed',
    });
    expect(stub.kills).toMatchObject([{ sessionId: 'session_1', reason: 'no "longer" wanted' }]);
  });

  test.each<[string, Behaviour, string]>([
    ['killed in capitals', { status: 200, body: { status: 'KILLED' } }, 'killed'],
    ['a bare 200', { status: 200, body: {} }, 'told'],
    ['202', { status: 202, body: { status: 'killing' } }, 'told'],
    ['204', { status: 204, body: null }, 'told'],
    ['200 with half a body', { fault: 'cutAnswer' }, 'told'],
    ['404', { status: 404 }, 'unknownThere'],
    ['400', { status: 400 }, 'over'],
    ['409', { status: 409 }, 'over'],
    ['405', { status: 405 }, 'cannotKill'],
    ['501', { status: 501 }, 'cannotKill'],
    ['401', { status: 401 }, 'tryAgain'],
    ['429', { status: 429 }, 'tryAgain'],
    ['500', { status: 500 }, 'tryAgain'],
    ['302', { status: 302, headers: { location: '/' } }, 'tryAgain'],
    ['a reset', { fault: 'reset' }, 'tryAgain'],
  ])('understands %s', async (_name, behaviour, kind) => {
    const stub = await open();
    stub.setKillAnswer(behaviour);
    expect(await client().kill(targetOf(stub.url), agent, 'why', never)).toMatchObject({ kind });
  });
});

describe('probe', () => {
  test('takes 2xx for health, or any answer where the backend says so', async () => {
    const stub = await open();
    const probe = (more: Partial<Target> = {}) => client().probe(targetOf(stub.url, more), 500, never);
    expect(await probe()).toMatchObject({ ok: true, httpStatus: 200, error: null });
    expect((await probe()).latencyMs).toBeLessThan(500);
    for (const status of [301, 401, 404, 500, 503]) {
      stub.setHealth({ status });
      expect(await probe()).toMatchObject({ ok: false, httpStatus: status });
      expect(await probe({ healthExpect: 'any' })).toMatchObject({ ok: true, httpStatus: status });
    }
    stub.setHealth({ fault: 'hang' });
    expect(await probe({ healthExpect: 'any' })).toMatchObject({ ok: false, httpStatus: null });
    await stub.stop();
    expect(await probe()).toMatchObject({
      ok: false,
      httpStatus: null,
      error: expect.stringContaining('refused'),
    });
  });

  test('asks the path that was configured', async () => {
    const stub = await open();
    await client().probe(targetOf(`${stub.url}/base/`, { healthPath: '/health/ready?full=1' }), 500, never);
    await client().probe(targetOf(stub.url, { healthPath: 'up' }), 500, never);
    expect(stub.requests).toEqual(['GET /base/health/ready?full=1', 'GET /up']);
  });
});

describe('test', () => {
  const steps = async (target: Target, with_ = client()) => {
    const report = await with_.test(target, 2000, never);
    return {
      ok: report.ok,
      steps: Object.fromEntries(report.steps.map((one) => [one.name, one])),
      all: report.steps,
    };
  };

  test('goes all four steps and spawns nothing', async () => {
    const stub = await open({ requireHeader: { name: 'authorization', value: 'Bearer s3cret' } });
    const report = await steps(targetOf(stub.url));
    expect(report.ok).toBe(true);
    expect(report.all.map(({ name, ok }) => [name, ok])).toEqual([
      ['resolve', true],
      ['connect', true],
      ['health', true],
      ['auth', true],
    ]);
    expect(stub.requests).toEqual(['GET /health', 'GET /orchestrator/sessions?taskId=probe']);
    expect(stub.spawns).toEqual([]);
  });

  test('says what to do about a wrong credential, in either form', async () => {
    const stub = await open({ requireHeader: { name: 'x-api-key', value: 's3cret' } });
    const wrong = await steps(targetOf(stub.url));
    expect(wrong.ok).toBe(false);
    expect(wrong.steps['auth']).toMatchObject({
      ok: false,
      detail: expect.stringContaining('check auth.type'),
    });
    const none = await steps(targetOf(stub.url, { authType: 'none', secret: null }));
    expect(none.steps['auth']).toMatchObject({ ok: false, detail: expect.stringContaining('set auth.type') });
    expect((await steps(targetOf(stub.url, { authType: 'apiKey' }))).ok).toBe(true);
    expect(JSON.stringify(wrong)).not.toContain('s3cret');
  });

  test('does not mind a backend without a list', async () => {
    const stub = await open();
    for (const status of [404, 405, 501]) {
      stub.setRoutes({ list: status });
      expect(await steps(targetOf(stub.url))).toMatchObject({ ok: true });
    }
    stub.setRoutes({ list: 500 });
    expect(await steps(targetOf(stub.url))).toMatchObject({ ok: false, steps: { auth: { ok: false } } });
  });

  test('names the cure of a bad health route, and still tries the credential', async () => {
    const stub = await open();
    stub.setHealth({ status: 404 });
    const report = await steps(targetOf(stub.url));
    expect(report.steps['health']).toMatchObject({
      ok: false,
      detail: expect.stringContaining('health.path'),
    });
    expect(report.steps['auth']).toMatchObject({ ok: true });
  });

  test('stops where it cannot go on: nobody there, no such name, an address that is refused', async () => {
    const stub = await open();
    await stub.stop();
    const away = await steps(targetOf(stub.url));
    expect(away.steps).toMatchObject({
      resolve: { ok: true },
      connect: { ok: false, detail: expect.stringContaining('refused the connection; check the port') },
      health: { ok: false, detail: expect.stringContaining('not tried') },
      auth: { ok: false },
    });
    expect((await steps(targetOf('http://nowhere.invalid/'))).steps['resolve']).toMatchObject({
      ok: false,
      detail: expect.stringContaining('check the host name'),
    });
    const canary = await openCanary();
    const strict = openHttp({ guard: guardWith() });
    const guarded = makeGatewayClient({ http: strict, now: () => now });
    for (const url of [canary.url, `http://localhost:${canary.port}`]) {
      const refused = await steps(targetOf(url), guarded);
      expect(refused.steps['resolve']).toMatchObject({
        ok: false,
        detail: expect.stringContaining('BACKEND_ALLOW_CIDRS'),
      });
    }
    expect(canary.connections()).toBe(0);
    strict.close();
    await canary.close();
  });

  test('sees TLS where there is none', async () => {
    const stub = await open();
    const report = await steps(targetOf(stub.url.replace('http:', 'https:')));
    expect(report.steps['connect']).toMatchObject({ ok: false, detail: expect.stringContaining('TLS') });
  });
});

/** A server that gives one answer to everything. */
async function openOther(answer: (response: ServerResponse) => void) {
  const server = createServer((request, response) => {
    request.resume();
    answer(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
