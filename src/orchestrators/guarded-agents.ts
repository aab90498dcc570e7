import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import { Agent as HttpAgent, type AgentOptions } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { AddressGuard } from './address-guard.js';

/** Code of the error that a connection to a disallowed address fails with; its message is the guard's reason. */
export const addressRefusedCode = 'ERR_ADDRESS_REFUSED';

/** Resolves a name to all its addresses; `dns.lookup` by default. */
export type Resolve = (
  hostname: string,
  options: { all: true; family?: number; hints?: number },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export type GuardedAgents = {
  readonly guard: AddressGuard;
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
  readonly lookup: LookupFunction;
  /** Whether a byte of a request may have left over this socket: it is connected and, with TLS, its handshake is done. */
  isEstablished(socket: Duplex): boolean;
  close(): void;
};

function refusal(reason: string): NodeJS.ErrnoException {
  return Object.assign(new Error(reason), { code: addressRefusedCode });
}

/**
 * A lookup that hands out checked addresses only. The connection is made to exactly what it returns, so a name whose
 * answer changes a moment later (rebinding) gains nothing. Answers that are refused are left out; when none is left
 * the lookup fails.
 */
export function guardedLookup(guard: AddressGuard, resolve: Resolve = systemLookup): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 'IPv4' ? 4 : options.family === 'IPv6' ? 6 : (options.family ?? 0);
    const wanted = {
      all: true as const,
      family,
      ...(options.hints === undefined ? {} : { hints: options.hints }),
    };
    resolve(hostname, wanted, (error, addresses) => {
      if (error !== null) return callback(error, [], 0);
      const verdicts = addresses.map((one) => ({ ...one, verdict: guard.check(one.address) }));
      const passed = verdicts.filter(({ verdict }) => verdict.ok);
      const [first] = passed;
      if (first === undefined) return callback(refusalOf(verdicts.map(({ verdict }) => verdict)), [], 0);
      if (options.all === true)
        return callback(
          null,
          passed.map(({ address, family }) => ({ address, family })),
        );
      return callback(null, first.address, first.family);
    });
  };
}

function refusalOf(verdicts: ReturnType<AddressGuard['check']>[]): NodeJS.ErrnoException {
  const denied = verdicts.find((verdict) => !verdict.ok);
  if (denied !== undefined && !denied.ok) return refusal(denied.reason);
  return Object.assign(new Error('the name has no address'), { code: 'ENOTFOUND' });
}

/** Idle sockets go before the 5 s after which most servers drop them: a reset on a reused one leaves us ignorant (I8). */
const idleSocketMs = 4000;

const agentOptions: AgentOptions = { keepAlive: true, timeout: idleSocketMs, maxFreeSockets: 64 };

type Connect = (options: ConnectOptions, callback: ConnectCallback) => Duplex | null | undefined;
type ConnectOptions = { host?: string | null; path?: string | null; lookup?: LookupFunction };
type ConnectCallback = (error: Error | null, socket: Duplex) => void;

/**
 * A pair of keep-alive agents which check where each connection goes: names in the lookup, literals before connecting,
 * as Node never calls the lookup for them. Closing destroys every socket.
 */
export function openGuardedAgents(guard: AddressGuard, resolve?: Resolve): GuardedAgents {
  const lookup = guardedLookup(guard, resolve);
  const established = new WeakSet<Duplex>();
  const http = new HttpAgent(agentOptions);
  const https = new HttpsAgent(agentOptions);

  const guarded = (connect: Connect, ready: 'connect' | 'secureConnect'): Connect => {
    return (options, callback) => {
      const host = (options.host ?? '').replace(/^\[|\]$/g, '');
      const verdict = isIP(host) === 0 ? { ok: true as const } : guard.check(host);
      if (typeof options.path === 'string') {
        return fail(callback, refusal('a backend is reached over TCP, not over a local socket'));
      }
      if (!verdict.ok) return fail(callback, refusal(verdict.reason));
      const socket = connect({ ...options, host, lookup }, callback);
      socket?.once(ready, () => established.add(socket));
      return socket;
    };
  };
  replaceConnect(http, (connect) => guarded(connect, 'connect'));
  replaceConnect(https, (connect) => guarded(connect, 'secureConnect'));

  return {
    guard,
    http,
    https,
    lookup,
    isEstablished: (socket) => established.has(socket),
    close: () => {
      http.destroy();
      https.destroy();
    },
  };
}

function fail(callback: ConnectCallback, error: Error): undefined {
  // The agent looks at the error first, and never at the socket beside it.
  callback(error, undefined as unknown as Socket);
}

/** Node documents `createConnection` as the place to override; its types leave it out. */
function replaceConnect(agent: HttpAgent | HttpsAgent, wrap: (connect: Connect) => Connect): void {
  const open = agent as unknown as { createConnection: Connect };
  open.createConnection = wrap(open.createConnection.bind(agent));
}
