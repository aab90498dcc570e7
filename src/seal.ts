import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { DispatcherError } from './domain/errors.js';

/** As `parseEncryptionKeys` reads them; the first seals, all open. */
type SealingKey = { readonly id: string; readonly key: Buffer };

export type Sealer = {
  /**
   * Seals a credential as `v1.<key id>.<nonce>.<ciphertext and tag>`, different each time.
   * @param aad row id and column: what was sealed for one place cannot be moved to another
   */
  seal(plain: string, aad: string): string;
  /** @throws DispatcherError `credential_unreadable` when the key is unknown or the text or its place was changed */
  open(sealed: string, aad: string): string;
  /** Whether a sealed text was made with the first key; if not, it is to be sealed anew before the old one goes. */
  isCurrent(sealed: string): boolean;
};

const nonceBytes = 12;
const tagBytes = 16;

/** Promise P17: AES-256-GCM with a random nonce for each text; no credential is readable where it is stored. */
export function makeSealer(keys: readonly SealingKey[]): Sealer {
  const [first] = keys;
  if (first === undefined) throw new DispatcherError('config_invalid', 'ENCRYPTION_KEY has no key');

  return {
    seal: (plain, aad) => {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', first.key, nonce).setAAD(Buffer.from(aad));
      const sealed = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return `v1.${first.id}.${nonce.toString('base64url')}.${sealed.toString('base64url')}`;
    },
    open: (text, aad) => {
      const [version, keyId = '', nonceText = '', sealedText = '', ...rest] = text.split('.');
      const nonce = Buffer.from(nonceText, 'base64url');
      const sealed = Buffer.from(sealedText, 'base64url');
      const exact = nonce.toString('base64url') === nonceText && sealed.toString('base64url') === sealedText;
      const sound = version === 'v1' && rest.length === 0 && nonce.length === nonceBytes;
      if (!exact || !sound || sealed.length < tagBytes) throw unreadable('it is not a sealed text');
      const key = keys.find((one) => one.id === keyId)?.key;
      if (key === undefined) {
        throw unreadable(
          'the key it was sealed with is not in ENCRYPTION_KEY; put that key back, as a later entry',
        );
      }
      try {
        const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes })
          .setAAD(Buffer.from(aad))
          .setAuthTag(sealed.subarray(-tagBytes));
        const plain = Buffer.concat([decipher.update(sealed.subarray(0, -tagBytes)), decipher.final()]);
        return plain.toString('utf8');
      } catch (cause) {
        throw unreadable('it was changed, or belongs to another row', cause);
      }
    },
    isCurrent: (text) => text.startsWith(`v1.${first.id}.`),
  };
}

function unreadable(why: string, cause?: unknown): DispatcherError {
  const message = `a stored credential cannot be opened: ${why}; or store the credential anew`;
  return new DispatcherError('credential_unreadable', message, cause === undefined ? {} : { cause });
}
