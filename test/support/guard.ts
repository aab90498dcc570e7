import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  makeAddressGuard,
  type AddressGuard,
  type GuardSettings,
} from '../../src/orchestrators/address-guard.js';

/** The strict guard of production, loosened as a test says. */
export function guardWith(settings: Partial<GuardSettings> = {}): AddressGuard {
  return makeAddressGuard({ allow: [], deny: [], loopbackAllowed: false, privateDenied: true, ...settings });
}

/** The guard of the one-machine start: stub Orchestrators on 127.0.0.1 may be reached, nothing else that is private. */
export function loopbackGuard(): AddressGuard {
  return guardWith({ loopbackAllowed: true });
}

export type Canary = {
  readonly url: string;
  readonly port: number;
  /** TCP connections that were made to it: 0, or a promise is broken. */
  connections(): number;
  close(): Promise<void>;
};

/** Opens a server on 127.0.0.1 that nobody may ever reach, and counts who does. */
export async function openCanary(): Promise<Canary> {
  let count = 0;
  const server: Server = createServer((_request, response) => response.end('canary'));
  server.on('connection', () => (count += 1));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    connections: () => count,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
