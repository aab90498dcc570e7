/** What the global setup started for this run. */
export type TestServers = {
  readonly databaseUrl: string;
  readonly valkeyUrl: string;
  readonly dataDir: string;
};

/** Throws where a test file was run without the project's Jest configuration. */
export function findTestServers(): TestServers {
  const { TEST_DATABASE_URL, TEST_VALKEY_URL, TEST_DATA_DIR } = process.env;
  if (TEST_DATABASE_URL === undefined || TEST_VALKEY_URL === undefined || TEST_DATA_DIR === undefined) {
    throw new Error('the tests have no servers: run them with npm test, which starts its own');
  }
  return { databaseUrl: TEST_DATABASE_URL, valkeyUrl: TEST_VALKEY_URL, dataDir: TEST_DATA_DIR };
}
