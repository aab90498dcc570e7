import type { IncomingMessage } from 'node:http';
import { scanJson, type Envelope, type Shape } from '../domain/json-scan.js';
import { refusal } from './problems.js';

export const mebibyte = 1024 * 1024;
export const bodyLimits = { plain: mebibyte, batch: 16 * mebibyte, callback: 2 * mebibyte } as const;

/** A payload as the text that came; it is never parsed, so that the same bytes go out again. */
export type RawJson = { readonly rawJson: string };

/** One of our own objects: its members, payloads among them as `RawJson`. */
export type Input = Readonly<Record<string, unknown>>;

/** An envelope read: the input, or the refusal of this envelope alone. */
export type Read =
  { readonly ok: true; readonly input: unknown } | { readonly ok: false; readonly error: Error };

export function isRawJson(value: unknown): value is RawJson {
  return (
    typeof value === 'object' && value !== null && 'rawJson' in value && typeof value.rawJson === 'string'
  );
}

/** Does the request announce a body at all? */
export function hasBody(req: IncomingMessage): boolean {
  const length = req.headers['content-length'];
  return req.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** The body's bytes, its media type and size checked. */
export async function readBytes(req: IncomingMessage, limit: number): Promise<Buffer> {
  checkMediaType(req);
  if (Number(req.headers['content-length'] ?? 0) > limit) throw tooLarge(limit);
  return new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (act: () => void): void => {
      req.off('data', take).off('end', finish).off('close', cutOff).off('error', cutOff);
      act();
    };
    const take = (chunk: Buffer): void => {
      size += chunk.byteLength;
      if (size > limit) settle(() => reject(tooLarge(limit)));
      else chunks.push(chunk);
    };
    const finish = (): void =>
      settle(() => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    const cutOff = (): void => {
      req.on('error', () => undefined);
      settle(() => reject(refusal('malformed_request', 'the body was cut off')));
    };
    req.on('data', take).on('end', finish).on('close', cutOff).on('error', cutOff);
  });
}

function tooLarge(limit: number): Error {
  return refusal('payload_too_large', `the body may have ${limit} bytes at most`, { limitBytes: limit });
}

const jsonType = /^application\/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?$/i;

function checkMediaType(req: IncomingMessage): void {
  const type = req.headers['content-type'];
  if (type === undefined || !jsonType.test(type)) {
    throw refusal('unsupported_media_type', 'send Content-Type: application/json, in UTF-8');
  }
  const encoding = req.headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw refusal('unsupported_media_type', 'send the body without Content-Encoding');
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export function textOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw refusal('malformed_json', 'the body is not valid UTF-8');
  }
}

/** Parses one of our own objects out of a body's text; throws what is wrong with the text. */
export function parseEnvelope(text: string, shape: Shape): unknown {
  const scan = scanJson(text, shape);
  if (!scan.ok) throw faultError(scan.fault);
  return inputOf(text, scan.root);
}

/** The envelopes of a batch; each has its own verdict. `items` is null where there is no such array. */
export function parseBatch(text: string, shape: Shape): { root: unknown; items: readonly Read[] | null } {
  const scan = scanJson(text, shape);
  if (!scan.ok) throw faultError(scan.fault);
  const { root, items } = scan;
  if (items === null) return { root: inputOf(text, root), items: null };
  const member = shape.items?.member ?? '';
  const first = items[0];
  const last = items[items.length - 1];
  // The array is read item by item: what stands around it is parsed with the items left out.
  const around = first && last ? text.slice(root.start, first.start) + text.slice(last.end, root.end) : text;
  return {
    root: { ...(JSON.parse(around) as Input), [member]: [] },
    items: items.map((item) =>
      item.fault === null
        ? { ok: true, input: inputOf(text, item) }
        : { ok: false, error: faultError(item.fault) },
    ),
  };
}

function faultError(fault: NonNullable<Envelope['fault']>): Error {
  if (fault.kind === 'depth') return refusal('json_too_deep', `the body is ${fault.detail}`);
  return refusal('malformed_json', fault.detail);
}

/** Payloads are cut out before parsing, and put back as the text they were. */
function inputOf(text: string, envelope: Envelope): unknown {
  let head = '';
  let from = envelope.start;
  for (const range of envelope.payloads.values()) {
    head += `${text.slice(from, range.start)}null`;
    from = range.end;
  }
  const input = JSON.parse(head + text.slice(from, envelope.end)) as unknown;
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return input;
  const members = input as Record<string, unknown>;
  for (const [name, range] of envelope.payloads) {
    members[name] = { rawJson: text.slice(range.start, range.end) } satisfies RawJson;
  }
  return members;
}
