import { describe, expect, test } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import {
  makeCallbackTokens,
  parseEncryptionKeys,
  type EncryptionKey,
} from '../../src/orchestrators/callback-token.js';

const encoded = [randomBytes(32), randomBytes(32), randomBytes(32)].map((key) => key.toString('base64'));
const keysOf = (text: string): readonly EncryptionKey[] => {
  const parsed = parseEncryptionKeys(text);
  if ('faults' in parsed) throw new Error(parsed.faults.join());
  return parsed.keys;
};
const keys = keysOf(encoded.join(','));
const [first, second] = keys as [EncryptionKey, EncryptionKey, EncryptionKey];

describe('encryption keys', () => {
  test('are read in their order, blanks around them ignored', () => {
    expect(keysOf(` ${encoded[0]} , ${encoded[1]}`).map((one) => one.id)).toEqual([first.id, second.id]);
    expect(first.id).toMatch(/^[0-9a-f]{8}$/);
    expect(first.key).toEqual(Buffer.from(encoded[0]!, 'base64'));
  });

  test('tell every fault at once and quote no key', () => {
    const short = randomBytes(31).toString('base64');
    const parsed = parseEncryptionKeys(`${short},,${encoded[0]},${encoded[0]},not base64!`);
    expect(parsed).toEqual({
      faults: [
        expect.stringMatching(/^key 1 is not base64 of 32 bytes/),
        expect.stringMatching(/^key 2 /),
        'key 4 is there twice',
        expect.stringMatching(/^key 5 /),
      ],
    });
    expect(JSON.stringify(parsed)).not.toContain(short);
    expect(JSON.stringify(parsed)).not.toContain(encoded[0]!);
  });
});

describe('callback tokens', () => {
  const tokens = makeCallbackTokens(keys);
  const { token, keyId } = tokens.sign('task_1', 2);

  test('are the same each time for one attempt and key', () => {
    expect(tokens.sign('task_1', 2)).toEqual({ token, keyId: first.id });
    expect(makeCallbackTokens([second, first]).sign('task_1', 2, keyId).token).toBe(token);
    expect(token).toMatch(new RegExp(`^cb1\\.${first.id}\\.[A-Za-z0-9_-]{43}$`));
    expect(tokens.sign('task_1', 2, second.id).token).not.toBe(token);
  });

  test('open their own attempt and no other', () => {
    expect(tokens.verify(token, 'task_1', 2)).toBe('valid');
    for (const [taskId, attempt] of [
      ['task_1', 1],
      ['task_1', 3],
      ['task_1', 22],
      ['task_12', 2],
      ['task_', 12],
      ['', 2],
      ['TASK_1', 2],
    ] as const) {
      expect(tokens.verify(token, taskId, attempt)).toBe('other_attempt');
    }
  });

  test('no two attempts share one', () => {
    const all = Array.from(
      { length: 1000 },
      (_, at) => tokens.sign(`task_${at % 100}`, Math.floor(at / 100)).token,
    );
    expect(new Set(all).size).toBe(1000);
  });

  test('every change of one character is refused', () => {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=/+ ';
    const accepted: string[] = [];
    for (let at = 0; at < token.length; at += 1) {
      for (const letter of letters) {
        const forged = token.slice(0, at) + letter + token.slice(at + 1);
        if (forged !== token && tokens.verify(forged, 'task_1', 2) === 'valid') accepted.push(forged);
      }
    }
    expect(accepted).toEqual([]);
  });

  test.each([
    ['nothing', ''],
    ['a blank', ' '],
    ['one truncated', token.slice(0, -1)],
    ['one prolonged', `${token}A`],
    ['one padded', `${token}=`],
    ['one with a line end', `${token}\n`],
    ['one behind a scheme', `Bearer ${token}`],
    ['another version', token.replace('cb1', 'cb2')],
    ['no version', token.slice(4)],
    ['no mac', `cb1.${first.id}.`],
    ['an unknown key', token.replace(first.id, '00000000')],
    ['a key that is a property name', `cb1.__proto__.${token.split('.')[2]}`],
    ['another part', `${token}.x`],
    ['NUL', `${token.slice(0, 20)}\u0000${token.slice(21)}`],
    ['one in capitals', token.toUpperCase()],
    ['a megabyte', 'x'.repeat(1024 * 1024)],
  ])('%s is malformed', (_name, forged) => {
    expect(tokens.verify(forged, 'task_1', 2)).toBe('malformed');
  });

  test('the mac of one key under the id of another opens nothing', () => {
    const mac = token.split('.')[2];
    expect(tokens.verify(`cb1.${second.id}.${mac}`, 'task_1', 2)).toBe('other_attempt');
  });

  test('stay valid while their key is in the list, wherever it stands, and not after', () => {
    expect(makeCallbackTokens([second, first]).verify(token, 'task_1', 2)).toBe('valid');
    const without = makeCallbackTokens([second]);
    expect(without.verify(token, 'task_1', 2)).toBe('malformed');
    expect(() => without.sign('task_1', 2, first.id)).toThrow(
      expect.objectContaining({ code: 'encryption_key_unknown' }),
    );
  });

  test('show nothing of the key that seals', () => {
    expect(token).not.toContain(first.key.toString('base64url').slice(0, 8));
    expect(() => makeCallbackTokens([])).toThrow('ENCRYPTION_KEY');
  });
});
