import { rmSync } from 'node:fs';

// oxlint-disable-next-line import/no-default-export -- Jest asks for one
export default async function tearDown() {
  const { testServers } = globalThis;
  if (testServers === undefined) return;
  await testServers.servers.close();
  rmSync(testServers.dataDir, { recursive: true, force: true });
}
