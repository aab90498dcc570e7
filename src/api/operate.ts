import { randomBytes } from 'node:crypto';
import { findApiKey, insertApiKey, listApiKeys, revokeApiKey, type ApiKey } from '../db/api-keys.js';
import { insertAudit, listAudit, type AuditRecord } from '../db/audit.js';
import type { Db } from '../db/pool.js';
import { hashOf } from './auth.js';
import { bodyLimits, parseEnvelope, readBytes, textOf } from './body.js';
import { idOf, queryOf, sendJson, sendNothing, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { makeIdSource } from './ids.js';
import { defaultLimit, pageJson, positionOf } from './page.js';
import { invalid, refusal } from './problems.js';
import { apiKeyInput } from './schema-backend.js';
import { noQuery, pageQuery } from './schema-task.js';

const nextId = makeIdSource('key');

/** API keys and the audit: an admin's alone. */
export function operatingRoutes(deps: { readonly db: Db }): readonly Route[] {
  const { db } = deps;
  const admin = 'admin' as const;
  const keys = '/v1/api-keys';
  return [
    { method: 'GET', path: keys, scope: admin, handle: (exchange) => listKeys(db, exchange) },
    { method: 'POST', path: keys, scope: admin, handle: (exchange) => createKey(db, exchange) },
    { method: 'GET', path: `${keys}/:id`, scope: admin, handle: (exchange) => showKey(db, exchange) },
    { method: 'DELETE', path: `${keys}/:id`, scope: admin, handle: (exchange) => revokeKey(db, exchange) },
    { method: 'GET', path: '/v1/audit', scope: admin, handle: (exchange) => showAudit(db, exchange) },
  ];
}

async function createKey(db: Db, { req, res, caller }: Exchange): Promise<void> {
  queryOf(req, noQuery);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const input = check(apiKeyInput, parseEnvelope(text, { payloads: [] }));
  if (input.expiresAt !== undefined && input.expiresAt.getTime() <= Date.now()) {
    throw invalid([{ pointer: '/expiresAt', detail: 'must be in the future' }]);
  }
  const id = nextId();
  const secret = `mdk_${randomBytes(32).toString('base64url')}`;
  const { name, workspaceId = null, expiresAt = null } = input;
  const scopes = [...new Set(input.scopes)];
  const key = await db.transaction(async (tx) => {
    const made = await insertApiKey(tx, { id, name, scopes, workspaceId, expiresAt, hash: hashOf(secret) });
    const detail = { name, scopes, expiresAt };
    await insertAudit(tx, [{ actor: caller.actor, action: 'key.create', target: id, workspaceId, detail }]);
    return made;
  });
  sendJson(res, 201, JSON.stringify({ ...plainKey(key), secret }), { Location: `/v1/api-keys/${id}` });
}

async function listKeys(db: Db, { req, res }: Exchange): Promise<void> {
  const { limit = defaultLimit, cursor } = queryOf(req, pageQuery);
  const after = positionOf(cursor);
  const rows = await listApiKeys(db, after && { at: new Date(after.at), id: after.id }, limit + 1);
  const toJson = (key: ApiKey): string => JSON.stringify(plainKey(key));
  sendJson(
    res,
    200,
    pageJson(rows, limit, toJson, ({ createdAt, id }) => ({ at: createdAt.getTime(), id })),
  );
}

const absent = (): Error => refusal('not_found', 'there is no API key with this id');

async function showKey(db: Db, exchange: Exchange): Promise<void> {
  queryOf(exchange.req, noQuery);
  const key = await findApiKey(db, idOf(exchange));
  if (key === null || key.revokedAt !== null) throw absent();
  sendJson(exchange.res, 200, JSON.stringify(plainKey(key)));
}

async function revokeKey(db: Db, exchange: Exchange): Promise<void> {
  queryOf(exchange.req, noQuery);
  const id = idOf(exchange);
  const { actor } = exchange.caller;
  await db.transaction(async (tx) => {
    const key = await revokeApiKey(tx, id);
    if (key === null) throw absent();
    const { name, workspaceId } = key;
    await insertAudit(tx, [{ actor, action: 'key.revoke', target: id, workspaceId, detail: { name } }]);
  });
  sendNothing(exchange.res);
}

async function showAudit(db: Db, { req, res }: Exchange): Promise<void> {
  const { limit = defaultLimit, cursor } = queryOf(req, pageQuery);
  const rows = await listAudit(db, positionOf(cursor)?.at ?? null, limit + 1);
  sendJson(
    res,
    200,
    pageJson(rows, limit, recordJson, (row) => ({ at: Number(row.id), id: '' })),
  );
}

function plainKey({ id, name, scopes, workspaceId, expiresAt, createdAt }: ApiKey): Record<string, unknown> {
  return { id, name, scopes, workspaceId, expiresAt, createdAt };
}

function recordJson({ at, actor, action, target, workspaceId, reason, detail }: AuditRecord): string {
  return JSON.stringify({ at, actor, action, target, workspaceId, reason, detail });
}
