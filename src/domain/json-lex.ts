/** The words of JSON (RFC 8259), found by offset: nothing is decoded, nothing is copied. */
const quote = 0x22;
const backslash = 0x5c;

/** The offset of the first character that is no blank. */
export function skipBlank(text: string, from: number): number {
  let at = from;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return at;
    at += 1;
  }
}

/** The offset behind the string, number or word that stands here, or -1. */
export function skipScalar(text: string, from: number): number {
  const code = text.charCodeAt(from);
  if (code === quote) return stringEnd(text, from);
  if (code === 0x74) return wordEnd(text, from, 'true');
  if (code === 0x66) return wordEnd(text, from, 'false');
  if (code === 0x6e) return wordEnd(text, from, 'null');
  return numberEnd(text, from);
}

/** The offset behind the string literal that begins here, or -1. */
export function stringEnd(text: string, from: number): number {
  if (text.charCodeAt(from) !== quote) return -1;
  let at = from + 1;
  for (;;) {
    const code = text.charCodeAt(at);
    if (code === quote) return at + 1;
    // NaN (the text is over) fails this comparison as control characters do.
    if (!(code >= 0x20)) return -1;
    if (code === backslash) {
      at = escapeEnd(text, at + 1);
      if (at < 0) return -1;
    } else {
      at += 1;
    }
  }
}

function escapeEnd(text: string, at: number): number {
  const code = text.charAt(at);
  if (code === 'u') return /^[0-9a-fA-F]{4}$/.test(text.slice(at + 1, at + 5)) ? at + 5 : -1;
  return code !== '' && '"\\/bfnrt'.includes(code) ? at + 1 : -1;
}

function wordEnd(text: string, from: number, word: string): number {
  return text.startsWith(word, from) ? from + word.length : -1;
}

const number = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;

function numberEnd(text: string, from: number): number {
  number.lastIndex = from;
  return number.test(text) ? number.lastIndex : -1;
}
