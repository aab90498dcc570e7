import { isIP } from 'node:net';
import { z } from 'zod';

export const dayMs = 86_400_000;
const longestMs = 30 * dayMs;

/** A fault's text says what is wrong and shows a value that would do. */
export const fault = (rule: string, example: string) => ({ error: () => `${rule}, for example ${example}` });

export function wholeNumber(min: number, max: number, fallback: number) {
  const rule = fault(`must be a whole number from ${min} to ${max}`, String(fallback));
  return z
    .string()
    .regex(/^\d{1,15}$/, rule)
    .transform(Number)
    .pipe(z.number(rule).min(min, rule).max(max, rule))
    .default(fallback);
}

export const milliseconds = (fallback: number, min = 1) => wholeNumber(min, longestMs, fallback);

export const yesOrNo = z
  .stringbool({
    truthy: ['true', '1', 'yes'],
    falsy: ['false', '0', 'no'],
    ...fault('must be true or false', 'true'),
  })
  .default(false);

/** A URL of one of the schemes; `plain` forbids what only belongs to one request: a query and a fragment. */
export function url(schemes: readonly string[], example: string, plain = false) {
  const rule = fault(
    `must be a URL that begins with ${schemes.map((scheme) => `${scheme}//`).join(' or ')}`,
    example,
  );
  return z.string().refine((text) => {
    if (!URL.canParse(text)) return false;
    const { protocol, hostname, search, hash, username } = new URL(text);
    if (!schemes.includes(protocol) || (hostname === '' && plain)) return false;
    return !plain || `${search}${hash}${username}` === '';
  }, rule);
}

/** Gives `address/prefix` for each; an address alone is a range of one. Null where one of them is not a range. */
function readCidrs(text: string): string[] | null {
  const ranges = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  const read = ranges.map((range) => {
    const [address = '', prefix, ...more] = range.split('/');
    const bits = { 0: 0, 4: 32, 6: 128 }[isIP(address)] ?? 0;
    const isWhole = prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= bits);
    return bits > 0 && isWhole && more.length === 0 ? `${address}/${prefix ?? bits}` : null;
  });
  return read.includes(null) ? null : read.filter((range) => range !== null);
}

export const cidrs = z
  .string()
  .refine(
    (text) => readCidrs(text) !== null,
    fault('must be a list of address ranges', '10.1.0.0/16,fd00::/8'),
  )
  .transform((text) => readCidrs(text) ?? [])
  .default([]);

export const isKey = (text: string) =>
  /^[A-Za-z0-9+/]{43}=?$/.test(text) && Buffer.from(text, 'base64').length === 32;

/** Express's values: a number of hops, true, or names and ranges of proxies. */
export const trustProxy = z
  .string()
  .transform((text) => (/^\d+$/.test(text) ? Number(text) : ({ true: true, false: false }[text] ?? text)))
  .default(false);
