/**
 * What our own part of a body looks like. Payload members are kept as the text that came: parsing and
 * printing would change numbers, doubled names and lone surrogates, and the contract promises the same bytes.
 */
export type Shape = {
  /** Members of the envelope whose values are payloads. */
  readonly payloads: readonly string[];
  /** Members whose objects are ours; absent: every one that is no payload. The rest is the sender's data. */
  readonly own?: readonly string[];
  /** The member whose array holds the envelopes (a batch); depth is then counted from each item's brace. */
  readonly items?: string;
};

export type ScanFault = {
  readonly kind: 'syntax' | 'depth' | 'doubled';
  /** Offset in UTF-16 units. */
  readonly at: number;
  readonly detail: string;
};

export type Range = { readonly start: number; readonly end: number };

/** One envelope: where it stands, where its payloads stand, and what spoils it (and only it). */
export type Envelope = Range & {
  readonly payloads: ReadonlyMap<string, Range>;
  readonly fault: ScanFault | null;
};

/** `root` is the body itself; `items` are the envelopes of a batch, in order. A fault of the whole is a refusal. */
export type Scan =
  | { readonly ok: true; readonly root: Envelope; readonly items: readonly Envelope[] }
  | { readonly ok: false; readonly fault: ScanFault };

export const maxDepth = 32;

type Draft = { start: number; end: number; payloads: Map<string, Range>; fault: ScanFault | null };

/** One open object or array. `keys` is kept only where a doubled name is a fault. */
type Frame = {
  readonly isObject: boolean;
  readonly keys: Set<string> | null;
  /** The envelope that this is the outermost brace of. */
  readonly envelope: Draft | null;
  readonly holdsItems: boolean;
};

type Cursor = { at: number };

const quote = 0x22;
const backslash = 0x5c;

/**
 * Reads JSON text once, without recursion: is it well-formed, is it too deep, is a name doubled in one of our
 * own objects, and where are the payloads. The order of checks is that of the text.
 */
export function scanJson(text: string, shape: Shape, depthLimit = maxDepth): Scan {
  const cursor: Cursor = { at: 0 };
  const root = draftAt(0);
  const items: Draft[] = [];
  const frames: Frame[] = [];
  /** The envelope being read and the number of frames outside it. */
  let envelope = root;
  let outside = 0;
  /** Above 0: inside a payload or the sender's own data, which began at this many frames. */
  let dataFrom = 0;
  let member = '';
  let payloadStart = -1;

  const spoil = (kind: ScanFault['kind'], detail: string): ScanFault | null => {
    const fault: ScanFault = { kind, at: cursor.at, detail };
    if (envelope === root) return fault;
    envelope.fault ??= fault;
    return null;
  };
  const syntax = (): Scan => ({
    ok: false,
    fault: { kind: 'syntax', at: cursor.at, detail: at(text, cursor) },
  });

  for (;;) {
    // A value begins here.
    skipBlank(text, cursor);
    const frame = frames[frames.length - 1];
    const start = cursor.at;
    const isMember = frame?.isObject === true && frame.envelope === envelope && dataFrom === 0;
    if (isMember && !isRootOfBatch(shape, envelope, root)) {
      if (shape.payloads.includes(member)) payloadStart = start;
      if (payloadStart >= 0 || shape.own?.includes(member) === false) dataFrom = frames.length;
    }
    const code = text.charCodeAt(start);
    if (code === 0x7b || code === 0x5b) {
      const isItem = frame?.holdsItems === true && code === 0x7b && frames.length === 2;
      if (isItem) {
        envelope = draftAt(start);
        items.push(envelope);
        outside = frames.length;
      } else if (frame?.holdsItems === true && frames.length === 2) {
        items.push({ ...draftAt(start), fault: null });
      }
      frames.push({
        isObject: code === 0x7b,
        keys: code === 0x7b && dataFrom === 0 ? new Set() : null,
        envelope: isItem || frames.length === 0 ? envelope : null,
        holdsItems:
          code === 0x5b && frames.length === 1 && frame?.isObject === true && member === shape.items,
      });
      cursor.at += 1;
      if (frames.length - outside > depthLimit && envelope.fault === null) {
        const fault = spoil('depth', `more than ${depthLimit} levels deep`);
        if (fault !== null) return { ok: false, fault };
      }
      skipBlank(text, cursor);
      if (text.charCodeAt(cursor.at) !== (code === 0x7b ? 0x7d : 0x5d)) {
        if (code === 0x5b) continue;
        const fault = readMember();
        if (fault !== undefined) return fault;
        continue;
      }
    } else {
      if (!skipScalar(text, cursor)) return syntax();
      if (frame?.holdsItems === true && frames.length === 2) items.push(finished(start, cursor.at));
    }

    // A value has ended: close what closes with it, then find the next one.
    for (;;) {
      if (dataFrom > 0 && frames.length === dataFrom) {
        if (payloadStart >= 0) envelope.payloads.set(member, { start: payloadStart, end: cursor.at });
        dataFrom = 0;
        payloadStart = -1;
      }
      const open = frames[frames.length - 1];
      skipBlank(text, cursor);
      if (open === undefined) {
        if (cursor.at !== text.length) return syntax();
        return { ok: true, root, items };
      }
      const next = text.charCodeAt(cursor.at);
      if (next === 0x2c) {
        cursor.at += 1;
        if (!open.isObject) break;
        skipBlank(text, cursor);
        const fault = readMember();
        if (fault !== undefined) return fault;
        break;
      }
      if (next !== (open.isObject ? 0x7d : 0x5d)) return syntax();
      cursor.at += 1;
      frames.pop();
      if (open.envelope !== null) {
        open.envelope.end = cursor.at;
        envelope = root;
        outside = 0;
      } else if (frames.length === 2 && frames[1]?.holdsItems === true) {
        const item = items[items.length - 1];
        if (item !== undefined) item.end = cursor.at;
      }
    }
  }
}
