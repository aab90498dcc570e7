import { isIPv4, isIPv6 } from 'node:net';

/** A network: family, first address and prefix length. IPv4-mapped IPv6 networks have become IPv4 ones. */
export type Cidr = {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly prefix: number;
  readonly text: string;
};

/**
 * Why a range is refused by default.
 * - `loopback`, `private`: opened by settings or by any entry of BACKEND_ALLOW_CIDRS
 * - `linkLocal`, `metadata`: opened only by an entry that lies inside the range itself, because 0.0.0.0/0 or
 *   10.0.0.0/8 must never hand out a cloud machine's credentials by accident
 * - `special`: nothing an Orchestrator could have (multicast, documentation, translation, …)
 */
export type RangeKind = 'loopback' | 'private' | 'linkLocal' | 'metadata' | 'special';

/** Networks that are refused unless something opens them; the more telling kind stands first. */
export const deniedRanges: readonly (readonly [RangeKind, string])[] = [
  ['metadata', '169.254.169.254/32'],
  ['metadata', '169.254.170.2/32'],
  ['metadata', '100.100.100.200/32'],
  ['metadata', '168.63.129.16/32'],
  ['metadata', '192.0.0.192/32'],
  ['metadata', 'fd00:ec2::254/128'],
  ['metadata', 'fd20:ce::254/128'],
  ['metadata', 'fe80::a9fe:a9fe/128'],
  ['linkLocal', '169.254.0.0/16'],
  ['linkLocal', 'fe80::/10'],
  ['loopback', '127.0.0.0/8'],
  ['loopback', '::1/128'],
  ['private', '10.0.0.0/8'],
  ['private', '100.64.0.0/10'],
  ['private', '172.16.0.0/12'],
  ['private', '192.168.0.0/16'],
  ['private', 'fc00::/7'],
  ['private', 'fec0::/10'],
  ['special', '0.0.0.0/8'],
  ['special', '192.0.0.0/24'],
  ['special', '192.0.2.0/24'],
  ['special', '192.88.99.0/24'],
  ['special', '198.18.0.0/15'],
  ['special', '198.51.100.0/24'],
  ['special', '203.0.113.0/24'],
  ['special', '224.0.0.0/4'],
  ['special', '240.0.0.0/4'],
  ['special', '::/96'],
  ['special', '::ffff:0:0:0/96'],
  ['special', '64:ff9b::/96'],
  ['special', '64:ff9b:1::/48'],
  ['special', '100::/64'],
  ['special', '2001::/23'],
  ['special', '2001:db8::/32'],
  ['special', '2002::/16'],
  ['special', '3fff::/20'],
  ['special', 'ff00::/8'],
];

/** Reads `10.0.0.0/8`, `fd00::/8` or a single address; null for anything else. */
export function parseCidr(text: string): Cidr | null {
  const match = /^([0-9a-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text.trim());
  const address = match?.[1];
  if (address === undefined) return null;
  const bits = isIPv4(address) ? 32 : isIPv6(address) ? 128 : 0;
  const prefix = match?.[2] === undefined ? bits : Number(match[2]);
  if (bits === 0 || prefix > bits) return null;
  const mapped = bits === 128 && prefix >= 96 ? mappedIPv4(address) : null;
  if (mapped !== null) return { family: 'ipv4', address: mapped, prefix: prefix - 96, text: text.trim() };
  return { family: bits === 32 ? 'ipv4' : 'ipv6', address, prefix, text: text.trim() };
}

/** `::ffff:10.0.0.1` → `10.0.0.1`: to the kernel both are the same peer. Null when it is not a mapped address. */
export function mappedIPv4(address: string): string | null {
  const words = wordsOf(address);
  const mapped = words.slice(0, 5).every((word) => word === 0) && words[5] === 0xffff;
  return mapped ? dotted(words[6], words[7]) : null;
}

/** IPv4 addresses that a translating IPv6 address stands for (NAT64, 6to4, SIIT, compatible); mapped ones apart. */
export function embeddedIPv4(address: string): string | null {
  const words = wordsOf(address);
  const [first, second] = words;
  if (first === 0x2002) return dotted(second, words[2]);
  if (first === 0x64 && second === 0xff9b) return dotted(words[6], words[7]);
  const translated = words.slice(0, 4).every((word) => word === 0) && words[5] === 0;
  const address4 = translated && (words[4] === 0 || words[4] === 0xffff) ? dotted(words[6], words[7]) : null;
  // `::1` looks like the compatible form of 0.0.0.1 but is IPv6's own loopback.
  return address4 === '0.0.0.1' ? null : address4;
}

/** The eight 16-bit words of a valid IPv6 address without zone. */
function wordsOf(address: string): number[] {
  const plain = address.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a: string, b: string, c: string, d: string) =>
      [(Number(a) << 8) | Number(b), (Number(c) << 8) | Number(d)].map((word) => word.toString(16)).join(':'),
  );
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].map((word) => Number.parseInt(word, 16));
}

function dotted(high = 0, low = 0): string {
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}
