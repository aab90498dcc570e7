import type { Backend, BackendLoad } from '../domain/backend.js';
import { sqlStateOf, type Sql } from './pool.js';
import { backendColumns, backendOf, type BackendRow } from './backend-row.js';

/** What an operator decides about a backend. `sealedSecret` is never anything but sealed text. */
export type BackendSettings = Pick<
  Backend,
  | 'name'
  | 'protocol'
  | 'url'
  | 'authType'
  | 'healthPath'
  | 'healthExpect'
  | 'labels'
  | 'weight'
  | 'maxConcurrency'
  | 'maxDispatchesPerMinute'
  | 'mode'
> & { readonly sealedSecret: string | null };

/** `nameTaken`: another backend that is not removed has this name. */
export type Saved = { readonly kind: 'saved'; readonly backend: Backend } | { readonly kind: 'nameTaken' };

type LoadRow = Omit<BackendRow, 'auth_secret'> & { in_flight: number };

const inFlight = `(SELECT count(*)::integer FROM attempts a WHERE a.backend_id = b.id AND a.ended_at IS NULL) AS in_flight`;

const insertStatement = {
  name: 'insert-backend',
  text: `
INSERT INTO backends AS b (id, name, protocol, url, auth_type, auth_secret, health_path, health_expect, labels, weight,
  max_concurrency, max_dispatches_per_minute, mode)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (name) WHERE deleted_at IS NULL DO NOTHING
RETURNING ${backendColumns('b')}`,
};

export async function insertBackend(sql: Sql, id: string, settings: BackendSettings): Promise<Saved> {
  const [row] = await sql.query<BackendRow>(insertStatement, [id, ...valuesOf(settings)]);
  return row === undefined ? { kind: 'nameTaken' } : { kind: 'saved', backend: backendOf(row) };
}

const updateStatement = {
  name: 'update-backend',
  text: `
UPDATE backends b SET name = $2, protocol = $3, url = $4, auth_type = $5, auth_secret = $6, health_path = $7,
  health_expect = $8, labels = $9, weight = $10, max_concurrency = $11, max_dispatches_per_minute = $12, mode = $13,
  config_version = config_version + 1, updated_at = now(),
  health_status = CASE WHEN $14 THEN 'unknown' ELSE health_status END,
  health_reason = CASE WHEN $14 THEN NULL ELSE health_reason END,
  last_error = CASE WHEN $14 THEN NULL ELSE last_error END,
  consecutive_failures = CASE WHEN $14 THEN 0 ELSE consecutive_failures END,
  consecutive_successes = CASE WHEN $14 THEN 0 ELSE consecutive_successes END,
  refused_sends = CASE WHEN $14 THEN 0 ELSE refused_sends END,
  blocked_until = CASE WHEN $14 THEN NULL ELSE blocked_until END,
  trial_failures = CASE WHEN $14 THEN 0 ELSE trial_failures END,
  trial_at = CASE WHEN $14 THEN NULL WHEN health_reason = 'misconfigured' THEN now() ELSE trial_at END
WHERE id = $1 RETURNING ${backendColumns('b')}`,
};

/**
 * Saves the new settings under a new version: what a probe or send learnt of the old ones counts no more.
 * `isOtherPlace` forgets the health too; otherwise a misconfigured one gets its trial at once.
 */
export async function updateBackend(
  tx: Sql,
  id: string,
  settings: BackendSettings,
  isOtherPlace: boolean,
): Promise<Saved> {
  try {
    const [row] = await tx.query<BackendRow>(updateStatement, [id, ...valuesOf(settings), isOtherPlace]);
    if (row === undefined) throw new Error(`backend ${id} is gone`);
    return { kind: 'saved', backend: backendOf(row) };
  } catch (error) {
    if (sqlStateOf(error) === '23505') return { kind: 'nameTaken' };
    throw error;
  }
}

function valuesOf(settings: BackendSettings): unknown[] {
  return [
    settings.name,
    settings.protocol,
    settings.url,
    settings.authType,
    settings.sealedSecret,
    settings.healthPath,
    settings.healthExpect,
    JSON.stringify(settings.labels),
    settings.weight,
    settings.maxConcurrency,
    settings.maxDispatchesPerMinute,
    settings.mode,
  ];
}

const lockStatement = {
  name: 'lock-backend',
  text: `SELECT ${backendColumns('b')}, b.auth_secret, ${inFlight} FROM backends b
WHERE b.id = $1 AND b.deleted_at IS NULL FOR UPDATE OF b`,
};

/** A backend that is not removed, with its sealed secret, locked until the transaction ends. */
export async function lockBackend(
  tx: Sql,
  id: string,
): Promise<(BackendLoad & { readonly sealedSecret: string | null }) | null> {
  const [row] = await tx.query<LoadRow & { auth_secret: string | null }>(lockStatement, [id]);
  return row === undefined ? null : { ...loadOf(row), sealedSecret: row.auth_secret };
}

const removeStatement = {
  name: 'remove-backend',
  text: `UPDATE backends SET deleted_at = now(), updated_at = now(), config_version = config_version + 1 WHERE id = $1`,
};

/** Hides it and frees its name; the row stays, for agents that are still to be killed there. */
export async function removeBackend(tx: Sql, id: string): Promise<void> {
  await tx.query(removeStatement, [id]);
}

const findStatement = {
  name: 'find-backend',
  text: `SELECT ${backendColumns('b')}, ${inFlight} FROM backends b WHERE b.id = $1 AND b.deleted_at IS NULL`,
};

/** With `inFlight`: attempts whose agent may live. */
export async function findBackend(sql: Sql, id: string): Promise<BackendLoad | null> {
  const [row] = await sql.query<LoadRow>(findStatement, [id]);
  return row === undefined ? null : loadOf(row);
}

const listStatement = {
  name: 'list-backends',
  text: `
SELECT ${backendColumns('b')}, ${inFlight} FROM backends b
WHERE b.deleted_at IS NULL AND ($1::text IS NULL OR b.name = $1)
  AND ($2::timestamptz IS NULL OR (b.created_at, b.id) < ($2, $3))
ORDER BY b.created_at DESC, b.id DESC LIMIT $4`,
};

/** Newest first. */
export async function listBackends(
  sql: Sql,
  name: string | null,
  after: { readonly at: Date; readonly id: string } | null,
  limit: number,
): Promise<readonly BackendLoad[]> {
  const rows = await sql.query<LoadRow>(listStatement, [name, after?.at ?? null, after?.id ?? null, limit]);
  return rows.map(loadOf);
}

const runningStatement = {
  name: 'tasks-running-on',
  text: `
SELECT t.id FROM attempts a JOIN tasks t ON t.id = a.task_id AND t.attempt = a.number
WHERE a.backend_id = $1 AND a.ended_at IS NULL AND t.finished_at IS NULL AND t.cancel_requested_at IS NULL
  AND (t.state <> 'PENDING' OR a.unknown_sends = 0) AND t.id > $2
ORDER BY t.id LIMIT $3`,
};

/**
 * Tasks that this backend has or is being given, behind an id. Those of unknown outcome are not among them:
 * their own choice (`onUnknownOutcome`) settles them when a backend is removed.
 */
export async function listRunningOn(
  sql: Sql,
  backendId: string,
  after: string,
  limit: number,
): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(runningStatement, [backendId, after, limit]);
  return rows.map(({ id }) => id);
}

function loadOf(row: LoadRow): BackendLoad {
  return { ...backendOf(row), inFlight: row.in_flight };
}
