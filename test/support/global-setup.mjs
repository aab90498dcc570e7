/**
 * One private Postgres and one private Valkey for the whole run, in a directory that goes away with it: tests need no
 * server, and touch none but these, whatever DATABASE_URL and VALKEY_URL say. Plain JavaScript, because Jest does not
 * load a global setup in TypeScript as an ES module.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildIfStale, root } from '../../scripts/build.mjs';

// oxlint-disable-next-line import/no-default-export -- Jest asks for one
export default async function setUp() {
  buildIfStale({ tolerateTypeErrors: true });
  const { openEmbedded } = await import('../../dist/src/embedded/open.js');
  const dataDir = mkdtempSync(join(tmpdir(), 'mosaic-dispatch-test-'));
  try {
    const servers = await openEmbedded({
      dataDir,
      valkeyServer: null,
      packageDir: join(root, 'node_modules', '.cache', 'valkey-package'),
      want: { postgres: true, valkey: true },
      log: (line) => process.stderr.write(`${line}\n`),
    });
    globalThis.testServers = { servers, dataDir };
    // Workers are forked after this and inherit the environment.
    process.env.TEST_DATABASE_URL = servers.databaseUrl;
    process.env.TEST_VALKEY_URL = servers.valkeyUrl;
    process.env.TEST_DATA_DIR = dataDir;
  } catch (error) {
    rmSync(dataDir, { recursive: true, force: true });
    throw error;
  }
  for (const name of ['DATABASE_URL', 'VALKEY_URL', 'ADMIN_API_KEY', 'ENCRYPTION_KEY'])
    delete process.env[name];
}
