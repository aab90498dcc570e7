import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  openHttp,
  type Http,
  type HttpAnswer,
  type HttpCall,
  type HttpFailure,
} from '../../src/orchestrators/http.js';
import { eventually } from '../support/eventually.js';
import { guardWith, loopbackGuard, openCanary, type Canary } from '../support/guard.js';

let http: Http;
let canary: Canary;
const servers: Server[] = [];
const sockets = new Set<Socket>();

beforeAll(async () => {
  http = openHttp({ guard: loopbackGuard() });
  canary = await openCanary();
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await Promise.all(servers.splice(0).map((one) => new Promise((resolve) => one.close(resolve))));
});
afterAll(async () => {
  http.close();
  await canary.close();
});

/** A TCP server that does as it is told with each connection; its port. */
async function serve(onConnection: (socket: Socket, nth: number) => void): Promise<number> {
  let nth = 0;
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    nth += 1;
    onConnection(socket, nth);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** Waits for the whole request (its body ends in `}`), then answers with raw bytes. */
function answering(raw: string | Buffer, then: (socket: Socket) => void = () => undefined) {
  return (socket: Socket) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.endsWith('}')) socket.write(raw, () => then(socket));
    });
  };
}

const end = (socket: Socket) => void socket.end();
const resetSoon = (socket: Socket) => void setTimeout(() => socket.resetAndDestroy(), 50);

function post(port: number, more: Partial<HttpCall> = {}): Promise<HttpAnswer | HttpFailure> {
  return http.request({
    method: 'POST',
    url: `http://127.0.0.1:${port}/x`,
    headers: { 'content-type': 'application/json' },
    body: '{"a":1}',
    timeoutMs: 1000,
    maxBytes: 64 * 1024,
    signal: new AbortController().signal,
    ...more,
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('a request that was provably not received', () => {
  test('refused', async () => {
    expect(await post(await freePort())).toEqual({
      kind: 'failed',
      phase: 'notReceived',
      reason: expect.stringMatching(/^127\.0\.0\.1:\d+ could not be reached: it refused the connection$/),
    });
  });

  test('a name that does not exist', async () => {
    const answer = await post(80, { url: 'http://nowhere.invalid/x', timeoutMs: 4000 });
    expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
    expect(answer).toMatchObject({ reason: expect.stringContaining('nowhere.invalid could not be reached') });
  });

  test('a name server that never answers', async () => {
    const silent = openHttp({ guard: guardWith(), resolve: () => undefined });
    const startedAt = performance.now();
    const answer = await silent.request({
      method: 'GET',
      url: 'http://slow.test/',
      headers: {},
      timeoutMs: 20_000,
      maxBytes: 1,
      signal: new AbortController().signal,
    });
    expect(answer).toMatchObject({
      phase: 'notReceived',
      reason: expect.stringContaining('resolved in time'),
    });
    expect(performance.now() - startedAt).toBeLessThan(4000);
    silent.close();
  });

  test('a connection that never comes about, within the connect bound', async () => {
    // A listener whose backlog is full: the kernel drops further SYNs, so a connect just waits.
    const blackhole = await openBlackhole();
    const startedAt = performance.now();
    const answer = await post(blackhole.port, { timeoutMs: 20_000 });
    expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
    expect(performance.now() - startedAt).toBeLessThan(4500);
    await blackhole.close();
  });

  test('TLS spoken to a server that has none', async () => {
    const port = await serve((socket) => socket.on('data', () => socket.end('HTTP/1.1 400 Bad\r\n\r\n')));
    const answer = await post(port, { url: `https://127.0.0.1:${port}/x` });
    expect(answer).toMatchObject({
      phase: 'notReceived',
      reason: expect.stringContaining('TLS handshake failed'),
    });
  });

  test('a TLS handshake that is not answered', async () => {
    let heard = Buffer.alloc(0);
    const port = await serve((socket) =>
      socket.on('data', (chunk: Buffer) => (heard = Buffer.concat([heard, chunk]))),
    );
    const answer = await post(port, { url: `https://127.0.0.1:${port}/x` });
    expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
    expect(heard.length).toBeGreaterThan(0);
    expect(heard.toString('latin1')).not.toContain('POST');
  });

  test('aborted before connecting', async () => {
    const answer = await post(canary.port, { signal: AbortSignal.abort() });
    expect(answer).toMatchObject({ phase: 'notReceived', reason: expect.stringContaining('stopped') });
    expect(canary.connections()).toBe(0);
  });

  test('held back at the last moment: connected, and not a byte has left', async () => {
    let heard = 0;
    const looks: number[] = [];
    let connections = 0;
    const port = await serve((socket) => {
      connections += 1;
      socket.on('data', (chunk: Buffer) => (heard += chunk.length));
    });
    const mayLeave = () => {
      looks.push(heard);
      return false;
    };
    const answer = await post(port, { mayLeave });
    expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
    expect({ looks, heard }).toEqual({ looks: [0], heard: 0 });
    // The end of the connection comes after everything that was written to it.
    await eventually(() => expect([...sockets].map(({ destroyed }) => destroyed)).toEqual([true]));
    expect({ connections, heard }).toEqual({ connections: 1, heard: 0 });
  });

  test('held back on a connection that is used again', async () => {
    let heard = '';
    const port = await serve((socket) => {
      socket.on('data', (chunk: Buffer) => {
        heard += chunk.toString('latin1');
        if (heard.endsWith('}')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}');
      });
    });
    expect(await post(port, { mayLeave: () => true })).toMatchObject({ kind: 'answer', httpStatus: 200 });
    const before = heard;
    const answer = await post(port, { mayLeave: () => false });
    expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
    expect(await post(port, { mayLeave: () => true })).toMatchObject({ kind: 'answer', httpStatus: 200 });
    expect(heard).toBe(before + before);
    expect(sockets.size).toBe(2);
  });

  test('a credential that no header may carry is not quoted', async () => {
    const answer = await post(canary.port, { headers: { authorization: 'Bearer s3cr\r\net' } });
    expect(answer).toMatchObject({ phase: 'notReceived', reason: expect.stringContaining('credential') });
    expect(JSON.stringify(answer)).not.toContain('s3cr');
  });
});

describe('a request whose outcome is unknown', () => {
  const unknown: [string, (socket: Socket) => void][] = [
    ['the connection is reset before the request is read', (socket) => resetSoon(socket.pause())],
    [
      'the connection is reset when the request was read',
      answering('', (socket) => void socket.resetAndDestroy()),
    ],
    ['the connection is closed without an answer', answering('', end)],
    ['nothing is read and nothing said', (socket) => void socket.pause()],
    ['the request is read and nothing said', answering('')],
    ['the status line is cut', answering('HTTP/1.1 20', end)],
    ['the headers are cut', answering('HTTP/1.1 201 Created\r\nContent-Le', end)],
    ['the headers never end', answering('HTTP/1.1 201 Created\r\nX: y\r\n')],
    ['the answer is not HTTP', answering('\u0000\u0001 hello\r\n\r\n', end)],
    [
      'the answer has two lengths',
      answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}', end),
    ],
    ['the length is no number', answering('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n', end)],
    ['there is 1 MB of headers', answering(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(1024 * 1024)}\r\n\r\n`, end)],
    ['only interim answers come', answering('HTTP/1.1 102 Processing\r\n\r\n'.repeat(100))],
  ];
  test.each(unknown)('%s', async (_name, onConnection) => {
    const port = await serve(onConnection);
    const startedAt = performance.now();
    expect(await post(port)).toMatchObject({ kind: 'failed', phase: 'unknown' });
    expect(performance.now() - startedAt).toBeLessThan(1800);
  });

  test('a connection that is reset as soon as it is there is never taken for an answer', async () => {
    // Whether the reset is seen before the connection is depends on the kernel; what was not connected got no byte.
    const port = await serve((socket) => void socket.resetAndDestroy());
    for (let round = 0; round < 20; round += 1) expect(await post(port)).toMatchObject({ kind: 'failed' });
  });

  test('stopped by us while the answer is awaited', async () => {
    const stop = new AbortController();
    const port = await serve(answering('', () => stop.abort()));
    expect(await post(port, { signal: stop.signal })).toMatchObject({
      phase: 'unknown',
      reason: expect.stringContaining('stopped'),
    });
  });
});

describe('an answer whose head is there: the status line decides', () => {
  const head = 'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n';
  test.each<[string, (socket: Socket) => void, Partial<HttpAnswer>]>([
    [
      'half a body, then a reset',
      answering(`${head}Content-Length: 40\r\n\r\n{"a"`, resetSoon),
      { bodyBroken: true },
    ],
    [
      'a Content-Length too long',
      answering(`${head}Content-Length: 40\r\n\r\n{"a"`, end),
      { bodyBroken: true },
    ],
    ['a body that stalls', answering(`${head}Content-Length: 40\r\n\r\n{"a"`), { bodyBroken: true }],
    [
      'chunks that are cut',
      answering(`${head}Transfer-Encoding: chunked\r\n\r\n5\r\nhe`, end),
      { bodyBroken: true },
    ],
    [
      'chunks that are none',
      answering(`${head}Transfer-Encoding: chunked\r\n\r\nzz\r\n`, end),
      { bodyBroken: true },
    ],
    [
      'no body at all',
      answering(`${head}Content-Length: 0\r\n\r\n`),
      { body: Buffer.alloc(0), bodyBroken: false },
    ],
    ['a Content-Length too short', answering(`${head}Content-Length: 2\r\n\r\n{}{}{}`), { httpStatus: 201 }],
    ['a body until the end of the connection', answering(`${head}\r\n{}`, end), { body: Buffer.from('{}') }],
    [
      'interim answers first',
      answering(`${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(100)}${head}Content-Length: 2\r\n\r\n{}`),
      { body: Buffer.from('{}') },
    ],
  ])('%s', async (_name, onConnection, expected) => {
    const answer = await post(await serve(onConnection));
    expect(answer).toMatchObject({ kind: 'answer', httpStatus: 201, truncated: false, ...expected });
  });

  test('a switch of protocols that nobody asked for', async () => {
    const raw = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n';
    expect(await post(await serve(answering(raw)))).toMatchObject({ kind: 'answer', httpStatus: 101 });
  });

  test.each([204, 205])('%d with a body it must not have', async (status) => {
    const port = await serve(answering(`HTTP/1.1 ${status} No\r\nContent-Length: 2\r\n\r\n{}`));
    expect(await post(port)).toMatchObject({ kind: 'answer', httpStatus: status });
  });

  test('no more than the bound is read of an endless body, and memory stays flat', async () => {
    let sent = 0;
    const block = Buffer.alloc(64 * 1024, 'x');
    const pour = (socket: Socket) => {
      const more = () => {
        while (!socket.destroyed && socket.write(block)) sent += block.length;
      };
      socket.on('drain', more);
      more();
    };
    const port = await serve(answering(`${head}\r\n`, pour));
    const before = process.memoryUsage().rss;
    for (let round = 0; round < 20; round += 1) {
      const answer = await post(port, { maxBytes: 64 * 1024 });
      expect(answer).toMatchObject({ kind: 'answer', httpStatus: 201, truncated: true, bodyBroken: false });
      expect((answer as HttpAnswer).body.length).toBe(64 * 1024);
    }
    expect(sent).toBeLessThan(400 * 1024 * 1024);
    expect(process.memoryUsage().rss - before).toBeLessThan(50 * 1024 * 1024);
  });

  test('a body of exactly the bound is whole', async () => {
    const port = await serve(answering(`${head}Content-Length: 100\r\n\r\n${'x'.repeat(100)}`));
    expect(await post(port, { maxBytes: 100 })).toMatchObject({ truncated: false, bodyBroken: false });
  });

  test('a compressed body is neither asked for nor unpacked', async () => {
    const packed = gzipSync(Buffer.alloc(1024 * 1024));
    let accepts: string | undefined = 'unset';
    const server = createHttpServer((request, response) => {
      accepts = request.headers['accept-encoding'];
      request.resume().on('end', () => response.writeHead(200, { 'content-encoding': 'gzip' }).end(packed));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const answer = (await post((server.address() as AddressInfo).port)) as HttpAnswer;
    expect(accepts).toBeUndefined();
    expect(answer.body.equals(packed)).toBe(true);
    server.closeAllConnections();
  });

  test.each([301, 302, 303, 307, 308])('a redirect (%d) is not followed', async (status) => {
    const raw = `HTTP/1.1 ${status} Moved\r\nLocation: ${canary.url}/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n`;
    const port = await serve(answering(raw));
    const before = canary.connections();
    expect(await post(port)).toMatchObject({ kind: 'answer', httpStatus: status });
    expect(canary.connections()).toBe(before);
  });
});

describe('kept connections', () => {
  /** Answers the first request of a connection and treats the second as told. */
  const secondTime = (treat: (socket: Socket) => void) => {
    const requests: number[] = [];
    const onConnection = (socket: Socket, nth: number) => {
      let count = 0;
      socket.on('data', (chunk) => {
        if (!chunk.toString('latin1').includes('POST /x')) return;
        count += 1;
        requests.push(nth);
        if (count > 1) return treat(socket);
        socket.write('HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}');
      });
    };
    return { requests, onConnection };
  };

  test('carry many requests, one after another', async () => {
    const { requests, onConnection } = secondTime((socket) =>
      socket.write('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}'),
    );
    const port = await serve(onConnection);
    for (let nth = 0; nth < 20; nth += 1) expect(await post(port)).toMatchObject({ httpStatus: 201 });
    expect(requests).toHaveLength(20);
    expect(new Set(requests).size).toBe(1);
  });

  test.each<[string, (socket: Socket) => void]>([
    ['reset', (socket) => void socket.resetAndDestroy()],
    ['closed', (socket) => void socket.end()],
  ])(
    'when one is %s under a request, the outcome is unknown and nothing is sent again',
    async (_name, treat) => {
      const { requests, onConnection } = secondTime(treat);
      const port = await serve(onConnection);
      expect(await post(port)).toMatchObject({ httpStatus: 201 });
      expect(await post(port)).toMatchObject({ kind: 'failed', phase: 'unknown' });
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(requests).toEqual([1, 1]);
    },
  );

  test('when one died while it was idle, no request is sent twice', async () => {
    const { requests, onConnection } = secondTime(() => undefined);
    const port = await serve(onConnection);
    const seen = new Set<string>();
    for (let round = 0; round < 30; round += 1) {
      const before = requests.length;
      expect(await post(port)).toMatchObject({ kind: 'answer' });
      for (const socket of sockets) socket.resetAndDestroy();
      sockets.clear();
      // At once: the reset is on its way while the next request takes the socket.
      const answer = await post(port);
      seen.add(answer.kind === 'answer' ? 'answer' : answer.phase);
      expect(requests.length - before).toBeLessThanOrEqual(2);
      for (const socket of sockets) socket.resetAndDestroy();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(seen.has('notReceived')).toBe(false);
  });
});

test('one signal for a thousand requests keeps no listener of any', async () => {
  const server = createHttpServer((request, response) =>
    request.resume().on('end', () => response.end('{}')),
  );
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const { signal } = new AbortController();
  for (let round = 0; round < 20; round += 1) {
    await Promise.all(Array.from({ length: 50 }, () => post(port, { signal })));
  }
  expect(getEventListeners(signal, 'abort')).toEqual([]);
  server.closeAllConnections();
});

test('userinfo and query of a URL are sent nowhere they do not belong and stand in no reason', async () => {
  const port = await freePort();
  const url = `http://user:pa55@127.0.0.1:${port}/base?token=t0ken`;
  const refused = await post(port, { url });
  expect(JSON.stringify(refused)).not.toMatch(/pa55|t0ken|user/);
  let head = '';
  const listening = await serve((socket) => {
    socket.on('data', (chunk) => (head += chunk.toString('latin1')));
    answering('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}')(socket);
  });
  await post(listening, { url: `http://user:pa55@127.0.0.1:${listening}/base?token=t0ken` });
  expect(head).toMatch(/^POST \/base\?token=t0ken HTTP\/1\.1/);
  expect(head.toLowerCase()).not.toMatch(/authorization|cookie/);
});

test('a bound longer than a timer can be is no bound of a millisecond', async () => {
  const port = await serve(answering('HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}'));
  expect(await post(port, { timeoutMs: 30 * 24 * 3600 * 1000 })).toMatchObject({ httpStatus: 201 });
});

/** A listening port that takes no further connection: its accept queue is full and nobody accepts. */
async function openBlackhole(): Promise<{ port: number; close(): Promise<void> }> {
  const source = `
    const server = require('node:net').createServer();
    server.listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      process.stdout.write(String(server.address().port));
      process.stdout.once('drain', () => undefined);
      setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 50);
    });`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  const port = await new Promise<number>((resolve) => {
    child.stdout.once('data', (chunk: Buffer) => resolve(Number(chunk.toString())));
  });
  await new Promise((resolve) => setTimeout(resolve, 200));
  const fillers = Array.from({ length: 8 }, () => connect(port, '127.0.0.1').on('error', () => undefined));
  await new Promise((resolve) => setTimeout(resolve, 200));
  return {
    port,
    close: async () => {
      for (const filler of fillers) filler.destroy();
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    },
  };
}
