import knexPackage, { type Knex } from 'knex';
import { DispatcherError } from '../domain/errors.js';
import * as ground from './migrations/001-ground.js';

/**
 * Every migration, in order, from a list in code: a directory would store file extensions, and a database
 * migrated by the built files would refuse the sources. Forward only.
 */
const migrations: readonly { name: string; up: (knex: Knex) => Promise<void> }[] = [
  { name: '001-ground', up: ground.up },
];

const source: Knex.MigrationSource<(typeof migrations)[number]> = {
  getMigrations: () => Promise.resolve([...migrations]),
  getMigrationName: (migration) => migration.name,
  getMigration: (migration) =>
    Promise.resolve({
      up: migration.up,
      down: () => Promise.reject(new Error('migrations only go forward')),
    }),
};

/** One number for the lock that serialises migrations of all starting processes. */
const migrationLock = 7_264_001;

/**
 * Brings the schema up to date; safe to call from many processes at once. Returns how many were applied.
 *
 * @throws DispatcherError `schema_newer` when the database was migrated by a newer build
 */
export async function migrate(databaseUrl: string): Promise<number> {
  const knex = knexPackage.knex({ client: 'pg', connection: databaseUrl, pool: { min: 0, max: 2 } });
  try {
    if ((await schemaState(knex)) === 'newer') {
      const cure = 'the database has a newer schema than this build; deploy the newer build';
      throw new DispatcherError('schema_newer', cure);
    }
    return await knex.transaction(async (holder) => {
      // knex's own lock is not enough on a fresh database: its tables themselves would be made twice.
      await holder.raw('SELECT pg_advisory_xact_lock(?)', [migrationLock]);
      const [, applied] = (await knex.migrate.latest({
        migrationSource: source,
        tableName: 'schema_migrations',
      })) as [number, string[]];
      return applied.length;
    });
  } finally {
    await knex.destroy();
  }
}

export type SchemaState = 'current' | 'older' | 'newer';

/** How the database's schema compares with what this build needs. A missing table is an older schema. */
export async function schemaState(db: Knex): Promise<SchemaState> {
  const known = new Set(migrations.map((migration) => migration.name));
  try {
    const rows = await db('schema_migrations').select<{ name: string }[]>('name');
    const applied = new Set(rows.map((row) => row.name));
    if ([...applied].some((name) => !known.has(name))) return 'newer';
    return [...known].every((name) => applied.has(name)) ? 'current' : 'older';
  } catch (error) {
    if (isMissingTable(error)) return 'older';
    throw new DispatcherError('database_unavailable', 'the schema could not be read', { cause: error });
  }
}

function isMissingTable(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === '42P01';
}
