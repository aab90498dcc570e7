import { describe, expect, test } from '@jest/globals';
import { formatLine } from '../src/logger.js';

type Level = Parameters<typeof formatLine>[0]['level'];
const line = (fields: Record<string, unknown>, level: Level = 'info') =>
  formatLine({ at: new Date(0), level, process: 'web', event: 'task.sent', fields });
const read = (fields: Record<string, unknown>, level?: Level) =>
  JSON.parse(line(fields, level)) as Record<string, any>; // oxlint-disable-line typescript/no-explicit-any -- lines vary

describe('a log line', () => {
  test('is one JSON object that says when, how bad, who and what', () => {
    expect(read({ taskId: 'task_1' })).toEqual({
      at: '1970-01-01T00:00:00.000Z',
      level: 'info',
      process: 'web',
      event: 'task.sent',
      taskId: 'task_1',
    });
  });

  test('cannot be forged by a field, neither a second line nor another head', () => {
    const text = line({
      title: 'a\r\n{"level":"error"}\u2028\u0085\u202e${jndi:x}',
      level: 'error',
      event: 'forged',
    });
    expect(text).not.toMatch(/[\r\n\u2028\u0085\u202e]/);
    expect(JSON.parse(text)).toMatchObject({ level: 'info', event: 'task.sent' });
  });

  test('tells of errors wherever they are, with their cause, and of the stack only when it is an error', () => {
    const error = new Error('outer', { cause: Object.assign(new Error('inner'), { code: 'ECONNREFUSED' }) });
    expect(read({ deep: { error } })['deep']).toEqual({
      error: {
        name: 'Error',
        message: 'outer',
        cause: { name: 'Error', message: 'inner', code: 'ECONNREFUSED' },
      },
    });
    expect(read({ error }, 'error')['error'].stack).toContain('logger.test');
  });

  test('leaves out what hangs on a driver’s error', () => {
    const error = Object.assign(new Error('failed'), {
      options: { headers: { 'x-api-key': 'planted-secret' } },
    });
    expect(line({ error }, 'error')).not.toContain('planted-secret');
  });

  test.each([
    [{ authorization: 'Bearer planted' }],
    [{ headers: { Cookie: 'planted' } }],
    [{ auth: { type: 'bearer', secret: 'planted' } }],
    [{ callbackToken: 'planted' }],
    [{ password: 'planted' }],
    [{ apiKey: 'planted' }],
    [{ idempotencyKey: `mdk_planted${'x'.repeat(32)}` }],
    [{ url: 'postgres://mosaic:planted@127.0.0.1:5432/mosaic' }],
    [{ error: new Error('connect to redis://:planted@127.0.0.1:6379/0 failed') }],
    [{ url: 'https://example.com/hook?sig=planted' }],
    [{ detail: 'sent Authorization: Bearer planted12345' }],
    [{ body: Buffer.from('planted') }],
  ])('does not show the secret of %j', (fields) => {
    expect(line(fields, 'error')).not.toContain('planted');
  });

  test('shows what is no secret: plain keys, places of URLs', () => {
    expect(read({ idempotencyKey: 'order-42', url: 'https://example.com/hook', tokens: 3 })).toMatchObject({
      idempotencyKey: 'order-42',
      url: 'https://example.com/hook',
      tokens: 3,
    });
  });

  test('survives circles, depth, length and big numbers', () => {
    const circle: Record<string, unknown> = {};
    circle['self'] = circle;
    let deep: unknown = 'bottom';
    for (let depth = 0; depth < 10_000; depth++) deep = { deep };
    const text = line({ circle, deep, long: 'x'.repeat(1_000_000), big: 10n });
    expect(text.length).toBeLessThan(10_000);
    expect(JSON.parse(text)).toMatchObject({ circle: { self: '[circular]' }, big: '10' });
  });
});
