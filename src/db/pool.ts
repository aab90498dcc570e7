import knexPackage, { type Knex } from 'knex';
import type { Client, QueryResultRow } from 'pg';
import { DispatcherError } from '../domain/errors.js';

/** One statement, one intent; `name` makes Postgres keep its plan on the connection. */
export type Statement = { readonly name?: string; readonly text: string };

/** Whatever can run statements: the pool itself, or one transaction on it. */
export interface Sql {
  query<R extends QueryResultRow>(statement: Statement, values?: readonly unknown[]): Promise<R[]>;
}

/** A pool of one role: a stuck worker must never starve the callback door of connections. */
export interface Db extends Sql {
  /** Commits what `work` did, or nothing. A connection lost during COMMIT throws `commit_unknown`. */
  transaction<T>(work: (tx: Sql) => Promise<T>): Promise<T>;
  /** For statements that are built: lists with filters, migrations. The hot ones are plain prepared `pg`. */
  readonly knex: Knex;
  close(): Promise<void>;
}

export type PoolOptions = {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly name: string;
  readonly max: number;
  /** Longest wait for a free connection, ms. */
  readonly acquireTimeoutMs?: number;
  readonly statementTimeoutMs?: number;
};

const ignore = (): void => undefined;

/*
 * Every statement here looks rows up by key or walks a bounded piece of an index. While tables are young, and have no
 * statistics, the planner thinks that reading them whole is cheaper, keeps that plan on the connection, and pays for
 * it as they grow: measured, ten times the database's time a task after a few thousand tasks.
 */
const byIndex = ['seqscan', 'hashjoin', 'mergejoin'].map((way) => `-c enable_${way}=off`).join(' ');

export function openDb(options: PoolOptions): Db {
  const { acquireTimeoutMs = 1000, statementTimeoutMs = 2000 } = options;
  const knex = knexPackage.knex({
    client: 'pg',
    connection: {
      connectionString: options.url,
      application_name: `mosaic-dispatch ${options.name}`,
      options: byIndex,
      statement_timeout: statementTimeoutMs,
      // The server's limit does not help when the server is gone: the client gives up a little later by itself.
      query_timeout: statementTimeoutMs + 500,
      connectionTimeoutMillis: acquireTimeoutMs,
      keepAlive: true,
    },
    acquireConnectionTimeout: acquireTimeoutMs,
    // Its failures come back to the caller; what knex would print besides is no line of ours.
    log: { warn: ignore, error: ignore, debug: ignore, deprecate: ignore },
    pool: { min: 0, max: options.max, idleTimeoutMillis: 30_000, propagateCreateError: false },
  });
  return {
    knex,
    query: (statement, values = []) => withConnection(knex, (sql) => sql.query(statement, values)),
    transaction: (work) => withConnection(knex, (sql) => inTransaction(sql, work)),
    close: () => knex.destroy(),
  };
}

type Connection = Client & { __knex__disposed?: unknown };

async function withConnection<T>(knex: Knex, work: (sql: Sql) => Promise<T>): Promise<T> {
  let connection: Connection;
  try {
    connection = (await knex.client.acquireConnection()) as Connection;
  } catch (error) {
    throw new DispatcherError('database_unavailable', 'no database connection could be had', {
      cause: error,
    });
  }
  try {
    return await work(sqlOn(connection));
  } finally {
    await knex.client.releaseConnection(connection);
  }
}

function sqlOn(connection: Connection): Sql {
  return {
    async query<R extends QueryResultRow>(
      statement: Statement,
      values: readonly unknown[] = [],
    ): Promise<R[]> {
      try {
        const result = await connection.query<R>({ ...statement, values: [...values] });
        return result.rows;
      } catch (error) {
        // Whatever is not the server's own verdict about the statement leaves a connection that nobody may reuse.
        if (isConnectionLost(error)) connection.__knex__disposed = error;
        throw error;
      }
    },
  };
}

async function inTransaction<T>(sql: Sql, work: (tx: Sql) => Promise<T>): Promise<T> {
  await sql.query({ text: 'BEGIN' });
  let result: T;
  try {
    result = await work(sql);
  } catch (error) {
    await sql.query({ text: 'ROLLBACK' }).catch(() => undefined);
    throw error;
  }
  try {
    await sql.query({ text: 'COMMIT' });
  } catch (error) {
    // It may have been committed or not: the caller must not repeat it and must not say 2xx (I4).
    throw new DispatcherError('commit_unknown', 'the connection was lost during COMMIT', { cause: error });
  }
  return result;
}

/** The five-letter SQLSTATE of a refusal by the server, or null when no verdict came. */
export function sqlStateOf(error: unknown): string | null {
  if (typeof error !== 'object' || error === null || !('code' in error)) return null;
  return typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code) ? error.code : null;
}

/** No verdict came, or the server said farewell (57P: it shuts down, or ended this session). */
function isConnectionLost(error: unknown): boolean {
  return /^(57P|08)/.test(sqlStateOf(error) ?? '08');
}

/** A fault of the data (classes 21, 22, 23): the batch is halved until the bad row stands alone (I9). */
export function isDataError(error: unknown): boolean {
  return /^2[123]/.test(sqlStateOf(error) ?? '');
}
