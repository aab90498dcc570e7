/** What was played, checked and seen, and the Markdown that is made of it. */
import { isDeepStrictEqual } from 'node:util';

const maxTextChars = 240;

/**
 * One line of the contract: what is asked and answered is shown, every check is counted.
 *
 * @param {string} title
 */
export function makeRecord(title) {
  /** @type {string[]} */ const shown = [];
  /** @type {string[]} */ const faults = [];
  let checks = 0;
  const check = (what, isGood, expected, actual) => {
    checks += 1;
    if (!isGood) faults.push(`${what}: expected ${brief(expected)}, was ${brief(actual)}`);
    return isGood;
  };
  return {
    title,
    shown,
    faults,
    checks: () => checks,
    show: (text) => void shown.push(text),
    /** Shows bytes or a value that is no answer of ours, such as a request that an Orchestrator received. */
    showValue: (caption, value) =>
      void shown.push(
        `${caption}\n\n${fence('json', typeof value === 'string' ? cut(value, 900) : pretty(value))}`,
      ),
    is: (what, actual, expected) => check(what, isDeepStrictEqual(actual, expected), expected, actual),
    ok: (what, condition, actual = condition) => check(what, Boolean(condition), 'that it holds', actual),
    in: (what, actual, allowed) =>
      check(what, allowed.includes(actual), `one of ${allowed.join(', ')}`, actual),
    fault: (text) => void faults.push(text),
  };
}

/** Rows of mixed kinds, as they stand. @type {(list: any[][]) => any[][]} */
export const rows = (list) => list;

export const fence = (language, text) => `\`\`\`${language}\n${text}\n\`\`\``;

function brief(value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return cut(text ?? String(value), 600);
}

const cut = (text, maxChars) =>
  text.length > maxChars ? `${text.slice(0, maxChars)}… (${text.length} characters)` : text;

/** A value as JSON, one member a line where it is large, long texts and long lists cut. */
export function pretty(value) {
  const small = shorten(value);
  const flat = JSON.stringify(small);
  if (flat === undefined || flat.length < 100) return String(flat);
  if (Array.isArray(small)) return `[\n${small.map((item) => `  ${JSON.stringify(item)}`).join(',\n')}\n]`;
  if (typeof small !== 'object' || small === null) return flat;
  const lines = Object.entries(small).map(([name, item]) => {
    const line = JSON.stringify(item);
    if (!Array.isArray(item) || line.length < 100) return `  ${JSON.stringify(name)}: ${line}`;
    return `  ${JSON.stringify(name)}: [\n${item.map((one) => `    ${JSON.stringify(one)}`).join(',\n')}\n  ]`;
  });
  return `{\n${lines.join(',\n')}\n}`;
}

function shorten(value) {
  if (typeof value === 'string')
    return value.length > maxTextChars ? `${value.slice(0, 60)}… (${value.length} characters)` : value;
  if (Array.isArray(value)) {
    const items = value.slice(0, 8).map(shorten);
    return value.length > 8 ? [...items, `… ${value.length} in all`] : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shorten(item)]));
}

/** The request as one would type it. @param {{ method: string, path: string, headers: Record<string, any>, body: string | null, keyName: string | null }} request */
export function curlOf({ method, path, headers, body, keyName }) {
  const parts = ['curl -s'];
  if (method === 'HEAD') parts.push('-I');
  else if (!(method === 'GET' && body === null) && !(method === 'POST' && body !== null))
    parts.push(`-X ${method}`);
  parts.push(/[&?*()$' ]/.test(path) ? `"$URL${path}"` : `$URL${path}`);
  if (keyName !== null) parts.push(`-H "Authorization: Bearer $${keyName}"`);
  for (const [name, value] of Object.entries(headers)) {
    if (name === 'Authorization' && keyName !== null) continue;
    for (const one of [value].flat()) parts.push(`-H ${quote(`${name}: ${cut(String(one), 120)}`)}`);
  }
  if (body !== null) parts.push(`-d ${quote(cut(body, 420))}`);
  return parts.join(' ').length < 110 ? parts.join(' ') : parts.join(' \\\n  ');
}

const quote = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/**
 * Ids, times, ports, tokens and measured durations give way to placeholders, numbered as they first appear in the
 * line, so that another run gives nearly the same page.
 */
export function withPlaceholders(text, places) {
  const names = new Map();
  const counts = new Map();
  const nameOf = (kind, id) => {
    if (!names.has(id)) {
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      names.set(id, `${kind}_${counts.get(kind)}`);
    }
    return names.get(id);
  };
  let out = text;
  for (const [value, name] of places) out = out.replaceAll(value, name);
  return out
    .replaceAll(/\b(task|bknd|key|req|proc|stop|fence|evt)_[0-9a-z]{20,}\b/gi, (id, kind) => nameOf(kind, id))
    .replaceAll(/\bcb1\.[0-9a-f]{8}\.[A-Za-z0-9_-]{20,}/g, '<callback token>')
    .replaceAll(/("callback_token": ?")[^"]+"/g, '$1<callback token>"')
    .replaceAll(/\bmdk_[A-Za-z0-9_-]{43}\b/g, '<API key>')
    .replaceAll(/("nextCursor": ?|cursor=)"?[A-Za-z0-9_-]{6,}"?/g, '$1<cursor>')
    .replaceAll(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '<time>')
    .replaceAll(/\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT/g, '<date>')
    .replaceAll(/("(?:latencyMs|ms)": ?)[\d.]+/g, '$1<ms>')
    .replaceAll(/\b00-[0-9a-f]{32}-[0-9a-f]{16}-\d\d\b/g, '<traceparent>')
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, 'http://127.0.0.1:<port>')
    .replaceAll(/127\.0\.0\.1:\d{4,5}\b/g, '127.0.0.1:<port>')
    .replaceAll(/\bport \d{4,5}\b/g, 'port <port>')
    .replaceAll(/"stack":"(?:[^"\\]|\\.)*"/g, '"stack":"<stack>"')
    .replaceAll(/("pid": ?)\d+/g, '$1<pid>');
}

/** @param {{ title: string, lines: { record: any, text: string }[] }[]} sections */
export function pageOf(sections) {
  const total = sections.reduce((sum, { lines }) => sum + lines.length, 0);
  const contents = sections.map(({ title, lines }) => `- ${title}: ${lines.length} lines`);
  const parts = sections.map(
    ({ title, lines }) => `## ${title}\n\n${lines.map(({ text }) => text).join('\n')}`,
  );
  return `# A walk through the contract

Every line below was played against the running system: \`node scripts/walkthrough.mjs\` starts it on servers of its own,
sends these requests, checks every answer and writes this page. \`$URL\` is where the API listens, \`$KEY\` a key with
the scope \`admin\` unless a line says otherwise. Ids, times, ports and tokens are replaced by placeholders; long
answers are shortened.

${total} lines:

${contents.join('\n')}

${parts.join('\n')}
`;
}
