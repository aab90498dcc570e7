/** A program that opens the embedded servers, says what it got, and does nothing until it is killed. */
import { openEmbedded } from '../../dist/src/embedded/open.js';

const [dataDir, packageDir] = process.argv.slice(2);
const { hostPid, databaseUrl, valkeyUrl } = await openEmbedded({
  dataDir,
  packageDir,
  valkeyServer: null,
  want: { postgres: true, valkey: true },
  log: () => undefined,
});
process.send({ hostPid, databaseUrl, valkeyUrl });
setInterval(() => undefined, 1000);
