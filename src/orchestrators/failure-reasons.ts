import { addressRefusedCode } from './guarded-agents.js';

/** The parts of an error that are safe to show: its code, and which of got's clocks ran out. */
type Failure = { readonly code: string | null; readonly timeout: string | null; readonly message: string };

function read(error: unknown): Failure {
  const { code, event, message } = (error ?? {}) as { code?: unknown; event?: unknown; message?: unknown };
  return {
    code: typeof code === 'string' ? code : null,
    timeout: code === 'ETIMEDOUT' && typeof event === 'string' ? event : null,
    message: typeof message === 'string' ? message : '',
  };
}

const beforeSending: Readonly<Record<string, string>> = {
  ENOTFOUND: 'its name could not be resolved',
  EAI_AGAIN: 'its name could not be resolved just now',
  ECONNREFUSED: 'it refused the connection',
  EHOSTUNREACH: 'there is no route to it',
  ENETUNREACH: 'there is no route to its network',
  ETIMEDOUT: 'no connection came about in time',
  ECONNRESET: 'it reset the connection before the request was sent',
  EMFILE: 'this process has no file descriptor left',
  ERR_INVALID_CHAR: 'the credential has characters that no header may carry',
};

/**
 * Why no byte of a request was received, in words made here. An error's own message may quote the URL, a header or a
 * certificate that the backend made up; only the guard's sentences, which are ours, pass through.
 */
export function reasonNotReceived(host: string, error: unknown): string {
  const { code, timeout, message } = read(error);
  if (code === addressRefusedCode) return `${host} was not connected to: ${message}`;
  if (code === 'ABORT_ERR') return `${host} was not connected to: we were stopped first`;
  if (timeout === 'lookup') return `${host} could not be reached: its name was not resolved in time`;
  if (timeout === 'secureConnect') return `${host} could not be reached: the TLS handshake took too long`;
  const known = code === null ? undefined : beforeSending[code];
  if (known !== undefined) return `${host} could not be reached: ${known}`;
  return `${host} could not be reached: ${isTls(code) ? 'the TLS handshake failed' : 'the connection failed'}${suffix(code)}`;
}

/** Why there is no clear answer to a request of which at least a byte may have been received. */
export function reasonUnknown(host: string, error: unknown, timeoutMs: number): string {
  const { code, timeout } = read(error);
  if (timeout !== null) return `${host} gave no whole answer in time (bound ${timeoutMs} ms)`;
  if (code === 'ABORT_ERR') return `we were stopped before ${host} had answered`;
  if (code === 'ECONNRESET' || code === 'EPIPE') return `${host} closed the connection without an answer`;
  if (code === 'HPE_HEADER_OVERFLOW') return `${host} answered with more than 16 KiB of headers`;
  if (code?.startsWith('HPE_')) return `${host} answered with something that is not HTTP (${code})`;
  return `the connection to ${host} broke before an answer${suffix(code)}`;
}

function isTls(code: string | null): boolean {
  return code !== null && /CERT|SSL|TLS|SELF_SIGNED|UNABLE_TO_|EPROTO/.test(code);
}

function suffix(code: string | null): string {
  return code !== null && /^[A-Z0-9_]{1,60}$/.test(code) ? ` (${code})` : '';
}
