import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { findTestServers } from './support/servers.js';
import { eventually } from './support/eventually.js';

type Line = { readonly event: string; readonly step?: string; readonly aborted?: boolean };

function run(manner: string, env: Record<string, string> = {}, file = 'test/process/life.mjs') {
  const { databaseUrl, valkeyUrl } = findTestServers();
  const child = spawn(process.execPath, [join(process.cwd(), file), manner], {
    env: {
      PATH: process.env['PATH'] ?? '',
      DATABASE_URL: databaseUrl,
      VALKEY_URL: valkeyUrl,
      ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
  const lines = () =>
    stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as Line);
  return {
    child,
    lines,
    events: () => lines().map(({ event, step }) => (step === undefined ? event : `${event} ${step}`)),
    stderr: () => stderr,
    // Not `close`: it never comes once the channel was closed from this side.
    exited: Promise.all([once(child, 'exit'), once(child.stdout!, 'end')]).then(([end]) => end),
  };
}

const started = (program: ReturnType<typeof run>) => once(program.child, 'message');

describe('a process', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)(
    'drains at %s, closes in reverse order and exits 0',
    async (signal) => {
      const program = run('well');
      expect((await started(program))[0]).toBe('started');
      program.child.kill(signal);
      expect(await program.exited).toEqual([0, null]);
      expect(program.events()).toEqual([
        'process.started',
        'process.stopping',
        'fixture.drained',
        'fixture.closed second',
        'fixture.closed first',
        'process.stopped',
      ]);
      expect(program.lines().find(({ event }) => event === 'fixture.drained')).toMatchObject({
        aborted: true,
      });
    },
  );

  test('leaves a step behind that hangs, closes the others, and exits 0 in time', async () => {
    const program = run('hang', { SHUTDOWN_TIMEOUT_MS: '2000' });
    await started(program);
    const startedMs = performance.now();
    program.child.kill('SIGTERM');
    expect(await program.exited).toEqual([0, null]);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    expect(program.events()).toEqual(
      expect.arrayContaining(['process.close-overrun second', 'fixture.closed first']),
    );
  });

  test('closes the others and exits 1 when a step throws', async () => {
    const program = run('spoil');
    await started(program);
    program.child.kill('SIGTERM');
    expect(await program.exited).toEqual([1, null]);
    expect(program.events()).toEqual(
      expect.arrayContaining(['process.close-failed second', 'fixture.closed first']),
    );
  });

  test('ends at once at a second signal', async () => {
    const program = run('hang');
    await started(program);
    program.child.kill('SIGTERM');
    await eventually(() => expect(program.events()).toContain('fixture.closed second'));
    program.child.kill('SIGTERM');
    expect(await program.exited).toEqual([143, null]);
  });

  test.each(['throw', 'reject'])(
    'logs one line and exits 1 on an error that nobody caught (%s)',
    async (manner) => {
      const program = run(manner);
      expect(await program.exited).toEqual([1, null]);
      const failures = program.lines().filter(({ event }) => event === 'process.failed');
      expect(failures).toHaveLength(1);
      expect(program.stderr()).toBe('');
    },
  );

  test('drains when the parent that holds its channel is gone', async () => {
    const program = run('well');
    await started(program);
    program.child.disconnect();
    expect(await program.exited).toEqual([0, null]);
  });

  test('refuses a faulty configuration with 78 and names every fault', async () => {
    const program = run('well', { DATABASE_URL: '', VALKEY_URL: '', PORT: 'x', LOG_LEVEL: 'loud' });
    expect(await program.exited).toEqual([78, null]);
    for (const name of ['DATABASE_URL', 'VALKEY_URL', 'PORT', 'LOG_LEVEL'])
      expect(program.stderr()).toContain(`  ${name} must`);
    expect(program.lines()).toEqual([]);
  });
});
