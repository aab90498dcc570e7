const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * An opaque id whose prefix names the kind (`task_…`): base32 of a UUIDv7, so that ids of one kind sort by
 * the time they were made, and an index on them grows at one end only.
 *
 * @param atMs Unix time in ms
 * @param random at least 10 bytes; the first 12 bits order ids of the same millisecond
 */
export function makeId(prefix: string, atMs: number, random: Uint8Array): string {
  const bytes = new Uint8Array(16);
  for (let index = 0; index < 6; index += 1) bytes[index] = Math.floor(atMs / 2 ** (40 - 8 * index)) & 0xff;
  bytes.set(random.subarray(0, 10), 6);
  const view = new DataView(bytes.buffer);
  view.setUint8(6, (view.getUint8(6) & 0x0f) | 0x70);
  view.setUint8(8, (view.getUint8(8) & 0x3f) | 0x80);
  return `${prefix}_${base32(bytes)}`;
}

/** Most significant bits first, so that the order of the bytes is the order of the text. */
function base32(bytes: Uint8Array): string {
  let text = '';
  // 128 bits are 26 digits of 5 bits: the first digit carries the topmost 3.
  let held = 0;
  let heldBits = 2;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    heldBits += 8;
    while (heldBits >= 5) {
      heldBits -= 5;
      text += alphabet[(held >>> heldBits) & 31];
      held &= (1 << heldBits) - 1;
    }
  }
  return text;
}
