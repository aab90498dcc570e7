import { config as levels, createLogger, format, transports } from 'winston';

type Fields = Readonly<Record<string, unknown>>;

/** `event` is `noun.past-participle`; ids are always called taskId, backendId, attempt, requestId. */
export type Logger = {
  info(event: string, fields?: Fields): void;
  warn(event: string, fields?: Fields): void;
  error(event: string, fields?: Fields): void;
  debug(event: string, fields?: Fields): void;
};

const depthLimit = 6;
const itemLimit = 100;
const textLimit = 4096;

/** Names whose values are secret whatever they look like. */
const secretName =
  /authorization|cookie|secret|token|password|passwd|credential|(api|admin|encryption|private)[-_]?keys?$/i;
/** Names that may hold a secret or a plain word (`idempotencyKey: order-42`): the value decides. */
const keyName = /key/i;
const secretLooking = /^(mdk_|whsec_)|^[A-Za-z0-9+/_-]{32,}={0,2}$/;
const secretInText = /\b(mdk_|whsec_)[A-Za-z0-9_-]{8,}|\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}/g;
const urlSecrets = /\b([a-z][a-z0-9+.-]*:\/\/)(?:[^\s/?#"']*@)?([^\s?#"']*)(\?[^\s#"']*)?/gi;
const redacted = '[redacted]';

/**
 * One JSON object a line on stdout: `at`, `level`, `process`, `event`, then the fields. Errors anywhere in the fields
 * become plain values, secrets are left out by name and by look, and no text can begin a line of its own.
 */
export function makeLogger(options: { readonly level: string; readonly process: string }): Logger {
  const winston = createLogger({
    level: options.level,
    levels: levels.npm.levels,
    format: format.printf((entry) => entry.message as string),
    transports: [new transports.Stream({ stream: process.stdout, eol: '\n' })],
  });
  const write =
    (level: 'info' | 'warn' | 'error' | 'debug') =>
    (event: string, fields: Fields = {}) => {
      if (!winston.isLevelEnabled(level)) return;
      winston.log(level, formatLine({ level, process: options.process, event, fields, at: new Date() }));
    };
  return { info: write('info'), warn: write('warn'), error: write('error'), debug: write('debug') };
}

/** The line itself, without its end. `fields` never replace what the line says about itself. */
export function formatLine(line: {
  readonly at: Date;
  readonly level: 'info' | 'warn' | 'error' | 'debug';
  readonly process: string;
  readonly event: string;
  readonly fields: Fields;
}): string {
  const withStack = line.level === 'error' || line.level === 'debug';
  const fields = readable(line.fields, { withStack, depth: 0, above: [] }) as Record<string, unknown>;
  const head = {
    at: line.at.toISOString(),
    level: line.level,
    process: line.process,
    event: readableText(line.event),
  };
  // JSON escapes line feeds; these others also end a line, or steer a terminal, for some reader.
  return JSON.stringify({ ...head, ...fields, ...head }).replace(
    /[\u007f-\u009f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

type Walk = { readonly withStack: boolean; readonly depth: number; readonly above: readonly object[] };

function readable(value: unknown, walk: Walk): unknown {
  if (typeof value === 'string') return readableText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'function' || typeof value === 'symbol') return undefined;
  if (typeof value !== 'object' || value === null) return value;
  if (walk.above.includes(value)) return '[circular]';
  if (walk.depth >= depthLimit) return '[deeper]';
  const below: Walk = { ...walk, depth: walk.depth + 1, above: [...walk.above, value] };
  if (value instanceof Error) return readableError(value, below);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  // Bytes are payloads or keys: neither belongs into a log.
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (Array.isArray(value)) return value.slice(0, itemLimit).map((item) => readable(item, below));
  return readableMembers(value as Record<string, unknown>, below);
}

function readableMembers(value: Record<string, unknown>, walk: Walk): Record<string, unknown> {
  const members = Object.entries(value).slice(0, itemLimit);
  return Object.fromEntries(
    members.map(([name, member]) => [name, isSecret(name, member) ? redacted : readable(member, walk)]),
  );
}

function isSecret(name: string, value: unknown): boolean {
  if (value === null || value === undefined || typeof value === 'boolean' || typeof value === 'number')
    return false;
  return (
    secretName.test(name) || (keyName.test(name) && typeof value === 'string' && secretLooking.test(value))
  );
}

function readableError(error: Error, walk: Walk): Record<string, unknown> {
  const { name, message, cause, stack } = error;
  // Listed, not copied: drivers hang whole requests, with headers and bodies, on their errors.
  const { code, details } = error as { code?: unknown; details?: unknown };
  return {
    name,
    message: readableText(message),
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(details === undefined ? {} : { details: readable(details, walk) }),
    ...(cause === undefined ? {} : { cause: readable(cause, walk) }),
    ...(error instanceof AggregateError ? { errors: readable(error.errors, walk) } : {}),
    ...(walk.withStack && stack !== undefined ? { stack: readableText(stack) } : {}),
  };
}

function readableText(text: string): string {
  const short = text.length > textLimit ? `${text.slice(0, textLimit)}… (${text.length} characters)` : text;
  return short
    .replace(secretInText, redacted)
    .replace(urlSecrets, (_all, scheme: string, place: string, query: string | undefined) =>
      query === undefined ? `${scheme}${place}` : `${scheme}${place}?${redacted}`,
    );
}
