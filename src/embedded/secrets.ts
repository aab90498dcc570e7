import { randomBytes } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type KeptSecret = {
  readonly value: string;
  /** True for the start that made it: the only one that may print it. */
  readonly made: boolean;
};

/**
 * Reads a secret from `dataDir`, or makes it once and keeps it there with mode 600.
 * It is written whole under another name and then linked: a crash in between leaves no empty secret behind,
 * and of two starts at once both get the value of the one that linked first.
 */
export function keepSecret(dataDir: string, name: string, make: () => string): KeptSecret {
  const file = join(dataDir, name);
  const known = readSecret(file);
  if (known !== null) return { value: known, made: false };
  mkdirSync(dataDir, { recursive: true });
  const value = make();
  const draft = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(draft, `${value}\n`, { mode: 0o600, flag: 'wx' });
  try {
    linkSync(draft, file);
    return { value, made: true };
  } catch (error) {
    const other = readSecret(file);
    if (other === null) throw error;
    return { value: other, made: false };
  } finally {
    unlinkSync(draft);
  }
}

function readSecret(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** The key with every scope that an operator starts with. */
export const keepAdminApiKey = (dataDir: string): KeptSecret =>
  keepSecret(dataDir, 'admin-api-key', () => `mdk_${randomBytes(32).toString('base64url')}`);

/** The key that seals stored credentials: losing it loses them, so it is kept beside the data it seals. */
export const keepEncryptionKey = (dataDir: string): KeptSecret =>
  keepSecret(dataDir, 'encryption-key', () => randomBytes(32).toString('base64'));

export const keepPostgresPassword = (dataDir: string): KeptSecret =>
  keepSecret(dataDir, 'postgres-password', () => randomBytes(24).toString('base64url'));
