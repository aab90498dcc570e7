import { makeAddressGuard } from './address-guard.js';
import type { Clients } from './client.js';
import { makeGatewayClient } from './gateway.js';
import { openHttp } from './http.js';

export type ClientSettings = {
  readonly allowCidrs: readonly string[];
  readonly denyCidrs: readonly string[];
};

/** Every protocol that this build speaks, one line each. They share one guarded way out. */
export function openClients(settings: ClientSettings): {
  readonly clients: Clients;
  readonly close: () => void;
} {
  // Processes of the Procfile always have a given database, so loopback and private ranges want to be allowed.
  const guard = makeAddressGuard({
    allow: settings.allowCidrs,
    deny: settings.denyCidrs,
    loopbackAllowed: false,
    privateDenied: true,
  });
  const http = openHttp({ guard });
  const clients: Clients = { gateway: makeGatewayClient({ http, now: () => new Date() }) };
  return { clients, close: () => http.close() };
}
