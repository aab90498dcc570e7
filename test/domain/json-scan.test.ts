import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { maxDepth, scanJson, type Shape } from '../../src/domain/json-scan.js';

const task: Shape = { payloads: ['context', 'metadata'] };
const batch: Shape = { payloads: [], items: { member: 'tasks', shape: task } };
const callback: Shape = { payloads: ['result'], own: ['progress', 'error'] };

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function isSyntaxFault(text: string): boolean {
  const scan = scanJson(text, task);
  return !scan.ok && scan.fault.kind === 'syntax';
}

function payload(text: string, name: string, shape = task): string | undefined {
  const scan = scanJson(text, shape);
  if (!scan.ok) throw new Error(scan.fault.detail);
  const range = scan.root.payloads.get(name);
  return range && text.slice(range.start, range.end);
}

describe('scanJson', () => {
  test('accepts whatever JSON.parse accepts', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 6, stringUnit: 'binary' }),
        fc.constantFrom(0, 1, 2),
        (text, indent) => {
          const spaced = JSON.stringify(JSON.parse(text), null, indent);
          expect(isSyntaxFault(text)).toBe(false);
          expect(isSyntaxFault(spaced)).toBe(false);
        },
      ),
    );
  });

  test('refuses whatever JSON.parse refuses, one change away from good text', () => {
    const pieces = fc.constantFrom(
      '',
      ',',
      ':',
      '"',
      '{',
      '}',
      '[',
      ']',
      '\\',
      '\\u12',
      '0',
      '-',
      '.',
      'e',
      'tru',
      '\n',
      '\u0001',
      "'",
    );
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), fc.nat(), fc.nat(3), pieces, (text, seed, cut, piece) => {
        const at = text.length === 0 ? 0 : seed % text.length;
        const changed = text.slice(0, at) + piece + text.slice(at + cut);
        expect(isSyntaxFault(changed)).toBe(!parses(changed) && !spoiledEarlier(changed));
      }),
      { numRuns: 3000 },
    );
  });

  test.each([
    '',
    ' ',
    '{"a":1,}',
    "{'a':1}",
    '{"a":NaN}',
    '{}{}',
    '01',
    '1.',
    '+1',
    '"\\x"',
    '"\t"',
    '[1 2]',
    'nul',
    '\ufeff{}',
  ])('refuses %j', (text) => {
    expect(isSyntaxFault(text)).toBe(true);
  });

  test('finds a payload as the very text that came', () => {
    const fc = '{ "n": 9007199254740993, "n": 1e400,"__proto__":{"x":"\\ud800"} }';
    expect(payload(`{"type":"a", "context" : ${fc} ,"metadata":{}}`, 'context')).toBe(fc);
    expect(payload('{"c\\u006fntext":[1, 2]}', 'context')).toBe('[1, 2]');
    expect(payload('{"context":7}', 'context')).toBe('7');
    expect(payload('{"title":{"context":7}}', 'context')).toBeUndefined();
  });

  test('a name twice in one of our own objects is a fault, inside a payload it is data', () => {
    const doubled = (text: string, shape = task): boolean => {
      const scan = scanJson(text, shape);
      return !scan.ok && scan.fault.kind === 'doubled';
    };
    expect(doubled('{"type":"a","type":"b"}')).toBe(true);
    expect(doubled('{"type":"a","t\\u0079pe":"b"}')).toBe(true);
    expect(doubled('{"backend":{"id":1,"id":2}}')).toBe(true);
    expect(doubled('{"tags":[{"a":1,"a":2}]}')).toBe(true);
    expect(doubled('{"context":{"a":1,"a":2},"metadata":{"a":1,"a":2}}')).toBe(false);
    expect(doubled('{"context":1,"context":2}')).toBe(true);
    expect(doubled('{"extra":{"a":1,"a":2}}', callback)).toBe(false);
    expect(doubled('{"error":{"code":1,"code":2}}', callback)).toBe(true);
    const long = JSON.stringify('n'.repeat(100));
    expect(scanJson(`{${long}:1,${long}:2}`, task)).toMatchObject({
      fault: { detail: `the member "${'n'.repeat(64)}…" stands twice in one object` },
    });
    expect(doubled('{"extra":1,"extra":2}', callback)).toBe(true);
  });

  test('depth is counted from the outermost brace', () => {
    const nested = (levels: number): string =>
      '{"context":'.padEnd(11) + '['.repeat(levels - 1) + ']'.repeat(levels - 1) + '}';
    expect(scanJson(nested(maxDepth), task).ok).toBe(true);
    expect(scanJson(nested(maxDepth + 1), task)).toMatchObject({ ok: false, fault: { kind: 'depth' } });
    expect(scanJson('['.repeat(1_000_000), task)).toMatchObject({ ok: false, fault: { kind: 'depth' } });
  });

  test('in a batch each item is judged by itself, from its own brace', () => {
    const nested = (levels: number): string =>
      `{"context":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
    const items = [
      nested(maxDepth),
      nested(maxDepth + 1),
      '{"a":1,"a":2}',
      '5',
      '{"context":{"b":[1 , 2]}}',
      nested(5000),
    ];
    const text = `{ "tasks" : [ ${items.join(' , ')} ] }`;
    const scan = scanJson(text, batch);
    if (!scan.ok) throw new Error(scan.fault.detail);
    expect(scan.items?.map((item) => text.slice(item.start, item.end))).toEqual(items);
    expect(scan.items?.map((item) => item.fault?.kind ?? null)).toEqual([
      null,
      'depth',
      'doubled',
      null,
      null,
      'depth',
    ]);
    const range = scan.items?.[4]?.payloads.get('context');
    expect(text.slice(range?.start, range?.end)).toBe('{"b":[1 , 2]}');
    expect(scanJson('{"tasks":[]}', batch)).toMatchObject({ ok: true, items: [] });
    expect(scanJson('{"tasks":{}}', batch)).toMatchObject({ ok: true, items: null });
    expect(scanJson('{"tasks":[{},]}', batch)).toMatchObject({ ok: false, fault: { kind: 'syntax' } });
    expect(scanJson('{"tasks":[{}', batch)).toMatchObject({ ok: false, fault: { kind: 'syntax' } });
    expect(scanJson('{"tasks":[{}],"tasks":[]}', batch)).toMatchObject({
      ok: false,
      fault: { kind: 'doubled' },
    });
  });
});

/** A doubled name or too deep a text is told before the rest is read. */
function spoiledEarlier(text: string): boolean {
  const scan = scanJson(text, task);
  return !scan.ok && scan.fault.kind !== 'syntax';
}
