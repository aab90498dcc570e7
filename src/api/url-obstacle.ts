import { isIP } from 'node:net';
import type { AddressGuard } from '../orchestrators/address-guard.js';

/**
 * Why a literal address in a URL would be refused when the connection is made, told already when it is
 * configured; names are judged at the connection, by what they resolve to (P16). The URL parser has turned
 * every spelling (127.1, 0x7f.1, fullwidth digits) into the plain one.
 */
export function makeUrlObstacle(guard: AddressGuard): (url: string) => string | null {
  return (url) => {
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
    if (isIP(host) === 0) return null;
    const verdict = guard.check(host);
    return verdict.ok ? null : verdict.reason;
  };
}
