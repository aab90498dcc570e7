/** Section 3: processes side by side, outages, stopping. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { root } from '../../build.mjs';
import { freePort, run, startSystem, temporary } from '../programs.mjs';
import { fence, rows } from '../page.mjs';
import { send } from '../http.mjs';

const lines = readFileSync(join(root, 'Procfile'), 'utf8')
  .trim()
  .split('\n')
  .map((line) => /^(\w+):.* dist\/(\S+)$/.exec(line)?.slice(1) ?? []);
const fileOf = (name) => lines.find(([one]) => one === name)?.[1] ?? '';
const showRun = (t, command, end, text = end.err) =>
  t.show(`${fence('sh', command)}\n\n${fence('', `${text.trim().slice(0, 1500)}\n[exit ${end.code}]`)}`);

/** @type {[string, (t: any) => Promise<void>][]} */
export const starting = [
  [
    'Lines of the Procfile alone, any number: a second `web` serves, a second `dispatch` works; migrations run again are none',
    async (t) => {
      const env = {
        DATABASE_URL: t.system.databaseUrl(),
        VALKEY_URL: t.system.valkeyUrl(),
        ENCRYPTION_KEY: t.system.encryptionKey,
        ADMIN_API_KEY: t.system.adminKey,
        BACKEND_ALLOW_CIDRS: '127.0.0.0/8',
        PUBLIC_URL: t.system.url,
      };
      const release = await run(fileOf('release'), env).within(20_000);
      t.is('release', release.code, 0);
      const PORT = String(await freePort());
      const web = run(fileOf('web'), { ...env, PORT });
      const dispatch = run(fileOf('dispatch'), { ...env, PORT });
      const url = `http://127.0.0.1:${PORT}`;
      await t.until(
        'both are there',
        async () =>
          dispatch.out().includes('process.started') &&
          (await send(`${url}/readyz`).then(
            ({ status }) => status === 200,
            () => false,
          )),
      );
      const place = await t.place({ script: () => [{ status: 'completed' }] });
      const made = await t.ask('POST', '/v1/tasks', {
        url,
        body: { type: 'demo', context: 1, backend: { id: place.id } },
        expect: 201,
        quiet: true,
      });
      const read = await t.ask('GET', `/v1/tasks/${made.json.id}?wait=20`, { expect: 200, quiet: true });
      t.is('made at one, read at the other', read.json.state, 'COMPLETED');
      for (const [name, program] of rows([
        ['web', web],
        ['dispatch', dispatch],
      ])) {
        program.kill('SIGTERM');
        const end = await program.within(26_000);
        t.is(`${name} ends`, end.code, 0);
      }
      t.show(
        'A task made at the second `web` was read at the first; both extra processes ended with 0 on SIGTERM.',
      );
    },
  ],
  [
    'With `DATABASE_URL` set, private and loopback addresses are denied unless allowed',
    async (t) => {
      const env = {
        DATABASE_URL: t.system.databaseUrl(),
        VALKEY_URL: t.system.valkeyUrl(),
        ENCRYPTION_KEY: t.system.encryptionKey,
        ADMIN_API_KEY: t.system.adminKey,
        BACKEND_ALLOW_CIDRS: '10.1.0.0/16',
        BACKEND_DENY_CIDRS: '10.1.9.0/24',
      };
      const PORT = String(await freePort());
      const web = run(fileOf('web'), { ...env, PORT });
      t.after(async () => {
        web.kill('SIGTERM');
        await web.within(26_000);
      });
      const url = `http://127.0.0.1:${PORT}`;
      await t.until('it serves', () =>
        send(`${url}/readyz`).then(
          ({ status }) => status === 200,
          () => false,
        ),
      );
      for (const [address, isAllowed] of rows([
        ['127.0.0.1', false],
        ['10.2.0.1', false],
        ['192.168.0.1', false],
        ['172.16.0.1', false],
        ['[::1]', false],
        ['[fd00::1]', false],
        ['10.1.9.1', false],
        ['10.1.0.1', true],
      ])) {
        const body = { name: `guard ${address}`, protocol: 'gateway', url: `http://${address}:8080` };
        const answer = await t.ask('POST', '/v1/backends', { url, body, quiet: address !== '127.0.0.1' });
        t.is(address, answer.status, isAllowed ? 201 : 422);
        if (answer.status === 201) await t.admin('DELETE', `/v1/backends/${answer.json.id}?force=true`);
      }
    },
  ],
  [
    'Valkey out of reach fails no request, and what was accepted is done',
    async (t) => {
      const place = await t.place({ script: () => [{ status: 'completed' }] });
      const pid = await t.system.valkeyPid();
      process.kill(pid, 'SIGSTOP');
      t.after(async () => process.kill(pid, 'SIGCONT'));
      const made = await t.ask('POST', '/v1/tasks', {
        body: { type: 'demo', context: 1, backend: { id: place.id } },
        expect: 201,
      });
      t.ok('not waited for', made.ms < 2000, made.ms);
      const ready = await t.ask('GET', '/readyz', { key: null, expect: 200 });
      t.ok('still ready', ready.status === 200);
      const { json } = await t.ask('GET', `/v1/tasks/${made.json.id}?wait=30`, { expect: 200 });
      t.is('done without it', json.state, 'COMPLETED');
    },
  ],
  [
    'A newer schema is refused by every line: 78',
    async (t) => {
      const env = {
        DATABASE_URL: t.system.databaseUrl(),
        VALKEY_URL: t.system.valkeyUrl(),
        ENCRYPTION_KEY: t.system.encryptionKey,
      };
      const client = new pg.Client({ connectionString: env.DATABASE_URL });
      await client.connect();
      const forget = () => client.query("DELETE FROM schema_migrations WHERE name = '999-future'");
      t.after(async () => {
        await forget();
        await client.end();
      });
      await client.query(
        "INSERT INTO schema_migrations (name, batch, migration_time) VALUES ('999-future', 999, now())",
      );
      for (const [name, file] of lines) {
        const end = await run(file ?? '', { ...env, PORT: String(await freePort()) }).within(20_000);
        if (name === 'web')
          showRun(
            t,
            `node dist/${file}`,
            end,
            end.out
              .split('\n')
              .filter((line) => line.includes('schema'))
              .join('\n') || end.err,
          );
        t.is(`${name}: exit code`, end.code, 78);
      }
    },
  ],
  [
    '`npm start` again on the same data: the same keys, nothing lost, nothing printed twice; SIGTERM and SIGINT exit 0 within 25 s',
    async (t) => {
      const DATA_DIR = temporary();
      t.after(async () => rmSync(DATA_DIR, { recursive: true, force: true }));
      const PORT = String(await freePort());
      const first = await startSystem({ DATA_DIR, PORT });
      const made = await send(`${first.url}/v1/tasks`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${first.adminKey}`, 'Content-Type': 'application/json' },
        body: '{"type":"demo","context":{"kept":true}}',
      });
      const stop = async (system, signal) => {
        const startedMs = performance.now();
        system.kill(signal);
        const end = await system.within(30_000);
        t.is(`${signal}: exit code`, end.code, 0);
        t.ok(`${signal}: within 25 s`, performance.now() - startedMs < 25_000, performance.now() - startedMs);
      };
      await stop(first, 'SIGTERM');
      const second = await startSystem({ DATA_DIR, PORT });
      t.is('the same key', second.adminKey, first.adminKey);
      t.ok('not printed again', !second.err().includes(second.adminKey), second.err());
      const read = await send(`${second.url}/v1/tasks/${made.json.id}`, {
        headers: { Authorization: `Bearer ${second.adminKey}` },
      });
      t.is('the task is there', [read.status, read.json?.context], [200, { kept: true }]);
      await stop(second, 'SIGINT');
      t.ok('the data are there', existsSync(join(DATA_DIR, 'postgres')));
      t.show(
        'Started, stopped with SIGTERM, started again on the same `DATA_DIR`, stopped with SIGINT: exit code 0 both times, the key and the task were still there, and the key was not printed a second time.',
      );
    },
  ],
];
