import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import got from 'got';
import { findFreePort } from '../src/embedded/server-process.js';
import { readProcfile } from '../src/start/procfile.js';
import { supervise, type Loss } from '../src/start/supervised.js';
import { plainTrouble } from '../src/start/terminal.js';
import { openTestDatabase, openTestValkey, type TestDatabase } from './support/database.js';
import { eventually } from './support/eventually.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mosaic-dispatch-start-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe('npm start', () => {
  let database: TestDatabase;
  let port: number;
  beforeEach(async () => {
    [database, port] = [await openTestDatabase(), await findFreePort()];
  });
  afterEach(() => database.close());

  const start = () => {
    const child = spawn(process.execPath, [join(process.cwd(), 'dist/src/start.main.js')], {
      cwd: directory,
      env: {
        PATH: process.env['PATH'] ?? '',
        DATABASE_URL: database.url,
        VALKEY_URL: openTestValkey().url,
        QUEUE_PREFIX: openTestValkey().prefix,
        ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
        PORT: String(port),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (stdout += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (stderr += chunk));
    const pids = () =>
      stdout
        .split('\n')
        .filter((line) => line.includes('"process.started"'))
        .map((line) => JSON.parse(line) as { process: string; pid: number });
    const exited = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
    const ready = () => eventually(() => expect(stderr).toContain('ready after'), { timeoutMs: 25_000 });
    return { child, exited, ready, pids, stderr: () => stderr };
  };

  test('starts every process, says where to look, and drains to 0 at SIGTERM', async () => {
    const system = start();
    await system.ready();
    expect(
      system
        .pids()
        .map(({ process: name }) => name)
        .sort(),
    ).toEqual(['dispatch', 'scheduler', 'transitions', 'web']);
    expect(system.stderr()).toContain(`API      http://127.0.0.1:${port}/v1`);
    const readyz = await got(`http://127.0.0.1:${port}/readyz`, { throwHttpErrors: false });
    expect(readyz.statusCode).toBe(200);
    system.child.kill('SIGTERM');
    expect(await system.exited).toEqual([0, null]);
    expect(system.pids().map(({ pid }) => isAlive(pid))).toEqual([false, false, false, false]);
  });

  test('starts a killed process again', async () => {
    const system = start();
    await system.ready();
    const [killed] = system.pids().filter(({ process: name }) => name === 'dispatch');
    process.kill(killed!.pid, 'SIGKILL');
    await eventually(() => expect(system.pids()).toHaveLength(5));
    expect(system.stderr()).toContain('dispatch was ended by SIGKILL and is started again');
    system.child.kill('SIGINT');
    expect(await system.exited).toEqual([0, null]);
  });

  test('leaves no process behind when it is killed with -9', async () => {
    const system = start();
    await system.ready();
    const pids = system.pids().map(({ pid }) => pid);
    expect(pids.map(isAlive)).toEqual([true, true, true, true]);
    system.child.kill('SIGKILL');
    await eventually(() => expect(pids.map(isAlive)).toEqual([false, false, false, false]), {
      timeoutMs: 20_000,
    });
  });

  test('names the variable that moves a taken port', async () => {
    const taken = createServer().listen(port, '127.0.0.1');
    await once(taken, 'listening');
    const system = start();
    expect(await system.exited).toEqual([1, null]);
    expect(system.stderr()).toContain(`port ${port} on 127.0.0.1 is taken by another program. Fix: set PORT`);
    taken.close();
  });
});

describe('a supervised process', () => {
  const keep = (code: string) => {
    const losses: Loss[] = [];
    const deaths: string[] = [];
    const supervised = supervise({
      line: { name: 'fixture', command: process.execPath, args: ['-e', code] },
      cwd: directory,
      env: { PATH: process.env['PATH'] ?? '' },
      pipesOutput: false,
      onSpawn: () => undefined,
      onDeath: (_name, sentence) => deaths.push(sentence),
      onLost: (loss) => losses.push(loss),
    });
    return { supervised, losses, deaths };
  };

  test('is given up after its fifth death within a minute, by name', async () => {
    const { losses, deaths } = keep('process.exit(3)');
    await eventually(() => expect(losses).toHaveLength(1), { timeoutMs: 20_000 });
    expect(deaths).toHaveLength(4);
    expect(losses[0]).toEqual({
      name: 'fixture',
      sentence: 'fixture died 5 times within a minute; the last time it ended with code 3',
      exitCode: 1,
    });
  });

  test('is not started again when it refuses its configuration', async () => {
    const { losses, deaths } = keep('process.exit(78)');
    await eventually(() => expect(losses).toEqual([expect.objectContaining({ exitCode: 78 })]));
    expect(deaths).toEqual([]);
  });

  test('is killed when it does not drain in time', async () => {
    const { supervised } = keep(
      "process.on('SIGTERM', () => undefined); setInterval(() => undefined, 1000); process.send('started')",
    );
    await supervised.started;
    const pid = supervised.pid();
    expect(await supervised.stop(100)).toBe(false);
    expect(isAlive(pid!)).toBe(false);
  });
});

describe('readProcfile', () => {
  const readText = (text: string) => {
    writeFileSync(join(directory, 'Procfile'), text);
    return readProcfile(join(directory, 'Procfile'));
  };

  test('reads names, programs and arguments, without a shell', () => {
    expect(readText('# all\nweb: exec node dist/web.js --a b\n\nclock: sleep 5\n')).toEqual([
      { name: 'web', command: process.execPath, args: ['dist/web.js', '--a', 'b'] },
      { name: 'clock', command: 'sleep', args: ['5'] },
    ]);
  });

  test('refuses a line it does not understand', () => {
    expect(() => readText('web node dist/web.js')).toThrow('web node dist/web.js');
  });
});

describe('plainTrouble', () => {
  test('shows warnings and errors as sentences, what is no log line as it is, and nothing else', () => {
    const line = (level: string) =>
      JSON.stringify({
        at: 'x',
        level,
        process: 'web',
        event: 'valkey.lost',
        error: { message: 'gone\u001b[2J' },
      });
    expect(plainTrouble(line('info'))).toBeNull();
    expect(plainTrouble(line('warn'))).toBe('▲ valkey.lost  error: "gone\\u001b[2J"');
    expect(plainTrouble(line('error'))).toContain('✖ valkey.lost');
    expect(plainTrouble('Segmentation fault')).toBe('Segmentation fault');
  });
});
