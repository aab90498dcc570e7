import type { LookupAddress } from 'node:dns';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { reasonNotReceived } from './failure-reasons.js';
import type { GuardedAgents } from './guarded-agents.js';

/** Whether a step on the way to a backend was taken; `detail` is what was found, or the cure. */
export type Reached = { readonly ok: boolean; readonly detail: string };

/** Resolves a URL's name through the address guard; a literal is checked as it stands. */
export function resolveName(
  agents: GuardedAgents,
  url: URL,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Reached> {
  const host = bareHost(url);
  return bounded(url.host, 'lookup', timeoutMs, signal, (done) => {
    if (isIP(host) !== 0) {
      const verdict = agents.guard.check(host);
      return done({ ok: verdict.ok, detail: verdict.ok ? host : verdict.reason });
    }
    agents.lookup(host, { all: true }, (error, addresses) => {
      if (error !== null) return done({ ok: false, detail: reasonNotReceived(url.host, error) });
      const found = (addresses as LookupAddress[]).map(({ address }) => address);
      done({ ok: true, detail: found.join(', ') });
    });
  });
}

/** Connects to where a URL points, with the TLS handshake of https, and hangs up without sending anything. */
export function connectOnce(
  agents: GuardedAgents,
  url: URL,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Reached> {
  const host = bareHost(url);
  const tls = url.protocol === 'https:';
  const port = url.port === '' ? (tls ? 443 : 80) : Number(url.port);
  return bounded(url.host, tls ? 'secureConnect' : 'connect', timeoutMs, signal, (done) => {
    const verdict = isIP(host) === 0 ? { ok: true as const } : agents.guard.check(host);
    if (!verdict.ok) return done({ ok: false, detail: verdict.reason });
    const target = { host, port, lookup: agents.lookup };
    const socket: Socket = tls
      ? connectTls({ ...target, ...(isIP(host) === 0 ? { servername: host } : {}) })
      : connectTcp(target);
    socket.once(tls ? 'secureConnect' : 'connect', () => {
      done({ ok: true, detail: `connected to ${socket.remoteAddress ?? host}, port ${port}` });
    });
    socket.once('error', (error) => done({ ok: false, detail: reasonNotReceived(url.host, error) }));
    return () => socket.destroy();
  });
}

/** Runs one step until it is done, time is up or we are stopped; `start` may return what ends it. */
function bounded(
  host: string,
  event: 'lookup' | 'connect' | 'secureConnect',
  timeoutMs: number,
  signal: AbortSignal,
  start: (done: (reached: Reached) => void) => (() => void) | void,
): Promise<Reached> {
  return new Promise((resolve) => {
    let stop: (() => void) | void = undefined;
    const done = (reached: Reached) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      stop?.();
      resolve(reached);
    };
    const onAbort = () => done({ ok: false, detail: reasonNotReceived(host, { code: 'ABORT_ERR' }) });
    const timer = setTimeout(() => {
      done({ ok: false, detail: reasonNotReceived(host, { code: 'ETIMEDOUT', event }) });
    }, timeoutMs);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort);
    stop = start(done);
  });
}

function bareHost(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}
