import { randomBytes } from 'node:crypto';
import { Client } from 'pg';
import { migrate } from '../../src/db/migrate.js';
import { findTestServers } from './servers.js';

export type TestDatabase = { readonly url: string; readonly close: () => Promise<void> };

const template = 'template_migrated';
/** Serialises the test files, which run in several processes, while the first one makes the template. */
const templateLock = 4_118_002;

/** A fresh, migrated database of its own; `close` drops it, together with whoever is still connected. */
export async function openTestDatabase(): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await onServer(async (client) => {
    // The lock also keeps copies apart: a template can be copied only while nobody is connected to it.
    await client.query('SELECT pg_advisory_lock($1)', [templateLock]);
    await makeTemplate(client);
    await client.query(`CREATE DATABASE ${name} TEMPLATE ${template}`);
  });
  return {
    url: urlOf(name),
    close: () =>
      onServer(async (client) => void (await client.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))),
  };
}

/** Keys of its own in the shared Valkey: BullMQ puts the prefix, a hash tag, before each of them. */
export function openTestValkey(): { readonly url: string; readonly prefix: string } {
  return { url: findTestServers().valkeyUrl, prefix: `{test-${randomBytes(6).toString('hex')}}` };
}

/** Migrated under another name first: a template that exists is complete. */
async function makeTemplate(client: Client): Promise<void> {
  const known = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [template]);
  if (known.rowCount !== 0) return;
  const draft = `${template}_draft`;
  await client.query(`DROP DATABASE IF EXISTS ${draft} WITH (FORCE)`);
  await client.query(`CREATE DATABASE ${draft}`);
  await migrate(urlOf(draft));
  await client.query(`ALTER DATABASE ${draft} RENAME TO ${template}`);
}

function urlOf(name: string): string {
  const url = new URL(findTestServers().databaseUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** The session's end gives its advisory lock back. */
async function onServer(use: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ connectionString: findTestServers().databaseUrl });
  await client.connect();
  try {
    await use(client);
  } finally {
    await client.end();
  }
}
