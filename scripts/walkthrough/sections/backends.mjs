/** Section 5: backends are made, refused, changed and tested. */
const secret = 'a-very-secret-credential';

const members = [
  'id',
  'name',
  'protocol',
  'url',
  'auth',
  'health',
  'labels',
  'weight',
  'maxConcurrency',
  'maxDispatchesPerMinute',
  'mode',
  'inFlight',
  'createdAt',
  'updatedAt',
];
const healthMembers = ['status', 'reason', 'checkedAt', 'latencyMs', 'consecutiveFailures', 'lastError'];

/** @type {[string, (t: any) => Promise<void>][]} */
export const backends = [
  [
    'A backend is made: 201, `Location`; the secret is never shown; one good ping makes it up',
    async (t) => {
      const orchestrator = await t.orchestrator();
      const { json, headers, text } = await t.ask('POST', '/v1/backends', {
        body: {
          name: 'made here',
          protocol: 'gateway',
          url: orchestrator.url,
          auth: { type: 'bearer', secret },
          labels: { region: 'eu' },
        },
        expect: 201,
        heads: ['location'],
      });
      t.after(() => t.admin('DELETE', `/v1/backends/${json.id}?force=true`));
      t.is('Location', headers.location, `/v1/backends/${json.id}`);
      t.ok('id', /^bknd_[A-Za-z0-9_]+$/.test(json.id), json.id);
      t.is(
        'members',
        [
          ...members.filter((name) => !(name in json)),
          ...healthMembers.filter((name) => !(name in json.health)),
        ],
        [],
      );
      t.is(
        'defaults',
        [
          json.weight,
          json.mode,
          json.inFlight,
          json.health.path,
          json.health.expect,
          json.health.status,
          json.health.reason,
        ],
        [1, 'active', 0, '/health', '2xx', 'unknown', null],
      );
      t.is('auth', json.auth, { type: 'bearer' });
      t.ok('no secret', !text.includes(secret), text);
      const up = await t.until(
        'it is up',
        async () => {
          const read = (await t.admin('GET', `/v1/backends/${json.id}`)).json;
          return read.health.status === 'up' ? read : null;
        },
        3000,
      );
      t.ok(
        'latency and time',
        typeof up.health.latencyMs === 'number' && up.health.checkedAt !== null,
        up.health,
      );
      const [listed] = (
        await t.ask('GET', '/v1/backends?name=made%20here', { expect: 200, pick: ['id', 'name', 'health'] })
      ).json.data;
      t.is('found by its name', listed?.id, json.id);
      await t.refuse('POST', '/v1/backends', 409, 'backend_name_taken', {
        body: { name: 'made here', protocol: 'gateway', url: orchestrator.url },
      });
    },
  ],
  [
    'What a backend may not be is 422, all faults at once',
    async (t) => {
      await t.refuse('POST', '/v1/backends', 422, null, {
        body: {
          protocol: 'smtp',
          url: 'ftp://x',
          weight: 0,
          mode: 'off',
          labels: { a: 1 },
          maxConcurrency: 0,
          auth: { type: 'bearer' },
          nmae: 'x',
        },
        pointers: [
          '/name',
          '/protocol',
          '/url',
          '/weight',
          '/mode',
          '/labels/a',
          '/maxConcurrency',
          '/auth/secret',
          '/nmae',
        ],
      });
      for (const url of [
        '',
        'x',
        'http://',
        'http://u:p@127.0.0.1',
        'file:///etc/passwd',
        'http://127.0.0.1:99999',
        '//127.0.0.1',
      ]) {
        await t.refuse('POST', '/v1/backends', 422, null, {
          body: { name: 'never', protocol: 'gateway', url },
          pointers: ['/url'],
          quiet: true,
        });
      }
      await t.refuse('GET', '/v1/backends/bknd_0', 404, 'not_found', { quiet: true });
      await t.refuse('PATCH', '/v1/backends/bknd_0', 404, 'not_found', { body: { weight: 2 }, quiet: true });
      await t.refuse('DELETE', '/v1/backends/bknd_0', 404, 'not_found', { quiet: true });
      await t.refuse('GET', '/v1/backends/bknd_0/health', 404, 'not_found', { quiet: true });
      await t.refuse('POST', '/v1/backends/bknd_0/test', 404, 'not_found', { quiet: true });
    },
  ],
  [
    'Cloud metadata and denied addresses are refused, and it is said why',
    async (t) => {
      for (const url of [
        'http://169.254.169.254/',
        'http://127.0.0.66:8080',
        'http://[fe80::1]/',
        'http://[::ffff:169.254.169.254]/',
        'http://0xa9fea9fe/',
        'http://2852039166/',
      ]) {
        const { json } = await t.refuse('POST', '/v1/backends', 422, null, {
          body: { name: 'never', protocol: 'gateway', url },
          pointers: ['/url'],
          quiet: !url.startsWith('http://169'),
        });
        t.ok('why', json?.errors?.[0]?.detail?.length > 20, json?.errors);
      }
      const { json } = await t.ask('POST', '/v1/backends/test', {
        body: { protocol: 'gateway', url: 'http://169.254.169.254/' },
        expect: 200,
      });
      t.is(
        'the test says why',
        [json.ok, json.steps.some(({ ok, detail }) => !ok && detail.length > 10)],
        [false, true],
      );
    },
  ],
  [
    'PATCH changes any of it; a new url is pinged at once; a name that is taken is 409',
    async (t) => {
      const place = await t.place();
      const other = await t.place();
      const elsewhere = await t.orchestrator();
      const body = {
        weight: 2.5,
        labels: { region: 'us' },
        maxConcurrency: 7,
        maxDispatchesPerMinute: 600,
        mode: 'draining',
      };
      const { json } = await t.ask('PATCH', `/v1/backends/${place.id}`, { body, expect: 200 });
      t.is(
        'changed',
        [json.weight, json.labels, json.maxConcurrency, json.maxDispatchesPerMinute, json.mode],
        Object.values(body),
      );
      const moved = await t.ask('PATCH', `/v1/backends/${place.id}`, {
        body: { url: elsewhere.url },
        expect: 200,
        pick: ['id', 'url', 'health'],
      });
      t.is('what was known of its health says nothing of another place', moved.json.health.status, 'unknown');
      await t.until(
        'the new place is pinged',
        () => elsewhere.requests.some(({ url }) => url === '/health'),
        2000,
      );
      await t.refuse('PATCH', `/v1/backends/${place.id}`, 409, 'backend_name_taken', {
        body: { name: other.name },
      });
      await t.refuse('PATCH', `/v1/backends/${place.id}`, 422, null, {
        body: { weight: -1, colour: 1 },
        pointers: ['/weight', '/colour'],
        quiet: true,
      });
    },
  ],
  [
    '`POST …/test`, saved and unsaved, names each step',
    async (t) => {
      const place = await t.place();
      const { json } = await t.ask('POST', `/v1/backends/${place.id}/test`, { expect: 200 });
      t.is(
        'steps',
        [json.ok, json.steps.map(({ name, ok }) => [name, ok])],
        [
          true,
          [
            ['resolve', true],
            ['connect', true],
            ['health', true],
            ['auth', true],
          ],
        ],
      );
      t.is(
        'members of a step',
        Object.keys(json.steps[0]).toSorted(),
        ['detail', 'ms', 'name', 'ok'].toSorted(),
      );
      const { url } = await t.orchestrator();
      const gone = await t.ask('POST', '/v1/backends/test', {
        body: { protocol: 'gateway', url: 'http://127.0.0.1:9' },
        expect: 200,
      });
      t.is('nobody listens', [gone.json.ok, gone.json.steps.at(-1).ok], [false, false]);
      const unsaved = await t.ask('POST', '/v1/backends/test', {
        body: { name: 'x', protocol: 'gateway', url, auth: { type: 'apiKey', secret } },
        expect: 200,
        quiet: true,
      });
      t.is('unsaved', unsaved.json.ok, true);
      t.ok('no secret', !unsaved.text.includes(secret));
      t.is('nothing was saved', (await t.admin('GET', '/v1/backends?name=x')).json.data, []);
      await t.refuse('POST', '/v1/backends/test', 422, null, {
        body: { protocol: 'gateway' },
        pointers: ['/url'],
        quiet: true,
      });
    },
  ],
];
