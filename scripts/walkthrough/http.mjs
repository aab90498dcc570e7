/** One HTTP request over node:http, with nothing added but what HTTP needs: what is sent is what was asked for. */
import { Agent, request } from 'node:http';

const agent = new Agent({ keepAlive: true, maxSockets: 200 });

/**
 * @param {string} url
 * @param {{ method?: string, headers?: Record<string, string | string[]>, body?: string | Buffer | null }} [options]
 * @returns {Promise<{ status: number, headers: Record<string, any>, rawHeaders: string[], text: string, json: any, ms: number }>}
 */
export function send(url, { method = 'GET', headers = {}, body = null } = {}) {
  const startedMs = performance.now();
  return new Promise((resolve, reject) => {
    const bytes = body === null ? null : Buffer.from(body);
    const framed = bytes !== null && headers['Transfer-Encoding'] === undefined;
    const sent = request(url, {
      method,
      agent,
      headers: { ...headers, ...(framed ? { 'Content-Length': String(bytes.length) } : {}) },
    });
    sent.setTimeout(90_000, () => sent.destroy(new Error('no answer within 90 s')));
    sent.on('error', reject);
    sent.on('response', (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        const { statusCode: status = 0, headers: got, rawHeaders } = answer;
        resolve({
          status,
          headers: got,
          rawHeaders,
          text,
          json: parse(text),
          ms: performance.now() - startedMs,
        });
      });
    });
    sent.end(bytes ?? undefined);
  });
}

/**
 * Opens a stream of server-sent events and reads on until it ends, `enough` says so, or the time is over.
 *
 * @param {string} url @param {Record<string, string>} headers
 * @param {{ enough?: (events: any[]) => boolean, timeoutMs?: number }} [options]
 */
export function readStream(url, headers, { enough = () => false, timeoutMs = 30_000 } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers });
    let text = '';
    const timer = setTimeout(() => finish('time over'), timeoutMs);
    const finish = (end) => {
      clearTimeout(timer);
      sent.destroy();
      resolve({ status, headers: got, end, text, events: eventsOf(text) });
    };
    let status = 0;
    let got = {};
    sent.on('error', (error) => (status === 0 ? reject(error) : finish('cut off')));
    sent.on('response', (answer) => {
      status = answer.statusCode ?? 0;
      got = answer.headers;
      answer.setEncoding('utf8');
      answer.on('data', (chunk) => {
        text += chunk;
        if (enough(eventsOf(text))) finish('enough was read');
      });
      answer.on('error', () => finish('cut off'));
      answer.on('end', () => finish('ended by the server'));
    });
    sent.end();
  });
}

function eventsOf(text) {
  return text
    .split('\n\n')
    .slice(0, -1)
    .map((frame) =>
      Object.fromEntries(
        frame.split('\n').map((line) => /^(\w*): ?(.*)$/.exec(line)?.slice(1) ?? ['', line]),
      ),
    )
    .filter((frame) => frame.data !== undefined)
    .map((frame) => ({ id: frame.id, event: frame.event, data: parse(frame.data) }));
}

export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
