import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openTestDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { openSystem, type System } from '../support/system.js';

let system: System;
beforeAll(async () => {
  system = await openSystem({ processes: { dispatch: 0, transitions: 0, scheduler: 0 } });
});
afterAll(() => system.stop());

/** The process alone, with what it wrote. */
function startWeb(env: Record<string, string>) {
  const child = spawn(process.execPath, [join(process.cwd(), 'dist/src/api/web.main.js')], {
    env: { PATH: process.env['PATH'] ?? '', ...system.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  return { child, exited, output: () => output };
}

describe('the web process', () => {
  test('is ready, takes a task, and says what Valkey does', async () => {
    const ready = await system.api('GET', '/readyz');
    expect([ready.status, ready.body]).toEqual([
      200,
      { status: 'ready', valkey: { status: 'up', evictionPolicy: 'noeviction' } },
    ]);
    expect((await system.api('POST', '/v1/tasks', { type: 'a', context: 1 })).status).toBe(201);
  });

  test('lives but is not ready while the schema is missing, and says why', async () => {
    const database = await openTestDatabase();
    const { default: pg } = await import('pg');
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query('DELETE FROM schema_migrations');
    await client.end();
    const web = startWeb({ DATABASE_URL: database.url, PORT: '0' });
    const port = await eventually(() =>
      Number(/"port":(\d+)/.exec(web.output())?.[1] ?? expect('no port').toBe('')),
    );
    const get = (path: string) => fetch(`http://127.0.0.1:${port}${path}`);
    expect((await get('/livez')).status).toBe(200);
    const ready = await get('/readyz');
    expect([ready.status, ((await ready.json()) as { reason: string }).reason]).toEqual([
      503,
      expect.stringContaining('schema'),
    ]);
    const early = await get('/v1/tasks');
    expect([early.status, early.headers.get('retry-after')]).toEqual([503, '1']);
    web.child.kill('SIGTERM');
    expect(await web.exited).toBe(0);
    await database.close();
  });

  test('a taken port is named with the variable that moves it', async () => {
    const web = startWeb({});
    expect(await web.exited).toBe(1);
    expect(web.output()).toMatch(/port \d+ of 127\.0\.0\.1 is taken; set PORT to another/);
  });

  test('drains: not ready at once, every accepted request answered, exit 0', async () => {
    const web = await system.startOne('web');
    const call = (path: string, init: RequestInit = {}) =>
      fetch(`${web.baseUrl}${path}`, {
        ...init,
        headers: { authorization: `Bearer ${system.adminKey}`, 'content-type': 'application/json' },
      });
    const made = (await (
      await call('/v1/tasks', { method: 'POST', body: '{"type":"a","context":1}' })
    ).json()) as { id: string };
    const waiting = call(`/v1/tasks/${made.id}?wait=30`);
    const startedAt = performance.now();
    web.kill('SIGTERM');
    await eventually(async () => expect((await call('/readyz')).status).toBe(503));
    expect((await call('/livez')).status).toBe(200);
    const late = await call('/v1/tasks', { method: 'POST', body: '{"type":"a","context":1}' });
    expect([late.status, late.headers.get('connection')]).toEqual([201, 'close']);
    expect((await waiting).status).toBe(200);
    expect(await web.exited).toEqual({ code: 0, signal: null });
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });
});
