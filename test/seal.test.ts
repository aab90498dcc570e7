import { describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { makeSealer } from '../src/seal.js';

const old = { id: '0000aaaa', key: randomBytes(32) };
const young = { id: '0000bbbb', key: randomBytes(32) };
const aad = 'bknd_1.secret';
const unreadable = expect.objectContaining({ code: 'credential_unreadable' });

describe('sealed credentials', () => {
  const sealer = makeSealer([young, old]);

  test.each(['', 's3cret', 'ünïcödé 🗝', 'x'.repeat(10_000)])('open to what was sealed', (plain) => {
    const sealed = sealer.seal(plain, aad);
    expect(sealed).toMatch(/^v1\.0000bbbb\.[A-Za-z0-9_-]{16}\.[A-Za-z0-9_-]+$/);
    expect(sealer.open(sealed, aad)).toBe(plain);
    if (plain !== '') expect(sealed).not.toContain(plain);
  });

  test('differ each time', () => {
    expect(new Set(Array.from({ length: 100 }, () => sealer.seal('same', aad))).size).toBe(100);
  });

  test('open in no other place', () => {
    const sealed = sealer.seal('s3cret', aad);
    for (const place of ['bknd_2.secret', 'bknd_1.notify', '', `${aad} `]) {
      expect(() => sealer.open(sealed, place)).toThrow(unreadable);
    }
  });

  test('do not open when any character was changed, left out or added', () => {
    const sealed = sealer.seal('s3cret', aad);
    for (let at = 0; at < sealed.length; at += 1) {
      for (const letter of 'Aa0_-.v=') {
        if (sealed[at] === letter) continue;
        const changed = sealed.slice(0, at) + letter + sealed.slice(at + 1);
        expect(() => sealer.open(changed, aad)).toThrow(unreadable);
      }
      expect(() => sealer.open(sealed.slice(0, at) + sealed.slice(at + 1), aad)).toThrow(unreadable);
      expect(() => sealer.open(sealed.slice(0, at), aad)).toThrow(unreadable);
    }
    for (const text of [
      '',
      'v1',
      'v1...',
      `${sealed}.`,
      `${sealed}A`,
      `${sealed}=`,
      'plain text',
      '\u0000',
    ]) {
      expect(() => sealer.open(text, aad)).toThrow(unreadable);
    }
  });

  test('open with an older key while it is in the list, and say so when it is gone', () => {
    const sealed = makeSealer([old]).seal('s3cret', aad);
    expect(sealer.open(sealed, aad)).toBe('s3cret');
    expect([sealer.isCurrent(sealed), sealer.isCurrent(sealer.seal('s3cret', aad))]).toEqual([false, true]);
    expect(() => makeSealer([young]).open(sealed, aad)).toThrow(/not in ENCRYPTION_KEY; put that key back/);
    const impostor = makeSealer([{ id: old.id, key: randomBytes(32) }]);
    expect(() => impostor.open(sealed, aad)).toThrow(unreadable);
  });

  test('need a key', () => {
    expect(() => makeSealer([])).toThrow('ENCRYPTION_KEY');
  });
});
