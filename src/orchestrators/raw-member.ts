/**
 * The raw text of one member of a JSON object, byte for byte as it came, or null when there is none: results are
 * passed on unchanged, and JSON.parse would change numbers. Of doubled names the last one counts, as in JSON.parse.
 *
 * @param text JSON that JSON.parse has accepted; iterative, so that no depth can exhaust the stack
 */
export function rawMember(text: string, name: string): string | null {
  let found: string | null = null;
  let at = skipBlank(text, 0);
  if (text[at] !== '{') return null;
  at = skipBlank(text, at + 1);
  while (text[at] === '"') {
    const keyEnd = endOfString(text, at);
    const key: unknown = JSON.parse(text.slice(at, keyEnd));
    const from = skipBlank(text, skipBlank(text, keyEnd) + 1);
    const to = endOfValue(text, from);
    if (key === name) found = text.slice(from, to);
    at = skipBlank(text, to);
    if (text[at] === ',') at = skipBlank(text, at + 1);
  }
  return found;
}

function skipBlank(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ' || text[at] === '\n' || text[at] === '\r' || text[at] === '\t') at += 1;
  return at;
}

/** @param from the opening quote; answers the index after the closing one */
function endOfString(text: string, from: number): number {
  let at = from + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

function endOfValue(text: string, from: number): number {
  const first = text[from];
  if (first === '"') return endOfString(text, from);
  if (first !== '{' && first !== '[') {
    let at = from;
    while (at < text.length && !',}] \n\r\t'.includes(text[at] ?? ',')) at += 1;
    return at;
  }
  let depth = 0;
  let at = from;
  while (at < text.length) {
    const char = text[at];
    if (char === '"') {
      at = endOfString(text, at);
      continue;
    }
    at += 1;
    if (char === '{' || char === '[') depth += 1;
    else if (char === '}' || char === ']') depth -= 1;
    if (depth === 0) break;
  }
  return at;
}
