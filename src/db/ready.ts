import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../logger.js';
import { schemaState } from './migrate.js';
import type { Db, Sql } from './pool.js';

/**
 * Waits until the database is there and its schema is this build's.
 *
 * @returns `newer` when the schema is ahead of this build: such a process must not run at all
 */
export async function waitForSchema(
  db: Db,
  signal: AbortSignal,
  logger: Logger,
): Promise<'current' | 'newer' | 'stopped'> {
  let told = false;
  while (!signal.aborted) {
    const state = await schemaState(db.knex).catch(() => 'away' as const);
    if (state === 'current' || state === 'newer') return state;
    if (!told) {
      const cure =
        state === 'older' ? 'run the release process of the Procfile' : 'check DATABASE_URL and the server';
      logger.warn('database.awaited', { state, cure });
      told = true;
    }
    await sleep(500, undefined, { signal }).catch(() => undefined);
  }
  return 'stopped';
}

const settingsStatement = {
  text: `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')`,
};

/** Server settings with which a commit is no promise; empty when it is one. */
export async function findBrokenPromises(sql: Sql): Promise<readonly string[]> {
  const rows = await sql.query<{ name: string; setting: string }>(settingsStatement);
  return rows.filter(({ setting }) => setting === 'off').map(({ name }) => `${name} is off`);
}
