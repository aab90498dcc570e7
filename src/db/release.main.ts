import { readConfigOrExit } from '../config.js';
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
  process.exitCode = 1;
}
