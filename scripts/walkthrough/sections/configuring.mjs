/** Section 2: the configuration; section 3: what start makes. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { root } from '../../build.mjs';
import { freePort, run, temporary } from '../programs.mjs';
import { fence } from '../page.mjs';
import { send } from '../http.mjs';

const lines = readFileSync(join(root, 'Procfile'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => /^(\w+):.* dist\/(\S+)$/.exec(line)?.slice(1) ?? []);
const fileOf = (name) => lines.find(([one]) => one === name)?.[1] ?? '';
const key32 = Buffer.alloc(32, 7).toString('base64');
const nowhere = { DATABASE_URL: 'postgres://x:y@127.0.0.1:9/x', VALKEY_URL: 'redis://127.0.0.1:9' };
const showRun = (t, command, end, text = end.err) =>
  t.show(`${fence('sh', command)}\n\n${fence('', `${text.trim().slice(0, 1500)}\n[exit ${end.code}]`)}`);

/** @type {[string, (t: any) => Promise<void>][]} */
export const configuring = [
  [
    'Every fault of the configuration at once, with the variable’s name: exit 78',
    async (t) => {
      const faults = {
        PORT: '70000',
        DATABASE_URL: 'mysql://x',
        VALKEY_URL: 'http://x',
        PUBLIC_URL: 'ftp://x',
        ADMIN_API_KEY: 'short',
        ENCRYPTION_KEY: 'not-a-key',
        BACKEND_ALLOW_CIDRS: '10.0.0.0/99',
        BACKEND_DENY_CIDRS: 'all',
        HEALTH_INTERVAL_MS: '-1',
        HEALTH_TIMEOUT_MS: 'soon',
        HEALTH_RISE: '0',
        HEALTH_FALL: '1.5',
        DISPATCH_TIMEOUT_MS: '0',
        DISPATCH_MAX_ATTEMPTS: '0',
        DISPATCH_MAX_SENDS: 'x',
        DISPATCH_BACKOFF_BASE_MS: '-5',
        DISPATCH_BACKOFF_MAX_MS: '99999999999999',
        TASK_START_TIMEOUT_MS: '-1',
        TASK_HEARTBEAT_TIMEOUT_MS: 'never',
        TASK_RUN_TIMEOUT_MS: '2592000001',
        SWEEP_INTERVAL_MS: '0',
        RECONCILE_INTERVAL_MS: '0',
        RECONCILE_SILENCE_MS: 'x',
        GIVE_UP_AFTER_MS: '0',
        QUEUE_PREFIX: 'a:b',
        BULL_BOARD_WRITABLE: 'perhaps',
        SHUTDOWN_TIMEOUT_MS: '1',
        LOG_LEVEL: 'loud',
      };
      for (const file of ['src/start.main.js', fileOf('web'), fileOf('release')]) {
        const end = await run(file, faults).within(10_000);
        if (file === 'src/start.main.js')
          showRun(t, 'PORT=70000 DATABASE_URL=mysql://x LOG_LEVEL=loud … npm start', end);
        t.is(`${file}: exit code`, end.code, 78);
        t.is(
          `${file}: variables not named`,
          Object.keys(faults).filter((name) => !end.err.includes(name)),
          [],
        );
        t.ok(
          `${file}: no value is printed`,
          !end.err.includes('not-a-key') && !end.err.includes('short\n'),
          end.err,
        );
      }
    },
  ],
  [
    '`HOST=0.0.0.0` and `::` without `PUBLIC_URL` are refused',
    async (t) => {
      for (const HOST of ['0.0.0.0', '::']) {
        const end = await run('src/start.main.js', { HOST }).within(10_000);
        if (HOST !== '::') showRun(t, `HOST=${HOST} npm start`, end);
        t.is('exit code', end.code, 78);
        t.ok('PUBLIC_URL is named', end.err.includes('PUBLIC_URL'), end.err);
      }
    },
  ],
  [
    '`DATABASE_URL` without `ENCRYPTION_KEY` is refused',
    async (t) => {
      const end = await run('src/start.main.js', { DATABASE_URL: nowhere.DATABASE_URL }).within(10_000);
      showRun(t, 'DATABASE_URL=postgres://… npm start', end);
      t.is('exit code', end.code, 78);
      t.ok('ENCRYPTION_KEY is named', end.err.includes('ENCRYPTION_KEY'), end.err);
      t.ok('no password', !end.err.includes('x:y'), end.err);
    },
  ],
  [
    'A line of the Procfile without the URLs refuses, and names both',
    async (t) => {
      t.is(
        'the lines',
        lines.map(([name]) => name),
        ['release', 'web', 'dispatch', 'transitions', 'scheduler'],
      );
      for (const [name, file] of lines) {
        const end = await run(file ?? '', { ENCRYPTION_KEY: key32 }).within(10_000);
        if (name === 'dispatch') showRun(t, `node dist/${file}`, end);
        t.is(`${name}: exit code`, end.code, 78);
        t.is(
          `${name}: both are named`,
          [end.err.includes('DATABASE_URL'), end.err.includes('VALKEY_URL')],
          [true, true],
        );
      }
    },
  ],
  [
    '`.env` in the working directory is read, and the environment wins',
    async (t) => {
      const cwd = temporary();
      t.after(async () => rmSync(cwd, { recursive: true }));
      writeFileSync(join(cwd, '.env'), 'LOG_LEVEL=loud\nHEALTH_RISE=zero\n');
      const both = await run('src/start.main.js', {}, { cwd }).within(10_000);
      t.is(
        'both faults come from the file',
        [both.code, both.err.includes('LOG_LEVEL'), both.err.includes('HEALTH_RISE')],
        [78, true, true],
      );
      const one = await run('src/start.main.js', { LOG_LEVEL: 'info' }, { cwd }).within(10_000);
      showRun(
        t,
        "printf 'LOG_LEVEL=loud\\nHEALTH_RISE=zero\\n' > .env; LOG_LEVEL=info node $PROJECT/dist/src/start.main.js",
        one,
      );
      t.is(
        'the environment wins',
        [one.code, one.err.includes('LOG_LEVEL'), one.err.includes('HEALTH_RISE')],
        [78, false, true],
      );
    },
  ],
  [
    'A taken port is named with the variable that moves it',
    async (t) => {
      const PORT = String(await freePort());
      const squatter = createServer().listen(Number(PORT), '127.0.0.1');
      t.after(async () => squatter.close());
      const end = await run('src/start.main.js', { PORT, DATA_DIR: temporary() }).within(20_000);
      showRun(
        t,
        'PORT=$TAKEN npm start',
        end,
        end.err.replaceAll(PORT, '$TAKEN').replaceAll(String(Number(PORT) + 1), '$TAKEN+1'),
      );
      t.ok('it ends', typeof end.code === 'number' && end.code !== 0, end.code);
      t.ok('port and variable', end.err.includes(PORT) && end.err.includes('PORT'), end.err);
    },
  ],
  [
    'The keys are made once, printed once, and kept with mode 600',
    async (t) => {
      const { dataDir, adminKey } = t.system;
      t.ok('printed', t.system.err().includes(adminKey), t.system.err());
      t.ok('not in the log', !t.system.out().includes(adminKey));
      t.ok('length', adminKey.length >= 16, adminKey.length);
      for (const name of ['admin-api-key', 'encryption-key'])
        t.is(name, (statSync(join(dataDir, name)).mode & 0o777).toString(8), '600');
      t.is('32 bytes', Buffer.from(t.system.encryptionKey, 'base64').length, 32);
      t.show(
        fence(
          '',
          t.system
            .err()
            .replaceAll(adminKey, '<the key>')
            .replace(/ready after [\d.]+/, 'ready after <n>')
            .replace(/(Node|embedded) [\d.]+/g, '$1 <version>')
            .trim(),
        ),
      );
    },
  ],
  [
    'The log is one JSON object a line on stdout',
    async (t) => {
      const written = t.system.out().split('\n').filter(Boolean);
      t.ok('lines', written.length > 3, written.length);
      t.is(
        'lines that are no object',
        written.filter((line) => !line.startsWith('{') || !line.endsWith('}')),
        [],
      );
      t.ok(
        'a level',
        t.system.logged().every(({ level }) => typeof level === 'string'),
      );
      t.showValue(
        'A line:',
        t.system.logged().find((line) => line.event === 'process.started' && line.process === 'web') ?? {},
      );
    },
  ],
  [
    'A process that dies is started again',
    async (t) => {
      const first = t.system
        .logged()
        .find((line) => line.event === 'process.started' && line.process === 'transitions');
      process.kill(first.pid, 'SIGKILL');
      const next = await t.until('it is back', () =>
        t.system
          .logged()
          .find(
            (line) =>
              line.event === 'process.started' && line.process === 'transitions' && line.pid !== first.pid,
          ),
      );
      t.ok('another one', next.pid !== first.pid);
      t.show('`transitions` was killed with SIGKILL and was there again, under another process id.');
    },
  ],
  [
    'A `web` alone on a schema that is older: it lives, is not ready, and says why; 503 with `Retry-After` under `/v1`',
    async (t) => {
      const PORT = String(await freePort());
      const web = run(fileOf('web'), {
        ...nowhere,
        PORT,
        ENCRYPTION_KEY: key32,
        ADMIN_API_KEY: t.system.adminKey,
      });
      t.after(async () => {
        web.kill('SIGTERM');
        await web.within(25_000);
      });
      const url = `http://127.0.0.1:${PORT}`;
      await t.until('it listens', () =>
        send(`${url}/livez`).then(
          ({ status }) => status === 200,
          () => false,
        ),
      );
      await t.ask('GET', '/livez', { url, key: null, expect: 200, quiet: true });
      const ready = await t.ask('GET', '/readyz', { url, key: null, expect: 503 });
      t.ok('the reason', ready.text.length > 30, ready.text);
      await t.refuse('GET', '/v1/tasks', 503, null, { url });
      await t.refuse('POST', '/v1/tasks', 503, null, {
        url,
        body: { type: 'demo', context: 1 },
        quiet: true,
      });
    },
  ],
];
