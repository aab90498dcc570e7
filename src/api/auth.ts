import { createHash, timingSafeEqual } from 'node:crypto';
import { findApiKey, findApiKeyByHash, type ApiKey } from '../db/api-keys.js';
import type { Sql } from '../db/pool.js';
import { bearerOf } from './bearer.js';
import { refusal } from './problems.js';
import type { Scope } from './schema-backend.js';

/** Who asks. `keyId` is `admin` for the configured key. */
export type Caller = {
  readonly keyId: string;
  /** What the timeline and the audit show. */
  readonly actor: string;
  readonly scopes: ReadonlySet<string>;
  readonly workspaceId: string | null;
};

export const adminCaller: Caller = {
  keyId: 'admin',
  actor: 'admin',
  scopes: new Set(['admin']),
  workspaceId: null,
};

/** Behind routes that know their callers in another way. */
export const nobody: Caller = { keyId: '', actor: 'anyone', scopes: new Set(), workspaceId: null };

export type Authenticator = {
  /** Who has this Authorization header; throws a 401 that says what is wrong with it. */
  authenticate(authorization: string | undefined): Promise<Caller>;
  /** Who has this key now, or null when it was revoked or has expired: open streams and cookies end by it. */
  callerOfKey(keyId: string): Promise<Caller | null>;
};

/** A revoked key is in force nowhere after 5 s; this leaves room for a slow answer of the database. */
const cacheMs = 2000;
const maxCached = 10_000;
const keyShape = /^mdk_[A-Za-z0-9_-]{43}$/;

export const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');

export function makeAuthenticator(deps: {
  readonly db: Sql;
  readonly adminApiKey: string | null;
}): Authenticator {
  const { db, adminApiKey } = deps;
  const adminHash = adminApiKey === null ? null : Buffer.from(hashOf(adminApiKey));
  const byHash = makeCache((hash) => findApiKeyByHash(db, hash));
  const byId = makeCache((id) => findApiKey(db, id));

  // Digests have one length and no relation to the key's prefix: comparing them tells nothing by its time.
  const isAdmin = (hash: string): boolean =>
    adminHash !== null && timingSafeEqual(adminHash, Buffer.from(hash));

  return {
    async authenticate(authorization) {
      const secret = bearerOf(authorization);
      if (secret === null) throw refusal('unauthenticated', 'send Authorization: Bearer <API key>');
      if (secret.startsWith('whsec_')) {
        throw refusal(
          'key_is_a_webhook_secret',
          'a whsec_ secret verifies webhooks; an API key begins with mdk_',
        );
      }
      const hash = hashOf(secret);
      if (isAdmin(hash)) return adminCaller;
      const key = keyShape.test(secret) ? await byHash(hash) : null;
      if (key === null) throw refusal('unauthenticated', 'this API key is not known');
      if (key.revokedAt !== null) throw refusal('key_revoked', 'this API key was revoked; use another');
      if (key.hasExpired) throw refusal('unauthenticated', 'this API key has expired; use another');
      return callerOf(key);
    },
    async callerOfKey(keyId) {
      if (keyId === adminCaller.keyId) return adminApiKey === null ? null : adminCaller;
      const key = await byId(keyId);
      return key === null || key.revokedAt !== null || key.hasExpired ? null : callerOf(key);
    },
  };
}

function callerOf(key: ApiKey): Caller {
  return { keyId: key.id, actor: key.id, scopes: new Set(key.scopes), workspaceId: key.workspaceId };
}

export function allows(caller: Caller, scope: Scope): boolean {
  return caller.scopes.has(scope) || caller.scopes.has('admin');
}

export function requireScope(caller: Caller, scope: Scope): void {
  if (!allows(caller, scope))
    throw refusal('scope_missing', `this needs a key with the scope ${scope}`, { scope });
}

/** Answers found in the last two seconds, and questions under way, are shared; failures and strangers are not kept. */
function makeCache<V>(find: (key: string) => Promise<V | null>): (key: string) => Promise<V | null> {
  const kept = new Map<string, { readonly at: number; readonly value: Promise<V | null> }>();
  return (key) => {
    const now = performance.now();
    const known = kept.get(key);
    if (known !== undefined && now - known.at < cacheMs) return known.value;
    const value = find(key);
    const entry = { at: now, value };
    kept.delete(key);
    kept.set(key, entry);
    if (kept.size > maxCached) kept.delete(kept.keys().next().value ?? '');
    const forget = (): void => {
      if (kept.get(key) === entry) kept.delete(key);
    };
    value.then((found) => found ?? forget(), forget);
    return value;
  };
}
