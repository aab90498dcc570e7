import { skipBlank, skipScalar, stringEnd } from './json-lex.js';

/**
 * What our own part of a body looks like. Payload members are kept as the text that came: parsing and
 * printing would change numbers, doubled names and lone surrogates, and the same bytes are promised back.
 */
export type Shape = {
  /** Members of the envelope whose values are payloads. */
  readonly payloads: readonly string[];
  /** Members whose objects are ours; absent: every one that is no payload. The rest is the sender's data. */
  readonly own?: readonly string[];
  /** The member whose array holds the envelopes (a batch), and their shape. */
  readonly items?: { readonly member: string; readonly shape: Shape };
};

export type ScanFault = {
  readonly kind: 'syntax' | 'depth' | 'doubled';
  /** Offset in UTF-16 units. */
  readonly at: number;
  readonly detail: string;
};

export type TextRange = { readonly start: number; readonly end: number };

/** One envelope: where it and its payloads stand in the text, and what spoils it. */
export type Envelope = TextRange & {
  readonly payloads: ReadonlyMap<string, TextRange>;
  readonly fault: ScanFault | null;
};

/** `items` are the envelopes of a batch, in order: the fault of one spoils no other. */
export type Scan =
  | { readonly ok: true; readonly root: Envelope; readonly items: readonly Envelope[] | null }
  | { readonly ok: false; readonly fault: ScanFault };

/** Counted from the envelope's own outermost brace. */
export const maxDepth = 32;

const comma = 0x2c;
const openBrace = 0x7b;
const closeBrace = 0x7d;
const openBracket = 0x5b;
const closeBracket = 0x5d;

/** One open object or array; `names` only where a doubled one is a fault. */
type Frame = { readonly isObject: boolean; readonly names: Set<string> | null };

type Walk = {
  readonly text: string;
  readonly shape: Shape;
  readonly start: number;
  readonly frames: Frame[];
  readonly payloads: Map<string, TextRange>;
  at: number;
  fault: ScanFault | null;
  /** The member of the envelope that is being read. */
  member: string;
  /** Where a value began that is not ours to judge, or -1; it ends when one frame is open again. */
  dataStart: number;
  items: Envelope[] | null;
};

/**
 * Reads a JSON text once and without recursion: is it well formed, is it too deep, is a name doubled in one
 * of our own objects, and where are the payloads.
 */
export function scanJson(text: string, shape: Shape): Scan {
  const root = scanEnvelope(text, skipBlank(text, 0), shape, false);
  if (root.fault !== null) return { ok: false, fault: root.fault };
  const end = skipBlank(text, root.at);
  if (end !== text.length) return { ok: false, fault: syntaxFault(text, end) };
  return { ok: true, root: envelopeOf(root), items: root.items };
}

/** @param keepGoing a spoiled item of a batch is read to its end, for the next one stands behind it */
function scanEnvelope(text: string, start: number, shape: Shape, keepGoing: boolean): Walk {
  const walk: Walk = {
    text,
    shape,
    start,
    at: start,
    frames: [],
    payloads: new Map(),
    fault: null,
    member: '',
    dataStart: -1,
    items: null,
  };
  for (;;) {
    let step = beginValue(walk);
    while (step === 'ended') step = endValue(walk);
    if (step === 'over') return walk;
    if (step === 'bad') walk.fault = syntaxFault(text, walk.at);
    if (walk.fault !== null && (!keepGoing || walk.fault.kind === 'syntax')) return walk;
  }
}

/** `begun`: another value follows; `ended`: a value is complete; `over`: the envelope is. */
type Step = 'begun' | 'ended' | 'over' | 'bad';

function beginValue(walk: Walk): Step {
  const { text, shape, frames } = walk;
  walk.at = skipBlank(text, walk.at);
  const code = text.charCodeAt(walk.at);
  if (frames.length === 1 && frames[0]?.isObject === true) {
    if (walk.member === shape.items?.member && code === openBracket)
      return scanItems(walk, shape.items.shape);
    if (isData(shape, walk.member)) walk.dataStart = walk.at;
  }
  if (code === openBrace || code === openBracket) return enter(walk, code === openBrace);
  const end = skipScalar(text, walk.at);
  if (end < 0) return 'bad';
  walk.at = end;
  return 'ended';
}

function isData(shape: Shape, member: string): boolean {
  return shape.payloads.includes(member) || shape.own?.includes(member) === false;
}

function enter(walk: Walk, isObject: boolean): Step {
  const { text, frames } = walk;
  frames.push({ isObject, names: isObject && walk.dataStart < 0 ? new Set() : null });
  if (frames.length > maxDepth) spoil(walk, 'depth', `nested more than ${maxDepth} levels deep`);
  walk.at = skipBlank(text, walk.at + 1);
  if (text.charCodeAt(walk.at) === (isObject ? closeBrace : closeBracket)) {
    walk.at += 1;
    frames.pop();
    return 'ended';
  }
  return isObject ? readName(walk) : 'begun';
}

/** A value is complete: note it if it was a payload, then see what follows it. */
function endValue(walk: Walk): Step {
  const { text, frames } = walk;
  if (walk.dataStart >= 0 && frames.length === 1) {
    if (walk.shape.payloads.includes(walk.member)) {
      walk.payloads.set(walk.member, { start: walk.dataStart, end: walk.at });
    }
    walk.dataStart = -1;
  }
  const frame = frames[frames.length - 1];
  if (frame === undefined) return 'over';
  walk.at = skipBlank(text, walk.at);
  const code = text.charCodeAt(walk.at);
  if (code === comma) {
    walk.at += 1;
    return frame.isObject ? readName(walk) : 'begun';
  }
  if (code !== (frame.isObject ? closeBrace : closeBracket)) return 'bad';
  walk.at += 1;
  frames.pop();
  return 'ended';
}

function readName(walk: Walk): Step {
  const { text, frames } = walk;
  walk.at = skipBlank(text, walk.at);
  const start = walk.at;
  const end = stringEnd(text, start);
  if (end < 0) return 'bad';
  const names = frames[frames.length - 1]?.names ?? null;
  if (names !== null) {
    const literal = text.slice(start, end);
    const name = literal.includes('\\') ? (JSON.parse(literal) as string) : literal.slice(1, -1);
    if (names.has(name)) spoil(walk, 'doubled', `the member ${shown(name)} stands twice in one object`);
    names.add(name);
    if (frames.length === 1) walk.member = name;
  }
  walk.at = skipBlank(text, end);
  if (text.charCodeAt(walk.at) !== 0x3a) return 'bad';
  walk.at += 1;
  return 'begun';
}

/** The array of a batch: each item is an envelope of its own, with its own depth and its own fault. */
function scanItems(walk: Walk, shape: Shape): Step {
  const { text } = walk;
  walk.items = [];
  walk.at = skipBlank(text, walk.at + 1);
  if (text.charCodeAt(walk.at) === closeBracket) {
    walk.at += 1;
    return 'ended';
  }
  for (;;) {
    const item = scanEnvelope(text, skipBlank(text, walk.at), shape, true);
    walk.at = item.at;
    if (item.fault?.kind === 'syntax') return 'bad';
    walk.items.push(envelopeOf(item));
    walk.at = skipBlank(text, walk.at);
    const code = text.charCodeAt(walk.at);
    if (code !== comma && code !== closeBracket) return 'bad';
    walk.at += 1;
    if (code === closeBracket) return 'ended';
  }
}

function envelopeOf(walk: Walk): Envelope {
  return { start: walk.start, end: walk.at, payloads: walk.payloads, fault: walk.fault };
}

function spoil(walk: Walk, kind: 'depth' | 'doubled', detail: string): void {
  walk.fault ??= { kind, at: walk.at, detail };
}

function syntaxFault(text: string, at: number): ScanFault {
  const found = at >= text.length ? 'the end of the text' : shown(text.slice(at, at + 1));
  return { kind: 'syntax', at, detail: `unexpected ${found} at character ${at}` };
}

function shown(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
