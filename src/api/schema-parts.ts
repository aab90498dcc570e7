import { z } from 'zod';
import { isRawJson, type RawJson } from './body.js';

/** What several inputs are made of. Lengths are in characters (code points) unless they say bytes. */
export const maxDurationMs = 30 * 24 * 60 * 60 * 1000;

/** Code points: a pair of surrogates is one character. */
const charsOf = (value: string): number =>
  value.length - (value.match(/[\ud800-\udbff][\udc00-\udfff]/g)?.length ?? 0);

const loneSurrogate = /\p{Surrogate}/u;

/** Text that Postgres can keep: no NUL, no half of a surrogate pair. */
export function text(maxChars: number): z.ZodString {
  return z
    .string()
    .min(1)
    .refine((value) => charsOf(value) <= maxChars, {
      error: `must be at most ${maxChars} characters long`,
    })
    .refine((value) => !loneSurrogate.test(value) && !value.includes('\0'), {
      error: 'must be well-formed text without the null character',
    });
}

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const controlCharacter = /[\u0000-\u001f\u007f-\u009f]/;

/** Text that stands in one line of a page, a log or a header. */
export function lineOfText(maxChars: number): z.ZodString {
  return text(maxChars).refine((value) => !controlCharacter.test(value), {
    error: 'must not hold control characters',
  });
}

export const workspaceId = z
  .string()
  .regex(/^[A-Za-z0-9_.:-]{1,128}$/, { error: 'must be 1 to 128 of the characters A-Z a-z 0-9 _ . : -' });

export const objectId = text(128);

export const durationMs = z.int().min(1).max(maxDurationMs);

const rfc3339 =
  /^([1-9]\d{3})-(0[1-9]|1[0-2])-(\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

/** Strict RFC 3339: no day that does not exist, no year that other programs cannot write down. */
export function parseInstant(value: string): Date | null {
  const [, year, month, day] = rfc3339.exec(value) ?? [];
  const lastDay = new Date(Date.UTC(Number(year), Number(month), 0)).getUTCDate();
  if (year === undefined || Number(day) < 1 || Number(day) > lastDay) return null;
  const at = new Date(value.toUpperCase());
  return at.getUTCFullYear() > 9999 ? null : at;
}

export const instant = z.string().transform((value, context) => {
  const at = parseInstant(value);
  if (at !== null) return at;
  context.addIssue({ code: 'custom', message: 'must be a date and time as 2026-01-31T12:00:00Z (RFC 3339)' });
  return z.NEVER;
});

/** A payload of any kind, kept as the text that came. */
export const payload = z.custom<RawJson>(isRawJson, { error: 'is required' });

export function objectPayload(maxBytes: number): z.ZodCustom<RawJson, RawJson> {
  return payload
    .refine((value) => value.rawJson.startsWith('{'), { error: 'must be an object' })
    .refine((value) => Buffer.byteLength(value.rawJson) <= maxBytes, {
      error: `must be at most ${maxBytes} bytes`,
    });
}

/** A URL that we may be told to call: http or https, no credentials, no fragment. */
export const httpUrl = z.string().superRefine((value, context) => {
  const fault = urlFault(value);
  if (fault !== null) context.addIssue({ code: 'custom', message: fault });
});

export function urlFault(value: string): string | null {
  if (value.length > 2048) return 'must be at most 2048 characters long';
  if (controlCharacter.test(value) || /\s/.test(value)) return 'must not hold blanks or control characters';
  if (!/^https?:\/\//i.test(value)) return 'must begin with http:// or https://';
  // Checked on the text: the URL parser repairs "http:///x" into a host, and backslashes into slashes.
  const authority = /^https?:\/\/([^/?#\\]*)/i.exec(value)?.[1] ?? '';
  if (authority === '' || authority.startsWith(':')) return 'must name a host';
  if (authority.includes('@')) return 'must not hold a user name or password';
  if (value.includes('\\')) return 'must not hold a backslash';
  if (value.includes('#')) return 'must not have a fragment';
  if (!URL.canParse(value)) return 'is not a valid URL';
  return new URL(value).port === '0' ? 'must not have port 0' : null;
}
