import { randomBytes } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { DispatcherError } from '../domain/errors.js';
import { makeId } from '../domain/ids.js';
import { problemOf, refusal } from './problems.js';

/** Limits against slow and greedy clients; node's own defaults are minutes. */
const limits = { headersTimeout: 10_000, requestTimeout: 30_000, connectionsCheckingInterval: 1000 };
const maxHeaderBytes = 16 * 1024;
const maxConnections = 2000;
/** Longer than load balancers keep idle connections, so that they never reuse one that we are closing. */
const keepAliveTimeoutMs = 65_000;

export type HttpServer = {
  readonly port: number;
  /** Takes nothing new, lets what is under way end, and cuts it off after `timeoutMs`. */
  close(timeoutMs: number): Promise<void>;
};

/** @throws DispatcherError `port_taken`, naming the variable that moves it */
export async function openHttpServer(
  listener: RequestListener,
  address: { readonly host: string; readonly port: number },
): Promise<HttpServer> {
  // The Host header is checked with the others, so that its absence is answered like any fault.
  const server = createServer(
    { ...limits, maxHeaderSize: maxHeaderBytes, requireHostHeader: false },
    listener,
  );
  server.maxConnections = maxConnections;
  server.keepAliveTimeout = keepAliveTimeoutMs;
  server.on('clientError', answerBroken);
  await listen(server, address);
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
    close: (timeoutMs) =>
      new Promise((resolve) => {
        // An answer that was under way leaves its connection idle only later: node closes those at once alone.
        const idle = setInterval(() => server.closeIdleConnections(), 50);
        const cut = setTimeout(() => server.closeAllConnections(), timeoutMs);
        server.close(() => {
          clearInterval(idle);
          clearTimeout(cut);
          resolve();
        });
      }),
  };
}

function listen(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === 'EADDRINUSE'
          ? new DispatcherError('port_taken', `port ${port} of ${host} is taken; set PORT to another`)
          : error;
      reject(reason);
    });
    server.listen(port, host, resolve);
  });
}

/** What node's parser refuses never becomes a request; it is answered in the same form as everything else. */
function answerBroken(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const requestId = makeId('req', Date.now(), randomBytes(10));
  const { problem } = problemOf(brokenAs(error.code), requestId);
  const body = JSON.stringify(problem);
  const lines = [
    `HTTP/1.1 ${problem.status} ${problem.title}`,
    'Content-Type: application/problem+json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    'X-Content-Type-Options: nosniff',
    'Cache-Control: no-store',
    'Connection: close',
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`);
}

function brokenAs(code: string | undefined): DispatcherError {
  if (code === 'HPE_HEADER_OVERFLOW') {
    return refusal('headers_too_large', `request line and headers may have ${maxHeaderBytes} bytes`);
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    return refusal('request_timeout', 'headers must arrive within 10 s, the whole request within 30 s');
  }
  return refusal('malformed_request', 'this is not a well-formed HTTP/1.1 request');
}
