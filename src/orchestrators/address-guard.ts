import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { DispatcherError } from '../domain/errors.js';
import {
  deniedRanges,
  embeddedIPv4,
  mappedIPv4,
  parseCidr,
  type Cidr,
  type RangeKind,
} from './address-ranges.js';

export type AddressVerdict = { readonly ok: true } | { readonly ok: false; readonly reason: string };

/** Decides whether a backend may have an address; `reason` is a sentence that names the setting which opens it. */
export type AddressGuard = {
  /** @param address an IPv4 or IPv6 literal without brackets; a zone (`%eth0`) is ignored */
  check(address: string): AddressVerdict;
};

export type GuardSettings = {
  /** Networks of BACKEND_ALLOW_CIDRS: they beat the defaults. */
  readonly allow: readonly string[];
  /** Networks of BACKEND_DENY_CIDRS: they beat everything. */
  readonly deny: readonly string[];
  readonly loopbackAllowed: boolean;
  readonly privateDenied: boolean;
};

/** What is wrong with an entry of an address list; null when nothing is. */
export function cidrFault(entry: string): string | null {
  return parseCidr(entry) === null ? `"${entry}" is no network such as 10.1.0.0/16 or fd12::/48` : null;
}

/**
 * Promise P16: the service never connects to a disallowed address. DENY beats ALLOW beats the defaults; link-local
 * and metadata addresses are opened by name alone.
 *
 * Lists are kept apart by family, as `BlockList` lets a rule for `::/0` or `::ffff:0:0/96` match every IPv4 address.
 * @throws DispatcherError `config_invalid` naming every entry that is no network
 */
export function makeAddressGuard(settings: GuardSettings): AddressGuard {
  const allowed = parseAll(settings.allow);
  const denied = makeMatcher(parseAll(settings.deny));
  const ranges = deniedRanges.map(([kind, text]) => ({ kind, text, has: makeMatcher(parseAll([text])) }));
  const byName = parseAll(deniedRanges.filter(([kind]) => opensByName(kind)).map(([, text]) => text));
  const named = makeMatcher(allowed.filter((entry) => byName.some((range) => liesInside(entry, range))));
  const open = makeMatcher(allowed);

  const checkPlain = (address: string, shown: string): AddressVerdict => {
    if (denied(address)) return refuse(`${shown} is in BACKEND_DENY_CIDRS; take it out there to allow it`);
    const range = ranges.find((one) => one.has(address));
    if (range === undefined) return { ok: true };
    if (opensByName(range.kind)) {
      return named(address) ? { ok: true } : refuse(sentence(shown, range.kind, range.text));
    }
    if (range.kind === 'loopback' && settings.loopbackAllowed) return { ok: true };
    if (range.kind === 'private' && !settings.privateDenied) return { ok: true };
    return open(address) ? { ok: true } : refuse(sentence(shown, range.kind, range.text));
  };

  return {
    check: (text) => {
      const address = text.replace(/%.*$/, '');
      if (isIPv4(address)) return checkPlain(address, address);
      if (!isIPv6(address)) return refuse('what the connection should go to is no IP address');
      const mapped = mappedIPv4(address);
      if (mapped !== null) return checkPlain(mapped, address);
      const verdict = checkPlain(address, address);
      // An opened NAT64 or 6to4 network must not be a way round the rules for the IPv4 address behind it.
      const embedded = verdict.ok ? embeddedIPv4(address) : null;
      return embedded === null ? verdict : checkPlain(embedded, address);
    },
  };
}

function opensByName(kind: RangeKind): boolean {
  return kind === 'linkLocal' || kind === 'metadata';
}

function liesInside(entry: Cidr, range: Cidr): boolean {
  return entry.family === range.family && entry.prefix >= range.prefix && makeMatcher([range])(entry.address);
}

function makeMatcher(cidrs: readonly Cidr[]): (address: string) => boolean {
  const lists = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const { family, address, prefix } of cidrs) lists[family].addSubnet(address, prefix, family);
  return (address) => {
    const family = isIPv4(address) ? 'ipv4' : 'ipv6';
    return lists[family].check(address, family);
  };
}

function parseAll(entries: readonly string[]): Cidr[] {
  const faults = entries.map(cidrFault).filter((fault) => fault !== null);
  if (faults.length > 0) throw new DispatcherError('config_invalid', faults.join('; '));
  return entries.map(parseCidr).filter((cidr) => cidr !== null);
}

function refuse(reason: string): AddressVerdict {
  return { ok: false, reason };
}

const kindNames: Record<RangeKind, string> = {
  loopback: 'a loopback address',
  private: 'a private address',
  linkLocal: 'a link-local address',
  metadata: 'a cloud metadata address',
  special: 'an address that no server on the Internet has',
};

function sentence(address: string, kind: RangeKind, range: string): string {
  const what = `${address} is ${kindNames[kind]} (${range})`;
  return opensByName(kind)
    ? `${what}; only an entry of BACKEND_ALLOW_CIDRS that lies inside ${range} allows it`
    : `${what}; put it, or the network it is in, into BACKEND_ALLOW_CIDRS to allow it`;
}
