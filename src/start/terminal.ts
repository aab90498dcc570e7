import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Writable } from 'node:stream';

/**
 * At a terminal a person reads: the banner must not scroll away under four processes' JSON, so only what is wrong
 * (warn and above, and whatever is not a log line) is shown, as plain sentences. Anywhere else a program reads, and
 * gets every line as it is.
 */
export function showTroubles(child: ChildProcess, name: string, to: Writable): void {
  if (child.stdout === null) return;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const text = plainTrouble(line);
    if (text !== null) to.write(`  ${name.padEnd(12)} ${text}\n`);
  });
}

/** A log line as a sentence; null for one that tells of nothing wrong. */
export function plainTrouble(line: string): string | null {
  const entry = parse(line);
  if (entry === null) return line;
  const { level, event, at: _at, process: _process, ...fields } = entry;
  if (level !== 'warn' && level !== 'error') return null;
  const details = Object.entries(fields).map(([field, value]) => `${field}: ${shorten(value)}`);
  return `${level === 'error' ? '✖' : '▲'} ${String(event)}${details.length === 0 ? '' : `  ${details.join(', ')}`}`;
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && 'event' in value ? { ...value } : null;
  } catch {
    return null;
  }
}

/** An error is its message; text is quoted again, for a control character may steer a terminal. */
function shorten(value: unknown): string {
  const isError = typeof value === 'object' && value !== null && 'message' in value;
  const text = JSON.stringify(isError ? value.message : value) ?? '';
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
