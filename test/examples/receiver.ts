import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Received = {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Record<string, any>; // oxlint-disable-line typescript/no-explicit-any -- whatever came
  readonly atMs: number;
  readonly answered: number;
};

export type Receiver = {
  readonly url: string;
  readonly received: Received[];
  /** What the next callbacks are answered with, one after another; after that 202. Status 0 cuts the connection. */
  readonly answers: { status: number; retryAfter?: string }[];
  close(): Promise<void>;
};

/** The dispatcher's side of the callback door, reduced to an answer and a notebook. */
export async function openReceiver(port = 0): Promise<Receiver> {
  const received: Received[] = [];
  const answers: Receiver['answers'] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { status, retryAfter } = answers.shift() ?? { status: 202 };
      const body = JSON.parse(Buffer.concat(chunks).toString()) as Received['body'];
      received.push({
        path: request.url ?? '',
        headers: request.headers,
        body,
        atMs: performance.now(),
        answered: status,
      });
      if (status === 0) return void request.socket.destroy();
      response.writeHead(status, retryAfter === undefined ? {} : { 'retry-after': retryAfter });
      response.end('{"accepted":true}');
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    answers,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
