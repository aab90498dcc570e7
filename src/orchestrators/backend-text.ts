/** What a backend wrote is data: bounded and free of what breaks logs, terminals and Postgres' text type. */
const maxTextLength = 500;
const maxIdLength = 512;

/** A backend's text for people: control characters become blanks, lone surrogates go, the rest is cut; null for none. */
export function boundedText(value: unknown, maxLength = maxTextLength): string | null {
  if (typeof value !== 'string') return null;
  // Cut first, so that a megabyte is not searched; the cut may halve a pair, and the half goes with the lone ones.
  const text = value
    .slice(0, maxLength)
    .replace(/\p{Surrogate}/gu, '')
    .replace(/\p{Cc}+/gu, ' ')
    .trim();
  return text === '' ? null : text;
}

/** A backend's id as a URL and a database can carry it; null for one that they cannot. */
export function usableId(value: string): string | null {
  const sane = value.length > 0 && value.length <= maxIdLength && !/[\p{Surrogate}\p{Cc}]/u.test(value);
  // Dot segments vanish from a path even when escaped, and another route would answer.
  return sane && value !== '.' && value !== '..' ? value : null;
}

/** The JSON object in a body; null for anything else, however broken or deep. */
export function objectIn(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Puts a path (and query) behind a backend's url, whose own base path and query stay. */
export function joinUrl(base: string, path: string, query: Readonly<Record<string, string>> = {}): string {
  if (!URL.canParse(base)) return base;
  const url = new URL(base);
  const [pathname = '', search = ''] = path.split('?', 2);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${pathname.replace(/^\/+/, '')}`;
  for (const [name, value] of new URLSearchParams(search)) url.searchParams.set(name, value);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  url.hash = '';
  return url.href;
}
