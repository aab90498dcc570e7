import { createHash, createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { DispatcherError } from '../domain/errors.js';

/** One key of ENCRYPTION_KEY; its id is not secret and stands in everything it has sealed or signed. */
export type EncryptionKey = { readonly id: string; readonly key: Buffer };

export type CallbackTokens = {
  /**
   * The token of an attempt, the same each time for the same key (I7), so it is never stored.
   * @param keyId the key that the attempt was begun with; the first one by default
   * @throws DispatcherError `encryption_key_unknown` when that key is in the list no more
   */
  sign(taskId: string, attempt: number, keyId?: string): { token: string; keyId: string };
  /** `malformed`: not a token of ours, or its key is gone; `other_attempt`: of our form, but not for this attempt. */
  verify(token: string, taskId: string, attempt: number): 'valid' | 'malformed' | 'other_attempt';
};

/**
 * Reads ENCRYPTION_KEY: comma-separated base64 of 32 bytes each. Every fault is told at once, by position: a part of a
 * key must not end up in a log.
 */
export function parseEncryptionKeys(
  text: string,
): { readonly keys: readonly EncryptionKey[] } | { readonly faults: readonly string[] } {
  const faults: string[] = [];
  const keys: EncryptionKey[] = [];
  text.split(',').forEach((entry, index) => {
    const encoded = entry.trim();
    const name = `key ${index + 1}`;
    if (!/^[A-Za-z0-9+/]{43}=?$/.test(encoded)) {
      return faults.push(`${name} is not base64 of 32 bytes; "openssl rand -base64 32" makes one`);
    }
    const key = Buffer.from(encoded, 'base64');
    const id = createHash('sha256').update(key).digest('hex').slice(0, 8);
    if (keys.some((known) => known.id === id)) return faults.push(`${name} is there twice`);
    return keys.push({ id, key });
  });
  return faults.length > 0 ? { faults } : { keys };
}

const tokenForm = /^cb1\.([0-9a-f]{8})\.([A-Za-z0-9_-]{43})$/;

/**
 * Tokens that open the callback door for exactly one attempt. They are checked without the database: an HMAC over the
 * attempt, made with a key derived from an encryption key, whose id the token names. The first key signs, all verify.
 */
export function makeCallbackTokens(keys: readonly EncryptionKey[]): CallbackTokens {
  const [first] = keys;
  if (first === undefined) throw new DispatcherError('config_invalid', 'ENCRYPTION_KEY has no key');
  const signers = new Map(keys.map(({ id, key }) => [id, deriveSigner(key)]));

  const macOf = (signer: Buffer, taskId: string, attempt: number): string =>
    createHmac('sha256', signer)
      .update(JSON.stringify([taskId, attempt]))
      .digest('base64url');

  return {
    sign: (taskId, attempt, keyId = first.id) => {
      const signer = signers.get(keyId);
      if (signer === undefined) {
        const message = `the key ${keyId} that signed this attempt is not in ENCRYPTION_KEY any more`;
        throw new DispatcherError('encryption_key_unknown', message);
      }
      return { token: `cb1.${keyId}.${macOf(signer, taskId, attempt)}`, keyId };
    },
    verify: (token, taskId, attempt) => {
      const [, keyId = '', mac = ''] = tokenForm.exec(token) ?? [];
      const signer = signers.get(keyId);
      if (signer === undefined) return 'malformed';
      // As text, not as bytes: the last character has two spare bits, and four spellings would be one mac.
      const expected = Buffer.from(macOf(signer, taskId, attempt));
      return timingSafeEqual(Buffer.from(mac), expected) ? 'valid' : 'other_attempt';
    },
  };
}

/** Signing must not use the very key that seals: what one leaks or proves must say nothing of the other. */
function deriveSigner(key: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), 'mosaic-dispatch callback token v1', 32));
}
