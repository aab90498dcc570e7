import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Caller } from './auth.js';
import { refusal } from './problems.js';

/** The key of a create, bare or as a quoted string (IETF draft 07): `"k"` and `k` are one key. */
export function idempotencyKeyOf(req: IncomingMessage): string | null {
  const header = req.headers['idempotency-key'];
  if (header === undefined) return null;
  const text = Array.isArray(header) ? header.join(', ') : header;
  const quoted = /^"((?:[^"\\]|\\["\\])*)"$/.exec(text);
  const key = quoted === null ? text : (quoted[1] ?? '').replaceAll(/\\(["\\])/g, '$1');
  if (!/^[\x20-\x7e]{1,255}$/.test(key)) {
    throw refusal('idempotency_key_malformed', 'an Idempotency-Key has 1 to 255 printable ASCII characters');
  }
  return key;
}

/** Whose the key is: two workspaces, or two API keys without one, may use the same words. */
export function idempotencyScopeOf(caller: Caller): string {
  return caller.workspaceId === null ? `key:${caller.keyId}` : `workspace:${caller.workspaceId}`;
}

/** One hash for one meaning: the order of our members does not matter, the text of the payloads does. */
export function bodyHash(input: unknown): string {
  return createHash('sha256').update(canonical(input)).digest('base64url');
}

/** Recursion is bounded: the scanner has refused deep bodies, and payloads are texts here. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`;
}
