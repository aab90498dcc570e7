import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { makeId } from '../../src/domain/ids.js';

const bytes = fc.uint8Array({ minLength: 10, maxLength: 10 });
const instants = fc.integer({ min: 0, max: 2 ** 48 - 1 });

describe('makeId', () => {
  test('ids are the prefix and 26 lower-case letters and digits', () => {
    fc.assert(
      fc.property(instants, bytes, (at, random) => {
        expect(makeId('task', at, random)).toMatch(/^task_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
      }),
    );
  });

  test('ids sort by the time they were made', () => {
    fc.assert(
      fc.property(instants, instants, bytes, bytes, (a, b, random, other) => {
        fc.pre(a < b);
        expect(makeId('task', a, random) < makeId('task', b, other)).toBe(true);
      }),
    );
  });

  test('other bytes make another id', () => {
    const at = 1_700_000_000_000;
    expect(makeId('task', at, new Uint8Array(10))).toBe('task_01hf7yat00e008000000000000');
    expect(makeId('task', at, new Uint8Array(10).fill(255))).toBe('task_01hf7yat00fzzvzzzzzzzzzzzz');
  });
});
