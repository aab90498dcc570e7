import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { hashOf } from './auth.js';

/** What a browser gets instead of the key: a signed note of whose key it was, good for a while. */
export type Sessions = {
  issue(keyId: string): string;
  /** The key id of a good, fresh session in a Cookie header, else null. The key itself must still be good. */
  keyIdOf(cookieHeader: string | undefined): string | null;
};

export const sessionCookie = 'mosaic_session';
export const sessionSeconds = 12 * 60 * 60;
const form = /^s1\.([A-Za-z0-9_]{1,64})\.(\d{1,12})\.([A-Za-z0-9_-]{43})$/;

/**
 * @param keys of ENCRYPTION_KEY: the first signs, all verify
 * @param adminApiKey the configured key: another one ends the sessions that were opened with it
 */
export function makeSessions(options: {
  readonly keys: readonly Buffer[];
  readonly adminApiKey: string | null;
  readonly now: () => number;
}): Sessions {
  const signers = options.keys.map((key) =>
    Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), 'mosaic-dispatch session v1', 32)),
  );
  const adminMark = options.adminApiKey === null ? '' : hashOf(options.adminApiKey);
  const macOf = (signer: Buffer, keyId: string, until: string): string =>
    createHmac('sha256', signer)
      .update(JSON.stringify([keyId, until, keyId === 'admin' ? adminMark : '']))
      .digest('base64url');

  return {
    issue(keyId) {
      const [signer] = signers;
      if (signer === undefined) throw new Error('there is no key to sign sessions with');
      const until = String(Math.floor(options.now() / 1000) + sessionSeconds);
      return `s1.${keyId}.${until}.${macOf(signer, keyId, until)}`;
    },
    keyIdOf(cookieHeader) {
      const text = valueOf(cookieHeader ?? '', sessionCookie);
      const [, keyId = '', until = '', mac = ''] = form.exec(text ?? '') ?? [];
      if (keyId === '' || Number(until) * 1000 <= options.now()) return null;
      const given = Buffer.from(mac);
      const isGood = signers.some((signer) =>
        timingSafeEqual(given, Buffer.from(macOf(signer, keyId, until))),
      );
      return isGood ? keyId : null;
    },
  };
}

function valueOf(header: string, name: string): string | null {
  const pair = header.split(';').find((part) => part.trim().startsWith(`${name}=`));
  return pair === undefined ? null : pair.trim().slice(name.length + 1);
}
