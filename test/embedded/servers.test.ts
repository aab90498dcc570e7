import { expect, test } from '@jest/globals';
import { Client } from 'pg';
import { openTestDatabase } from '../support/database.js';

test('each test database is a copy of the migrated one, and is gone after its close', async () => {
  const [one, other] = await Promise.all([openTestDatabase(), openTestDatabase()]);
  expect(one.url).not.toBe(other.url);
  const client = new Client({ connectionString: one.url });
  await client.connect();
  const { rows } = await client.query('SELECT count(*)::int AS migrations FROM schema_migrations');
  expect(rows[0]).toEqual({ migrations: expect.any(Number) });
  await client.end();
  await Promise.all([one.close(), other.close()]);
  const late = new Client({ connectionString: one.url });
  await expect(late.connect()).rejects.toThrow('does not exist');
});
