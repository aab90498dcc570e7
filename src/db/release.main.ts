import { readConfigOrExit } from '../config.js';
import { DispatcherError } from '../domain/errors.js';
import { makeLogger } from '../logger.js';
import { migrate } from './migrate.js';

// The release step of a deployment: brings the schema up to date, and ends.
const config = readConfigOrExit({ servers: true });
const logger = makeLogger({ level: config.logLevel, process: 'release' });
try {
  const applied = await migrate(config.databaseUrl ?? '');
  logger.info('schema.migrated', { applied });
} catch (error) {
  logger.error('schema.failed', { error });
  // 78 as in every other process: starting it again would not cure it.
  process.exitCode = error instanceof DispatcherError && error.code === 'schema_newer' ? 78 : 1;
}
