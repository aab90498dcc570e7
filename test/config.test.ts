import { describe, expect, test } from '@jest/globals';
import { loadConfig, type Config } from '../src/config.js';

const key = Buffer.alloc(32, 7).toString('base64');

function read(env: Record<string, string>): Config {
  const result = loadConfig(env);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return result.config;
}

function faultsOf(env: Record<string, string>): Record<string, string> {
  const result = loadConfig(env);
  return result.ok
    ? {}
    : Object.fromEntries(result.faults.map(({ variable, message }) => [variable, message]));
}

describe('loadConfig', () => {
  test('gives the documented defaults for an empty environment', () => {
    expect(read({})).toEqual({
      port: 3000,
      host: '127.0.0.1',
      databaseUrl: null,
      valkeyUrl: null,
      dataDir: '.data',
      valkeyServer: null,
      publicUrl: 'http://127.0.0.1:3000',
      adminApiKey: null,
      encryptionKeys: null,
      allowCidrs: [],
      denyCidrs: [],
      health: { intervalMs: 10_000, timeoutMs: 2_000, rise: 2, fall: 3 },
      timeouts: { dispatchMs: 20_000, startMs: 900_000, heartbeatMs: 0, runMs: 86_400_000 },
      retry: {
        maxAttempts: 3,
        maxSends: 8,
        backoffBaseMs: 1_000,
        backoffMaxMs: 300_000,
        onUnknownOutcome: 'fail',
      },
      sweepIntervalMs: 1_000,
      reconcile: { intervalMs: 10_000, silenceMs: 60_000 },
      giveUpAfterMs: 3_600_000,
      retentionMs: 30 * 86_400_000,
      queuePrefix: '{mosaic}',
      bullBoardWritable: false,
      trustProxy: false,
      shutdownTimeoutMs: 25_000,
      logLevel: 'info',
    });
  });

  test('names every faulty variable at once, with what would do', () => {
    const faults = faultsOf({
      PORT: '70000',
      DATABASE_URL: 'mysql://127.0.0.1/mosaic',
      VALKEY_URL: 'http://127.0.0.1:6379',
      ADMIN_API_KEY: 'short',
      ENCRYPTION_KEY: Buffer.alloc(16).toString('base64'),
      BACKEND_ALLOW_CIDRS: '10.0.0.0/8,300.1.1.1',
      BACKEND_DENY_CIDRS: '10.0.0.0/33',
      HEALTH_RISE: '0',
      DISPATCH_TIMEOUT_MS: '1.5',
      BULL_BOARD_WRITABLE: 'perhaps',
      LOG_LEVEL: 'loud',
    });
    expect(Object.keys(faults).sort()).toEqual([
      'ADMIN_API_KEY',
      'BACKEND_ALLOW_CIDRS',
      'BACKEND_DENY_CIDRS',
      'BULL_BOARD_WRITABLE',
      'DATABASE_URL',
      'DISPATCH_TIMEOUT_MS',
      'ENCRYPTION_KEY',
      'HEALTH_RISE',
      'LOG_LEVEL',
      'PORT',
      'VALKEY_URL',
    ]);
    for (const message of Object.values(faults)) expect(message).toMatch(/, for example \S/);
  });

  test('never repeats a faulty value, for it may be a secret', () => {
    const faults = faultsOf({ ADMIN_API_KEY: 'hunter2', ENCRYPTION_KEY: 'hunter2', DATABASE_URL: 'hunter2' });
    expect(JSON.stringify(faults)).not.toContain('hunter2');
  });

  test.each(['0.0.0.0', '::'])('asks for PUBLIC_URL when HOST is %s', (HOST) => {
    expect(faultsOf({ HOST })).toEqual({ PUBLIC_URL: expect.stringContaining(`when HOST is ${HOST}`) });
    expect(faultsOf({ HOST, PUBLIC_URL: 'https://dispatch.example.com' })).toEqual({});
  });

  test('refuses a database of its own without an encryption key', () => {
    const env = { DATABASE_URL: 'postgres://127.0.0.1/mosaic' };
    expect(faultsOf(env)).toEqual({ ENCRYPTION_KEY: expect.stringContaining('when DATABASE_URL is') });
    expect(faultsOf({ ...env, ENCRYPTION_KEY: `${key}, ${key}` })).toEqual({});
  });

  test('refuses a longest backoff that is shorter than the first', () => {
    expect(
      Object.keys(faultsOf({ DISPATCH_BACKOFF_BASE_MS: '5000', DISPATCH_BACKOFF_MAX_MS: '1000' })),
    ).toEqual(['DISPATCH_BACKOFF_MAX_MS']);
  });

  test.each(['valkey', 'valkeys', 'redis', 'rediss'])('takes a %s:// URL', (scheme) => {
    expect(read({ VALKEY_URL: `${scheme}://127.0.0.1:6379` }).valkeyUrl).toBe(`${scheme}://127.0.0.1:6379`);
  });

  test('takes an empty variable as unset, and a name that is not ours as nobody’s', () => {
    expect(read({ PORT: '', DATABSE_URL: 'postgres://127.0.0.1/mosaic' })).toEqual(read({}));
  });

  test('takes an address alone as a range of one, and IPv6 as well', () => {
    const { allowCidrs } = read({ BACKEND_ALLOW_CIDRS: '10.0.0.0/8, 192.0.2.7, fd00::/8,::1' });
    expect(allowCidrs).toEqual(['10.0.0.0/8', '192.0.2.7/32', 'fd00::/8', '::1/128']);
  });

  test('keeps PUBLIC_URL with its path and without the slash at its end', () => {
    expect(read({ PUBLIC_URL: 'https://example.com/dispatch/' }).publicUrl).toBe(
      'https://example.com/dispatch',
    );
    expect(read({ HOST: '::1', PORT: '8080' }).publicUrl).toBe('http://[::1]:8080');
  });

  test('lets a task clock be switched off with 0, and no other time', () => {
    expect(read({ TASK_RUN_TIMEOUT_MS: '0' }).timeouts.runMs).toBe(0);
    expect(Object.keys(faultsOf({ DISPATCH_TIMEOUT_MS: '0' }))).toEqual(['DISPATCH_TIMEOUT_MS']);
  });

  test.each([
    ['2', 2],
    ['true', true],
    ['false', false],
    ['loopback, 10.0.0.0/8', 'loopback, 10.0.0.0/8'],
  ])('reads TRUST_PROXY=%s as Express does', (text, value) => {
    expect(read({ TRUST_PROXY: text }).trustProxy).toBe(value);
  });
});
