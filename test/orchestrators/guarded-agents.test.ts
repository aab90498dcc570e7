import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openHttp, type Http } from '../../src/orchestrators/http.js';
import type { Resolve } from '../../src/orchestrators/guarded-agents.js';
import { guardWith, loopbackGuard, openCanary, type Canary } from '../support/guard.js';

let canary: Canary;
const opened: Http[] = [];
const open = (options: Parameters<typeof openHttp>[0]): Http => {
  const http = openHttp(options);
  opened.push(http);
  return http;
};
const get = (http: Http, url: string) =>
  http.request({
    method: 'GET',
    url,
    headers: {},
    timeoutMs: 3000,
    maxBytes: 1024,
    signal: new AbortController().signal,
  });

beforeAll(async () => void (canary = await openCanary()));
afterEach(() => opened.splice(0).forEach((http) => http.close()));
afterAll(() => canary.close());

describe('guarded connections', () => {
  test.each([
    '127.0.0.1',
    '127.1',
    '0x7f.1',
    '2130706433',
    '017700000001',
    '0x7f000001',
    '127.0.0.1.',
    '１２７.0.0.1',
    '①②⑦.0.0.1',
    '[::1]',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:127.0.0.1]',
    '[::ffff:7f00:1]',
    '0.0.0.0',
    '0',
    'localhost',
    'localhost.',
    'LOCALHOST',
  ])('never reach http://%s when loopback is denied', async (host) => {
    const before = canary.connections();
    for (const scheme of ['http', 'https']) {
      const answer = await get(open({ guard: guardWith() }), `${scheme}://${host}:${canary.port}/`);
      expect(answer).toMatchObject({ kind: 'failed', phase: 'notReceived' });
      // Whether a name with a final dot resolves at all is the machine's affair.
      const names = host.endsWith('localhost.') ? '' : 'BACKEND_ALLOW_CIDRS';
      expect(answer).toMatchObject({ reason: expect.stringContaining(names) });
    }
    expect(canary.connections()).toBe(before);
  });

  test('reach loopback by literal and by name where it is allowed', async () => {
    const http = open({ guard: loopbackGuard() });
    expect(await get(http, canary.url)).toMatchObject({ kind: 'answer', httpStatus: 200 });
    expect(await get(http, `http://localhost:${canary.port}`)).toMatchObject({ kind: 'answer' });
  });

  test('go to the checked address: a name whose answer flips to a denied one gains nothing, 1,000 times', async () => {
    let asked = 0;
    // Good when checked alone, loopback when asked once more: what a rebinding name server does.
    const rebinding: Resolve = (_name, _options, callback) => {
      asked += 1;
      const address = asked % 2 === 1 ? '192.0.2.7' : '127.0.0.1';
      setImmediate(() => callback(null, [{ address, family: 4 }]));
    };
    const http = open({ guard: guardWith({ allow: ['192.0.2.7/32'] }), resolve: rebinding });
    const before = canary.connections();
    const outcomes = new Set<string>();
    for (let round = 0; round < 20; round += 1) {
      const calls = Array.from({ length: 50 }, () => {
        const stop = AbortSignal.timeout(40);
        return http.request({
          method: 'GET',
          url: `http://rebinding.test:${canary.port}/`,
          headers: {},
          timeoutMs: 3000,
          maxBytes: 10,
          signal: stop,
        });
      });
      for (const answer of await Promise.all(calls)) {
        outcomes.add(answer.kind === 'failed' ? answer.phase : answer.kind);
      }
    }
    expect(asked).toBe(1000);
    expect([...outcomes]).toEqual(['notReceived']);
    expect(canary.connections()).toBe(before);
  });

  test('leave out the denied ones of many answers, and refuse a name that has no other', async () => {
    const mixed: Resolve = (_name, _options, callback) =>
      callback(null, [
        { address: '10.0.0.1', family: 4 },
        { address: '::1', family: 6 },
        { address: '127.0.0.1', family: 4 },
      ]);
    const http = open({ guard: guardWith({ allow: ['127.0.0.1'] }), resolve: mixed });
    expect(await get(http, `http://mixed.test:${canary.port}`)).toMatchObject({ kind: 'answer' });
    const none: Resolve = (_name, _options, callback) =>
      callback(
        null,
        Array.from({ length: 100 }, (_, at) => ({ address: `10.0.0.${at}`, family: 4 })),
      );
    expect(await get(open({ guard: guardWith(), resolve: none }), 'http://inner.test/')).toEqual({
      kind: 'failed',
      phase: 'notReceived',
      reason: expect.stringMatching(/^inner\.test was not connected to: 10\.0\.0\.0 is a private address/),
    });
    const empty: Resolve = (_name, _options, callback) => callback(null, []);
    expect(await get(open({ guard: guardWith(), resolve: empty }), 'http://empty.test/')).toMatchObject({
      phase: 'notReceived',
    });
  });

  test('hold for every request over a kept connection: a connection of one host serves no other', async () => {
    const http = open({ guard: guardWith({ allow: ['127.0.0.1'] }) });
    expect(await get(http, canary.url)).toMatchObject({ kind: 'answer' });
    const before = canary.connections();
    expect(await get(http, `http://127.0.0.2:${canary.port}`)).toMatchObject({ phase: 'notReceived' });
    expect(await get(http, `http://[::ffff:127.0.0.2]:${canary.port}`)).toMatchObject({
      phase: 'notReceived',
    });
    expect(canary.connections()).toBe(before);
  });

  test('ignore every proxy variable', async () => {
    const target = await openCanary();
    const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'];
    const before = canary.connections();
    for (const name of names) process.env[name] = canary.url;
    try {
      const http = open({ guard: loopbackGuard() });
      expect(await get(http, target.url)).toMatchObject({ kind: 'answer', httpStatus: 200 });
      await get(http, `https://127.0.0.1:${target.port}`);
    } finally {
      for (const name of names) delete process.env[name];
    }
    expect(target.connections()).toBe(2);
    expect(canary.connections()).toBe(before);
    await target.close();
  });

  test.each([
    'unix:/run/x.sock:/',
    'http://unix:/run/x.sock:/',
    'file:///etc/passwd',
    'ftp://127.0.0.1/',
    'no url',
  ])('make no request to %s', async (url) => {
    expect(await get(open({ guard: loopbackGuard() }), url)).toMatchObject({ phase: 'notReceived' });
  });
});
