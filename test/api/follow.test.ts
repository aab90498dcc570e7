import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { advanceTasks } from '../../src/db/moves.js';
import { adminKey, openTestApi, type TestApi } from '../support/api.js';
import { acceptTask, insertUpBackend, taskBody } from '../support/builders.js';
import { eventually } from '../support/eventually.js';

let api: TestApi;
beforeAll(async () => {
  api = await openTestApi();
  await insertUpBackend(api.db, 'bknd_one');
});
afterAll(() => api.close());

const limits = { silenceMs: 60_000, giveUpAfterMs: 3_600_000 };
const make = async (given: Record<string, unknown> = {}): Promise<string> =>
  (await api.call('POST', '/v1/tasks', { body: taskBody(given) })).json.id as string;
const get = (path: string, key = adminKey) => api.call('GET', path, { key });

/** What a worker does with a stored callback. */
async function report(id: string, status: string, given: Record<string, unknown> = {}): Promise<void> {
  const { token } = api.tokens.sign(id, 1);
  const answer = await api.call('POST', `/v1/callbacks/${id}/1`, { key: token, body: { status, ...given } });
  expect(answer.status).toBe(202);
  await advanceTasks(api.db, [{ taskId: id, event: null }], limits);
  await api.db.query({ text: `SELECT pg_notify('mosaic_tasks', $1)` }, [id]);
}

async function running(given: Record<string, unknown> = {}): Promise<string> {
  const id = await make(given);
  await acceptTask(api.db, id, 'bknd_one', 'RUNNING');
  return id;
}

type Frame = { id: number; event: string; data: { seq: number; type: string; from: string; to: string } };

/** Reads a stream to its end, or until `enough`. */
async function readStream(id: string, lastEventId?: number, enough = Infinity): Promise<Frame[]> {
  const abort = new AbortController();
  const answer = await fetch(`${api.baseUrl}/v1/tasks/${id}/stream`, {
    signal: abort.signal,
    headers: {
      authorization: `Bearer ${adminKey}`,
      ...(lastEventId === undefined ? {} : { 'last-event-id': String(lastEventId) }),
    },
  });
  expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
  let text = '';
  const decoder = new TextDecoder();
  for await (const chunk of answer.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (framesOf(text).length >= enough) break;
  }
  abort.abort();
  return framesOf(text);
}

function framesOf(text: string): Frame[] {
  return [...text.matchAll(/id: (\d+)\nevent: (\S+)\ndata: (.*)\n\n/g)].map(([, id, event, data]) => ({
    id: Number(id),
    event: event ?? '',
    data: JSON.parse(data ?? ''),
  }));
}

describe('GET /v1/tasks/{id}', () => {
  test('?wait answers when the task has ended', async () => {
    const id = await running();
    const waiting = get(`/v1/tasks/${id}?wait=20`);
    await report(id, 'completed', { result: { done: true } });
    const startedAt = performance.now();
    const { json } = await waiting;
    expect(json).toMatchObject({ state: 'COMPLETED', result: { done: true }, waiting: null });
    expect(performance.now() - startedAt).toBeLessThan(1500);
  });

  test('?wait answers as it is when the seconds are over', async () => {
    const id = await make();
    const startedAt = performance.now();
    expect((await get(`/v1/tasks/${id}?wait=1`)).json.state).toBe('PENDING');
    expect(performance.now() - startedAt).toBeGreaterThan(900);
  });

  test('?wait sees an end whose notice was lost', async () => {
    const id = await running();
    const waiting = get(`/v1/tasks/${id}?wait=20`);
    const { token } = api.tokens.sign(id, 1);
    await api.call('POST', `/v1/callbacks/${id}/1`, { key: token, body: { status: 'completed' } });
    await advanceTasks(api.db, [{ taskId: id, event: null }], limits);
    expect((await waiting).json.state).toBe('COMPLETED');
  });

  test('a held task says why, as the fleet is now', async () => {
    const id = await make({ backend: { labels: { zone: 'nowhere' } } });
    await api.db.query(
      {
        text: `UPDATE tasks SET lane = '[null,null,[["zone","nowhere"]]]', due_at = NULL, waiting_reason = 'backend_full', waiting_detail = 'old' WHERE id = $1`,
      },
      [id],
    );
    expect((await get(`/v1/tasks/${id}`)).json.waiting).toEqual({
      reason: 'no_backend',
      detail: 'no backend has labels zone=nowhere',
      until: null,
    });
  });

  test('an unknown one is 404', async () => {
    for (const path of ['', '/events', '/attempts', '/stream']) {
      const { status, json } = await get(`/v1/tasks/task_00000000000000000000000000${path}`);
      expect([status, json.code]).toEqual([404, 'not_found']);
    }
  });
});

describe('GET /v1/tasks', () => {
  test('pages newest first and stays stable while tasks are added', async () => {
    const type = 'paged';
    const ids: string[] = [];
    for (let count = 0; count < 7; count += 1) ids.push(await make({ type }));
    const seen: string[] = [];
    let cursor = '';
    for (;;) {
      const { json } = await get(`/v1/tasks?type=${type}&limit=3${cursor}`);
      seen.push(...json.data.map((task: { id: string }) => task.id));
      if (json.nextCursor === null) break;
      cursor = `&cursor=${json.nextCursor}`;
      await make({ type });
    }
    expect(seen).toEqual(ids.toReversed());
  });

  test('shows no payloads', async () => {
    await make({ type: 'bare', metadata: { a: 1 } });
    const { json } = await get('/v1/tasks?type=bare');
    const names = Object.keys(json.data[0]);
    for (const payload of ['context', 'metadata', 'result']) expect(names).not.toContain(payload);
    expect(names).toContain('waiting');
  });

  test('every filter narrows', async () => {
    const type = 'filtered';
    const [a, b, c] = [
      await make({ type, tags: ['x', 'y'], reference: 'r1', workspaceId: 'w1' }),
      await make({ type, tags: ['x'], reference: 'r2' }),
      await running({ type }),
    ];
    await api.call('POST', `/v1/tasks/${c}/cancel`, { body: { reason: 'test' } });
    const createdAt = (await get(`/v1/tasks/${b}`)).json.createdAt as string;
    const cases: [string, (string | undefined)[]][] = [
      ['state=PENDING', [b, a]],
      ['state=PENDING&state=RUNNING', [c, b, a]],
      ['tag=x', [b, a]],
      ['tag=x&tag=y', [a]],
      ['reference=r2', [b]],
      ['workspaceId=w1', [a]],
      ['backendId=bknd_one', [c]],
      ['cancelling=true', [c]],
      ['cancelling=false', [b, a]],
      [`createdAfter=${createdAt}`, [c]],
      [`createdBefore=${createdAt}`, [a]],
    ];
    for (const [query, expected] of cases) {
      const { json } = await get(`/v1/tasks?type=${type}&${query}`);
      expect([query, json.data.map((task: { id: string }) => task.id)]).toEqual([query, expected]);
    }
  });
});

describe('workspaces', () => {
  test("a bound key sees and makes only its workspace's tasks", async () => {
    const { secret } = await api.key(['tasks:read', 'tasks:write'], 'mine');
    const foreign = await make({ workspaceId: 'other' });
    const own = await api.call('POST', '/v1/tasks', { key: secret, body: taskBody() });
    expect(own.json.workspaceId).toBe('mine');
    const refused = await api.call('POST', '/v1/tasks', {
      key: secret,
      body: taskBody({ workspaceId: 'other' }),
    });
    expect(refused.status).toBe(403);
    const batch = await api.call('POST', '/v1/tasks/batch', {
      key: secret,
      body: { tasks: [taskBody({ workspaceId: 'other' }), taskBody({ workspaceId: 'mine' })] },
    });
    expect(batch.json.data.map((item: { status: number }) => item.status)).toEqual([403, 201]);
    for (const [method, path] of [
      ['GET', ''],
      ['PATCH', ''],
      ['GET', '/attempts'],
      ['GET', '/events'],
      ['GET', '/stream'],
      ['POST', '/cancel'],
      ['POST', '/retry'],
    ] as const) {
      const body = method === 'GET' ? undefined : { reason: 'x' };
      const answer = await api.call(method, `/v1/tasks/${foreign}${path}`, {
        key: secret,
        body: path === '/retry' || method === 'PATCH' ? {} : body,
      });
      expect([path, method, answer.status]).toEqual([path, method, 404]);
    }
    const listed = await get('/v1/tasks', secret);
    expect(new Set(listed.json.data.map((task: { workspaceId: string }) => task.workspaceId))).toEqual(
      new Set(['mine']),
    );
    expect((await get('/v1/tasks?workspaceId=other', secret)).json.data).toEqual([]);
  });
});

describe('events, attempts and the stream', () => {
  test('list the timeline ascending, in pages', async () => {
    const id = await running();
    await report(id, 'progress', { progress: { percent: 50, message: 'half' } });
    await report(id, 'failed', { error: { code: 'BAD', message: 'no' } });
    const { json } = await get(`/v1/tasks/${id}/events`);
    expect(json.nextCursor).toBeNull();
    expect(json.data.map((event: { seq: number }) => event.seq)).toEqual([1, 2, 3, 4, 5]);
    expect(json.data[0]).toEqual({
      seq: 1,
      type: 'task.created',
      from: null,
      to: 'PENDING',
      at: expect.any(String),
      attempt: null,
      backendId: null,
      actor: 'admin',
      detail: {},
    });
    const first = await get(`/v1/tasks/${id}/events?limit=2`);
    const second = await get(`/v1/tasks/${id}/events?limit=3&cursor=${first.json.nextCursor}`);
    expect([...first.json.data, ...second.json.data]).toEqual(json.data);
    const attempts = await get(`/v1/tasks/${id}/attempts`);
    expect(attempts.json.data).toEqual([
      {
        number: 1,
        backendId: 'bknd_one',
        externalId: 'agent-1',
        sends: 1,
        outcome: expect.any(String),
        httpStatus: null,
        error: 'no',
        startedAt: expect.any(String),
        endedAt: expect.any(String),
      },
    ]);
    const other = await make();
    expect((await get(`/v1/tasks/${other}/events?cursor=${first.json.nextCursor}`)).json.code).toBe(
      'malformed_cursor',
    );
  });

  test('the stream tells what comes and ends after the end', async () => {
    const id = await running();
    const stream = readStream(id);
    await report(id, 'progress', { progress: { percent: 10 } });
    await report(id, 'completed');
    const frames = await stream;
    expect(frames.map((frame) => frame.id)).toEqual(frames.map((_, index) => index + 1));
    expect(frames.every((frame) => frame.data.seq === frame.id && frame.data.type === frame.event)).toBe(
      true,
    );
    expect(frames.at(-1)?.data.to).toBe('COMPLETED');
    const { json } = await get(`/v1/tasks/${id}/events`);
    expect(frames.map((frame) => frame.data)).toEqual(json.data);
  });

  test('Last-Event-ID resumes with nothing lost or doubled', async () => {
    const id = await running();
    const first = await readStream(id, undefined, 2);
    await report(id, 'progress', { progress: { percent: 10 } });
    const rest = readStream(id, first.at(-1)?.id);
    await report(id, 'killed');
    const all = [...first, ...(await rest)];
    expect(all.map((frame) => frame.id)).toEqual(all.map((_, index) => index + 1));
    expect(all.at(-1)?.data.to).toBe('CANCELLED');
    const over = await api.call('GET', `/v1/tasks/${id}/stream`, {
      headers: { 'last-event-id': String(all.length) },
    });
    expect(over.status).toBe(204);
    expect(
      (await api.call('GET', `/v1/tasks/${id}/stream`, { headers: { 'last-event-id': 'x' } })).status,
    ).toBe(400);
  });

  test('a revoked key ends its streams and waits', async () => {
    const { id: keyId, secret } = await api.key(['tasks:read']);
    const id = await make();
    const startedAt = performance.now();
    const stream = fetch(`${api.baseUrl}/v1/tasks/${id}/stream`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    const body = (await stream).text();
    const waiting = get(`/v1/tasks/${id}?wait=30`, secret);
    await api.call('DELETE', `/v1/api-keys/${keyId}`);
    await body;
    expect((await waiting).status).toBe(401);
    expect(performance.now() - startedAt).toBeLessThan(5000);
  });

  test('draining ends streams with a hint and answers waits', async () => {
    const other = await openTestApi({}, api.databaseUrl);
    const id = await make();
    const waiting = other.call('GET', `/v1/tasks/${id}?wait=30`);
    const stream = await fetch(`${other.baseUrl}/v1/tasks/${id}/stream`, {
      headers: { authorization: `Bearer ${adminKey}` },
    });
    await eventually(async () => expect((await other.call('GET', '/readyz')).status).toBe(200));
    other.drain();
    expect(await stream.text()).toMatch(/^retry: \d+\n\n/);
    expect((await waiting).json.state).toBe('PENDING');
    const unready = await other.call('GET', '/readyz');
    expect([unready.status, unready.json.reason]).toEqual([503, 'the process is shutting down']);
    expect((await other.call('GET', '/livez')).status).toBe(200);
    await other.close();
  });
});

describe('PATCH /v1/tasks/{id}', () => {
  test('changes what was not sent', async () => {
    const id = await make({ metadata: { old: 1 }, deadlineAt: '2099-01-01T00:00:00Z' });
    const { status, json, text } = await api.call('PATCH', `/v1/tasks/${id}`, {
      body: '{"priority":1,"tags":["t"],"metadata":{ "n": 1.0 },"deadlineAt":null,"backend":{"id":"bknd_one"},"scheduledFor":"2098-01-01T00:00:00Z"}',
    });
    expect(status).toBe(200);
    expect(json).toMatchObject({ priority: 1, tags: ['t'], deadlineAt: null, backend: { id: 'bknd_one' } });
    expect(json.waiting.reason).toBe('scheduled');
    expect(text).toContain('"metadata":{ "n": 1.0 }');
    const cleared = await api.call('PATCH', `/v1/tasks/${id}`, {
      body: { metadata: null, backend: null, scheduledFor: null },
    });
    expect(cleared.json).toMatchObject({
      metadata: null,
      backend: null,
      scheduledFor: null,
      waiting: { reason: 'queued' },
    });
    await eventually(() => expect(api.rung.some(({ ids }) => ids.includes(id))).toBe(true));
    expect((await get(`/v1/tasks/${id}/events`)).json.data[1].type).toBe('task.changed');
  });

  test('refuses what was sent, has ended, or is no change', async () => {
    const sent = await running();
    const answer = await api.call('PATCH', `/v1/tasks/${sent}`, { body: { priority: 1 } });
    expect([answer.status, answer.json.code, answer.json.state]).toEqual([
      409,
      'task_already_sent',
      'RUNNING',
    ]);
    const ended = await make();
    await api.call('POST', `/v1/tasks/${ended}/cancel`, { body: { reason: 'x' } });
    expect((await api.call('PATCH', `/v1/tasks/${ended}`, { body: { priority: 1 } })).json.code).toBe(
      'task_already_ended',
    );
    expect((await api.call('PATCH', `/v1/tasks/${ended}`, { body: { type: 'x' } })).status).toBe(422);
    expect(
      (await api.call('PATCH', `/v1/tasks/${ended}`, { body: { backend: { name: 'nope' } } })).json.code,
    ).toBe('unknown_backend');
    expect((await api.call('PATCH', `/v1/tasks/${ended}`, { body: { metadata: 5 } })).status).toBe(422);
  });
});

describe('POST /v1/tasks/{id}/cancel', () => {
  test('an unsent task is cancelled at once, finally', async () => {
    const id = await make();
    const { status, json } = await api.call('POST', `/v1/tasks/${id}/cancel`, {
      body: { reason: 'not needed' },
    });
    expect([status, json.state]).toEqual([200, 'CANCELLED']);
    const again = await api.call('POST', `/v1/tasks/${id}/cancel`, { body: { reason: 'not needed' } });
    expect([again.status, again.json.code, again.json.state]).toEqual([
      409,
      'task_already_ended',
      'CANCELLED',
    ]);
    const { json: audit } = await get('/v1/audit?limit=1');
    expect(audit.data[0]).toMatchObject({
      actor: 'admin',
      action: 'task.cancel',
      target: id,
      reason: 'not needed',
      detail: { state: 'PENDING' },
    });
  });

  test('a running one is asked, again and again, and can be given up by an admin', async () => {
    const id = await running();
    const { secret } = await api.key(['tasks:write']);
    const early = await api.call('POST', `/v1/tasks/${id}/cancel`, { body: { reason: 'x', giveUp: true } });
    expect([early.status, early.json.code]).toEqual([409, 'task_not_cancelling']);
    const first = await api.call('POST', `/v1/tasks/${id}/cancel`, { key: secret, body: { reason: 'stop' } });
    expect([first.status, first.json.state]).toEqual([202, 'RUNNING']);
    expect(first.json.cancelRequestedAt).not.toBeNull();
    expect(
      (await api.call('POST', `/v1/tasks/${id}/cancel`, { key: secret, body: { reason: 'stop' } })).status,
    ).toBe(202);
    const forbidden = await api.call('POST', `/v1/tasks/${id}/cancel`, {
      key: secret,
      body: { reason: 'x', giveUp: true },
    });
    expect([forbidden.status, forbidden.json.code]).toEqual([403, 'scope_missing']);
    const given = await api.call('POST', `/v1/tasks/${id}/cancel`, {
      body: { reason: 'host is gone', giveUp: true },
    });
    expect([given.status, given.json.state, given.json.error.code]).toEqual([
      200,
      'FAILED',
      'KILL_UNCONFIRMED',
    ]);
  });

  test('a killed callback confirms it', async () => {
    const id = await running();
    await api.call('POST', `/v1/tasks/${id}/cancel`, { body: { reason: 'stop' } });
    await report(id, 'killed');
    expect((await get(`/v1/tasks/${id}`)).json.state).toBe('CANCELLED');
  });

  test.each([[{}], [{ reason: '' }], [{ reason: 'x', giveUp: 'yes' }], [{ reason: 'x', why: 1 }]])(
    'refuses %j',
    async (body) => {
      const id = await make();
      expect((await api.call('POST', `/v1/tasks/${id}/cancel`, { body })).status).toBe(422);
    },
  );

  test('a row that another holds is told to come again', async () => {
    const id = await make();
    await api.db.transaction(async (tx) => {
      await tx.query({ text: 'SELECT 1 FROM tasks WHERE id = $1 FOR UPDATE' }, [id]);
      const { status, json, headers } = await api.call('POST', `/v1/tasks/${id}/cancel`, {
        body: { reason: 'x' },
      });
      expect([status, json.code, headers.get('retry-after')]).toEqual([503, 'busy', '1']);
    });
  });
});

describe('POST /v1/tasks/{id}/retry', () => {
  test('makes a failed task anew, once at a time', async () => {
    const given = {
      title: 'again',
      reference: 'r',
      priority: 2,
      workspaceId: 'w',
      tags: ['a'],
      metadata: { b: 1 },
      timeouts: { runMs: 5000 },
      retry: { maxAttempts: 2 },
      deadlineAt: '2099-01-01T00:00:00.000Z',
    };
    const id = await running(given);
    const early = await api.call('POST', `/v1/tasks/${id}/retry`);
    expect([early.status, early.json.code, early.json.state]).toEqual([409, 'task_not_ended', 'RUNNING']);
    await report(id, 'failed', { error: { message: 'no' } });
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => api.call('POST', `/v1/tasks/${id}/retry`)),
    );
    const made = answers.filter(({ status }) => status === 201);
    expect(made).toHaveLength(1);
    expect(made[0]?.json).toMatchObject({
      ...given,
      state: 'PENDING',
      retryOf: id,
      context: { text: 'hello' },
    });
    expect(made[0]?.headers.get('location')).toBe(`/v1/tasks/${made[0]?.json.id}`);
    for (const { status, json } of answers.filter((answer) => answer.status !== 201)) {
      expect([status, json.code, json.retryId]).toEqual([409, 'retry_not_ended', made[0]?.json.id]);
    }
    await api.call('POST', `/v1/tasks/${made[0]?.json.id}/cancel`, { body: { reason: 'x' } });
    expect((await api.call('POST', `/v1/tasks/${id}/retry`, { body: {} })).status).toBe(201);
  });

  test('a completed one is not tried again', async () => {
    const id = await running();
    await report(id, 'completed');
    expect((await api.call('POST', `/v1/tasks/${id}/retry`)).json.code).toBe('task_not_ended');
    expect((await api.call('POST', `/v1/tasks/${id}/retry`, { body: { x: 1 } })).status).toBe(422);
  });
});

describe('stops', () => {
  test('count only in a dry run, and are stored before they are answered', async () => {
    for (let count = 0; count < 3; count += 1) await make({ workspaceId: 'stopped' });
    const path = '/v1/workspaces/stopped/kill-all';
    const body = { reason: 'INC-1' };
    const dry = await api.call('POST', `${path}?dryRun=true`, { body });
    expect([dry.status, dry.json]).toEqual([202, { matched: 3, requested: 0 }]);
    const real = await api.call('POST', path, { body });
    expect([real.status, real.json]).toEqual([202, { matched: 3, requested: 3 }]);
    const fences = await api.db.query({ text: 'SELECT workspace_id, actor, reason, matched FROM fences' });
    expect(fences).toEqual([{ workspace_id: 'stopped', actor: 'admin', reason: 'INC-1', matched: 3 }]);
    const { json } = await get('/v1/audit?limit=1');
    expect(json.data[0]).toMatchObject({ action: 'workspace.killAll', target: 'stopped', reason: 'INC-1' });
  });

  test('are for the own workspace, or an admin', async () => {
    const [bound, free] = await Promise.all([api.key(['tasks:write'], 'own'), api.key(['tasks:write'])]);
    const body = { reason: 'x' };
    const kill = (key: string, workspace: string) =>
      api.call('POST', `/v1/workspaces/${workspace}/kill-all`, { key, body });
    expect((await kill(bound.secret, 'own')).status).toBe(202);
    expect((await kill(bound.secret, 'other')).status).toBe(403);
    expect((await kill(free.secret, 'own')).status).toBe(403);
    expect((await api.call('POST', '/v1/emergency-stop', { key: free.secret, body })).status).toBe(403);
    expect((await api.call('POST', '/v1/emergency-stop?dryRun=true', { body })).status).toBe(202);
    expect((await api.call('POST', '/v1/emergency-stop', { body: {} })).status).toBe(422);
    expect((await kill(adminKey, 'a%20b')).status).toBe(422);
  });
});

test('nothing was logged as a fault of ours', () => {
  expect(api.logged.filter(({ event }) => event === 'request.failed')).toEqual([]);
});
