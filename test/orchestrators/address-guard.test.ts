import { describe, expect, test } from '@jest/globals';
import { cidrFault } from '../../src/orchestrators/address-guard.js';
import { guardWith, loopbackGuard } from '../support/guard.js';

/** Denied with the strict defaults; each line is a range's first, inner and last addresses, or its spellings. */
const denied = `
0.0.0.0 0.1.2.3 0.255.255.255
10.0.0.0 10.1.2.3 10.255.255.255
100.64.0.0 100.100.100.200 100.127.255.255
127.0.0.1 127.0.0.53 127.255.255.255
169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255
172.16.0.0 172.20.10.1 172.31.255.255
168.63.129.16
192.0.0.0 192.0.0.192 192.0.0.255
192.0.2.0 192.0.2.1 192.0.2.255
192.88.99.1
192.168.0.0 192.168.1.1 192.168.255.255
198.18.0.0 198.19.255.255
198.51.100.0 198.51.100.255
203.0.113.0 203.0.113.255
224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.254 255.255.255.255
:: ::1 0:0:0:0:0:0:0:1 ::0001
::127.0.0.1 ::10.0.0.1 ::a9fe:a9fe
::ffff:0:0 ::ffff:127.0.0.1 ::ffff:7f00:1 ::ffff:10.0.0.1 ::ffff:a9fe:a9fe ::ffff:169.254.169.254
::FFFF:192.168.0.1 0:0:0:0:0:ffff:c0a8:1 ::ffff:100.64.0.1 ::ffff:224.0.0.1
::ffff:0:7f00:1 ::ffff:0:10.0.0.1
64:ff9b:: 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b::8.8.8.8
64:ff9b:1:: 64:ff9b:1::1 64:ff9b:1:ffff:ffff:ffff:ffff:ffff
100:: 100::1 100::ffff:ffff:ffff:ffff
2001:: 2001:0:53aa:64c::1 2001:10::1 2001:1ff:ffff::1
2001:db8:: 2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
2002:: 2002:7f00:1:: 2002:a9fe:a9fe:: 2002:808:808::1 2002:ffff:ffff::
3fff::1
fc00:: fc00::1 fd00:ec2::254 fd12:3456::1 fd20:ce::254 fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
fe80:: fe80::1 fe80::1%eth0 fe80::a9fe:a9fe febf::1
fec0::1
ff00:: ff02::1 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
`
  .trim()
  .split(/\s+/);

const fine = `
1.0.0.1 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 93.184.216.34
100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 168.63.129.15 168.63.129.17
191.255.255.255 192.0.1.0 192.0.3.0 192.167.255.255 192.169.0.0
198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
::ffff:8.8.8.8 ::ffff:808:808
64:ff9a::1 100:0:0:1::1 2000::1 2001:200::1 2001:4860:4860::8888 2001:db7::1 2001:db9::1
2003::1 2606:4700:4700::1111 2a00:1450::1 3ffe::1 fbff::1
`
  .trim()
  .split(/\s+/);

const notAddresses = [
  '',
  'localhost',
  '127.1',
  '0x7f.1',
  '2130706433',
  '1.2.3',
  '1.2.3.4.5',
  '[::1]',
  '999.1.1.1',
];

describe('the address guard', () => {
  test('has a table of at least 120 addresses', () => {
    expect(new Set([...denied, ...fine]).size).toBeGreaterThanOrEqual(120);
  });

  test.each(denied)(
    'refuses %s by default, in any mode that opens nothing, and says what to set',
    (address) => {
      const verdict = guardWith().check(address);
      expect(verdict).toEqual({ ok: false, reason: expect.stringContaining('BACKEND_ALLOW_CIDRS') });
    },
  );

  test.each(fine)('lets %s pass', (address) => {
    expect(guardWith().check(address)).toEqual({ ok: true });
  });

  test.each(notAddresses)('refuses "%s", which is no address', (text) => {
    expect(guardWith().check(text).ok).toBe(false);
  });

  test('opens loopback alone where loopback is allowed', () => {
    const guard = loopbackGuard();
    const opened = denied.filter((address) => guard.check(address).ok);
    expect(opened).toEqual([
      '127.0.0.1',
      '127.0.0.53',
      '127.255.255.255',
      '::1',
      '0:0:0:0:0:0:0:1',
      '::0001',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
    ]);
  });

  test('opens private networks alone, and no metadata address in them, where private ones are not denied', () => {
    const guard = guardWith({ privateDenied: false });
    expect(['10.1.2.3', '172.20.10.1', '192.168.1.1', 'fd12::1'].every((one) => guard.check(one).ok)).toBe(
      true,
    );
    const closed = ['127.0.0.1', '100.100.100.200', 'fd00:ec2::254', '169.254.1.1', '2002:a00:1::'];
    expect(closed.filter((one) => guard.check(one).ok)).toEqual([]);
  });

  test('lets ALLOW beat the defaults and DENY beat ALLOW', () => {
    const guard = guardWith({ allow: ['10.0.0.0/8', 'fd12::/16'], deny: ['10.9.0.0/16', '8.8.8.8'] });
    expect(guard.check('10.1.2.3').ok).toBe(true);
    expect(guard.check('::ffff:10.1.2.3').ok).toBe(true);
    expect(guard.check('fd12:1::1').ok).toBe(true);
    expect(guard.check('10.9.0.1')).toEqual({
      ok: false,
      reason: expect.stringContaining('BACKEND_DENY_CIDRS'),
    });
    expect(guard.check('::ffff:10.9.0.1').ok).toBe(false);
    expect(guard.check('8.8.8.8').ok).toBe(false);
    expect(guard.check('192.168.0.1').ok).toBe(false);
  });

  test('opens link-local and metadata addresses by name only', () => {
    const wide = guardWith({ allow: ['0.0.0.0/0', '::/0', '100.64.0.0/10', 'fd00::/8', '169.0.0.0/8'] });
    const byName = ['169.254.169.254', '169.254.7.7', 'fe80::1', 'fd00:ec2::254', '100.100.100.200'];
    expect(byName.filter((one) => wide.check(one).ok)).toEqual([]);
    expect(wide.check('10.1.2.3').ok).toBe(true);
    expect(wide.check('100.100.100.201').ok).toBe(true);
    const named = guardWith({
      allow: ['169.254.169.254', 'fe80::/64', 'fd00:ec2::254/128', '100.100.100.200/32'],
    });
    expect(byName.filter((one) => !named.check(one).ok)).toEqual(['169.254.7.7']);
    expect(guardWith({ allow: ['169.254.0.0/16'] }).check('169.254.7.7').ok).toBe(true);
  });

  test('looks behind an opened translating network at the IPv4 address it stands for', () => {
    const guard = guardWith({ allow: ['64:ff9b::/96', '2002::/16', '::/0'], deny: ['8.8.4.4'] });
    expect(guard.check('64:ff9b::8.8.8.8').ok).toBe(true);
    expect(guard.check('2002:808:808::1').ok).toBe(true);
    const closed = ['64:ff9b::a9fe:a9fe', '64:ff9b::7f00:1', '2002:a00:1::', '::7f00:1', '64:ff9b::8.8.4.4'];
    expect(closed.filter((one) => guard.check(one).ok)).toEqual([]);
    expect(guard.check('::1').ok).toBe(true);
  });

  test('does not let an IPv6 entry speak for IPv4 addresses', () => {
    expect(guardWith({ allow: ['::/0'] }).check('10.0.0.1').ok).toBe(false);
    expect(guardWith({ deny: ['::/0'] }).check('8.8.8.8').ok).toBe(true);
    expect(guardWith({ allow: ['::ffff:10.0.0.0/104'] }).check('10.0.0.1').ok).toBe(true);
  });

  test.each([
    '',
    'ten',
    '10.0.0.0/33',
    '10.0.0/8',
    '::/129',
    '10.0.0.1-10.0.0.9',
    '10.0.0.0/-1',
    '1.2.3.4/8/8',
  ])('calls "%s" no network', (entry) => {
    expect(cidrFault(entry)).toContain(`"${entry}"`);
    expect(() => guardWith({ allow: [entry] })).toThrow('is no network');
  });
});
