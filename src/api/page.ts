import { invalid, refusal } from './problems.js';

/** A page of a list: `{"data": […], "nextCursor": …}`. */
export const defaultLimit = 50;

/** Where a list goes on: behind the row with this instant (ms) or number, and this id. */
export type Position = { readonly at: number; readonly id: string };

/** Opaque to clients; nothing in it is trusted but its shape. */
export function cursorOf({ at, id }: Position): string {
  return Buffer.from(`1.${at}.${id}`).toString('base64url');
}

const cursorShape = /^1\.(\d{1,15})\.([A-Za-z0-9_]{0,128})$/;

export function positionOf(cursor: string | undefined): Position | null {
  if (cursor === undefined) return null;
  const text = /^[A-Za-z0-9_-]{1,300}$/.test(cursor)
    ? Buffer.from(cursor, 'base64url').toString('latin1')
    : '';
  const match = cursorShape.exec(text);
  // One text has one cursor: what decodes leniently is not one of ours.
  if (match === null || cursorOf({ at: Number(match[1]), id: match[2] ?? '' }) !== cursor) {
    throw refusal('malformed_cursor', 'use a nextCursor as it was given', {
      errors: [{ pointer: '/cursor', detail: 'is not a cursor of this list' }],
    });
  }
  const at = Number(match[1]);
  if (at > 8.64e15) throw invalid([{ pointer: '/cursor', detail: 'is out of range' }]);
  return { at, id: match[2] ?? '' };
}

/** `rows` holds one more than `limit` when the list goes on. */
export function pageJson<R>(
  rows: readonly R[],
  limit: number,
  toJson: (row: R) => string,
  positionOfRow: (row: R) => Position,
): string {
  const shown = rows.slice(0, limit);
  const last = shown[shown.length - 1];
  const next =
    rows.length > limit && last !== undefined ? JSON.stringify(cursorOf(positionOfRow(last))) : 'null';
  return `{"data":[${shown.map(toJson).join(',')}],"nextCursor":${next}}`;
}
