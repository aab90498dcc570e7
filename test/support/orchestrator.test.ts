import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readBody } from './orchestrator-answers.js';
import { openStubOrchestrator } from './orchestrator.js';

/** A callback door that writes down what it was told. */
let door: Server;
let doorUrl: string;
const heard: { authorization: string | undefined; status: string }[] = [];
let refuse = 0;

beforeAll(async () => {
  door = createServer((request, response) => {
    void readBody(request).then(({ text }) => {
      if (refuse > 0) {
        refuse -= 1;
        return response.writeHead(503).end();
      }
      heard.push({
        authorization: request.headers.authorization,
        status: (JSON.parse(text) as { status: string }).status,
      });
      return response.writeHead(202).end('{"accepted":true}');
    });
  });
  await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve));
  doorUrl = `http://127.0.0.1:${(door.address() as AddressInfo).port}/cb`;
});
afterAll(() => {
  door.closeAllConnections();
  door.close();
});

function spawn(url: string, key = 'key-1'): Promise<Response> {
  return fetch(`${url}/orchestrator/sessions/spawn`, {
    method: 'POST',
    headers: { 'idempotency-key': key, 'content-type': 'application/json' },
    body: JSON.stringify({
      task: { id: 'task_1', attempt: 2 },
      context: {},
      callback_url: doorUrl,
      callback_token: 'tok',
    }),
  });
}

async function eventually(check: () => boolean): Promise<void> {
  const until = performance.now() + 5000;
  while (!check()) {
    if (performance.now() > until) throw new Error('did not come true within 5 s');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the stub Orchestrator', () => {
  test('keeps every spawn, with what it said, and starts an agent for each', async () => {
    const stub = await openStubOrchestrator();
    expect((await spawn(stub.url)).status).toBe(201);
    expect(await (await spawn(stub.url)).json()).toEqual({ sessionId: 'session_2', status: 'spawning' });
    expect(stub.spawns).toHaveLength(2);
    expect(stub.spawns[0]).toMatchObject({
      nth: 1,
      idempotencyKey: 'key-1',
      taskId: 'task_1',
      attempt: 2,
      callbackToken: 'tok',
      complete: true,
      sessionId: 'session_1',
    });
    await stub.close();
  });

  test('starts one agent for one key when it honours keys', async () => {
    const stub = await openStubOrchestrator({ honourKeys: true });
    await spawn(stub.url);
    expect(await (await spawn(stub.url)).json()).toMatchObject({ sessionId: 'session_1' });
    expect([stub.spawns.length, stub.sessions.length]).toEqual([2, 1]);
    await stub.close();
  });

  test('lets agents call back by themselves, until they are heard', async () => {
    const stub = await openStubOrchestrator({ agents: 'auto' });
    heard.length = 0;
    refuse = 2;
    await spawn(stub.url);
    await eventually(() => heard.length === 3);
    expect(heard.map((one) => one.status)).toEqual(['running', 'progress', 'completed']);
    expect(heard[0]?.authorization).toBe('Bearer tok');
    const status = await fetch(`${stub.url}/orchestrator/sessions/session_1/status`);
    expect(await status.json()).toMatchObject({ status: 'completed', taskId: 'task_1', attempt: 2 });
    await stub.close();
  });

  test('answers, resets, hangs or cuts as it was told, one spawn at a time', async () => {
    const stub = await openStubOrchestrator();
    stub.behave((one) =>
      one.nth === 1 ? { fault: 'reset' } : { status: 429, headers: { 'retry-after': '7' } },
    );
    await expect(spawn(stub.url)).rejects.toThrow();
    const later = await spawn(stub.url);
    expect([later.status, later.headers.get('retry-after')]).toEqual([429, '7']);
    stub.behave({ status: 201, fault: 'reset' });
    await expect(spawn(stub.url)).rejects.toThrow();
    expect(stub.sessions).toHaveLength(1);
    await stub.close();
  });

  test('goes down and comes back on the same port with all it knew', async () => {
    const stub = await openStubOrchestrator();
    await spawn(stub.url);
    await stub.stop();
    await expect(spawn(stub.url)).rejects.toThrow();
    await stub.start();
    await spawn(stub.url);
    expect(stub.sessions).toHaveLength(2);
    await stub.close();
  });

  test('kills once, remembers why, and lacks the routes that were switched off', async () => {
    const stub = await openStubOrchestrator();
    await spawn(stub.url);
    const kill = () =>
      fetch(`${stub.url}/orchestrator/sessions/session_1/kill`, {
        method: 'POST',
        body: '{"reason":"enough"}',
      });
    expect(await (await kill()).json()).toEqual({ status: 'killed' });
    expect(stub.kills).toMatchObject([{ sessionId: 'session_1', reason: 'enough' }]);
    stub.setRoutes({ kill: 405, list: false });
    expect((await kill()).status).toBe(405);
    expect((await fetch(`${stub.url}/orchestrator/sessions?taskId=task_1`)).status).toBe(404);
    stub.setHealth({ status: 503 });
    expect((await fetch(`${stub.url}/health`)).status).toBe(503);
    await stub.close();
  });
});
