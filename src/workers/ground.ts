import { openDb, type Db } from '../db/pool.js';
import type { ProcessName } from '../db/processes.js';
import { findBrokenPromises, waitForSchema } from '../db/ready.js';
import type { AdvanceLimits } from '../db/moves.js';
import { DispatcherError } from '../domain/errors.js';
import { parseEncryptionKeys, type EncryptionKey } from '../orchestrators/callback-token.js';
import type { Process } from '../process.js';
import { makeSealer, type Sealer } from '../seal.js';

/** What every process of the pipeline stands on. */
export type Ground = {
  readonly databaseUrl: string;
  readonly valkeyUrl: string;
  readonly db: Db;
  readonly keys: readonly EncryptionKey[];
  readonly sealer: Sealer;
  readonly limits: AdvanceLimits;
};

/**
 * Opens it and waits for a schema that is this build's; closes it with the process, after everything opened later.
 * A newer schema ends the process (78): an old build must not write rows that it does not understand.
 */
export async function openGround(
  proc: Process,
  name: ProcessName,
  pool: { readonly max: number },
): Promise<Ground> {
  const { config, logger } = proc;
  const { databaseUrl, valkeyUrl, encryptionKeys } = config;
  if (databaseUrl === null || valkeyUrl === null || encryptionKeys === null) {
    throw new DispatcherError('config_invalid', 'DATABASE_URL, VALKEY_URL and ENCRYPTION_KEY must be set');
  }
  const parsed = parseEncryptionKeys(encryptionKeys);
  if ('faults' in parsed) throw new DispatcherError('config_invalid', parsed.faults.join('; '));
  const db = openDb({ url: databaseUrl, name, max: pool.max });
  proc.onClose('database', () => db.close());
  const schema = await waitForSchema(db, proc.signal, logger);
  if (schema === 'newer') {
    const cure = 'the database has a newer schema than this build; deploy the newer build';
    proc.fail(new DispatcherError('schema_newer', cure), 78);
  }
  if (schema === 'current') await warnOfBrokenPromises(db, proc);
  return {
    databaseUrl,
    valkeyUrl,
    db,
    keys: parsed.keys,
    sealer: makeSealer(parsed.keys),
    limits: { silenceMs: config.reconcile.silenceMs, giveUpAfterMs: config.giveUpAfterMs },
  };
}

async function warnOfBrokenPromises(db: Db, proc: Process): Promise<void> {
  for (const fault of await findBrokenPromises(db)) {
    proc.logger.warn('database.weak', {
      fault,
      meaning: 'what was acknowledged can be lost when the server crashes',
    });
  }
}
