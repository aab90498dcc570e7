import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Client } from 'pg';
import { openTestDatabase, openTestValkey, type TestDatabase } from '../support/database.js';

let database: TestDatabase;
let client: Client;
beforeAll(async () => {
  database = await openTestDatabase();
  client = new Client({ connectionString: database.url });
  await client.connect();
});
afterAll(async () => {
  await client.end();
  await database.close();
});

function release(): Promise<{ code: number | null; log: string }> {
  const child = spawn(process.execPath, [join(process.cwd(), 'dist/src/db/release.main.js')], {
    env: {
      PATH: process.env['PATH'],
      DATABASE_URL: database.url,
      VALKEY_URL: openTestValkey().url,
      ENCRYPTION_KEY: Buffer.alloc(32, 1).toString('base64'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let log = '';
  child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, log })));
}

test('release on a schema that is up to date does nothing and ends with 0', async () => {
  const { code, log } = await release();
  expect(code).toBe(0);
  expect(log).toContain('"applied":0');
});

test('release refuses a newer schema with 78, and says what cures it', async () => {
  await client.query(
    "INSERT INTO schema_migrations (name, batch, migration_time) VALUES ('999-future', 9, now())",
  );
  const { code, log } = await release();
  expect(code).toBe(78);
  expect(log).toContain('deploy the newer build');
});
