import type { Sql } from './pool.js';

/** A key as it is stored: its secret is only a hash, so nobody who reads the database can use it. */
export type ApiKey = {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly workspaceId: string | null;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
  readonly createdAt: Date;
  /** By database time, when it was read. */
  readonly hasExpired: boolean;
};

type ApiKeyRow = {
  id: string;
  name: string;
  scopes: string[];
  workspace_id: string | null;
  expires_at: Date | null;
  revoked_at: Date | null;
  created_at: Date;
  has_expired: boolean;
};

const columns = `id, name, scopes, workspace_id, expires_at, revoked_at, created_at,
  coalesce(expires_at <= now(), false) AS has_expired`;

const insertStatement = {
  name: 'insert-api-key',
  text: `
INSERT INTO api_keys (id, name, hash, scopes, workspace_id, expires_at) VALUES ($1, $2, $3, $4, $5, $6)
RETURNING ${columns}`,
};
const byHashStatement = { name: 'api-key-by-hash', text: `SELECT ${columns} FROM api_keys WHERE hash = $1` };
const byIdStatement = { name: 'api-key-by-id', text: `SELECT ${columns} FROM api_keys WHERE id = $1` };
const listStatement = {
  name: 'list-api-keys',
  text: `
SELECT ${columns} FROM api_keys
WHERE revoked_at IS NULL AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2))
ORDER BY created_at DESC, id DESC LIMIT $3`,
};
const revokeStatement = {
  name: 'revoke-api-key',
  text: `UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING ${columns}`,
};

export type NewApiKey = Pick<ApiKey, 'id' | 'name' | 'scopes' | 'workspaceId' | 'expiresAt'> & {
  /** SHA-256 of the secret, hexadecimal. */
  readonly hash: string;
};

export async function insertApiKey(sql: Sql, key: NewApiKey): Promise<ApiKey> {
  const values = [key.id, key.name, key.hash, key.scopes, key.workspaceId, key.expiresAt];
  const [row] = await sql.query<ApiKeyRow>(insertStatement, values);
  if (row === undefined) throw new Error('the key was not stored');
  return keyOf(row);
}

export async function findApiKeyByHash(sql: Sql, hash: string): Promise<ApiKey | null> {
  const [row] = await sql.query<ApiKeyRow>(byHashStatement, [hash]);
  return row === undefined ? null : keyOf(row);
}

export async function findApiKey(sql: Sql, id: string): Promise<ApiKey | null> {
  const [row] = await sql.query<ApiKeyRow>(byIdStatement, [id]);
  return row === undefined ? null : keyOf(row);
}

/** Keys that are not revoked, newest first. */
export async function listApiKeys(
  sql: Sql,
  after: { at: Date; id: string } | null,
  limit: number,
): Promise<readonly ApiKey[]> {
  const rows = await sql.query<ApiKeyRow>(listStatement, [after?.at ?? null, after?.id ?? null, limit]);
  return rows.map(keyOf);
}

/** Null when there is no such key, or it was revoked before. */
export async function revokeApiKey(sql: Sql, id: string): Promise<ApiKey | null> {
  const [row] = await sql.query<ApiKeyRow>(revokeStatement, [id]);
  return row === undefined ? null : keyOf(row);
}

function keyOf(row: ApiKeyRow): ApiKey {
  return {
    id: row.id,
    name: row.name,
    scopes: row.scopes,
    workspaceId: row.workspace_id,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
    createdAt: row.created_at,
    hasExpired: row.has_expired,
  };
}
