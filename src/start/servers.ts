import { join, resolve } from 'node:path';
import type { Config } from '../config.js';
import { openEmbedded } from '../embedded/open.js';
import { keepAdminApiKey, keepEncryptionKey } from '../embedded/secrets.js';

export type ServerFacts = {
  readonly name: 'Postgres' | 'Valkey';
  readonly kind: string;
  readonly place: string;
};

export type Servers = {
  /** What the processes get on top of the environment. */
  readonly env: Readonly<Record<string, string>>;
  readonly facts: readonly ServerFacts[];
  readonly adminApiKey: {
    readonly value: string;
    readonly made: boolean;
    readonly file: string | null;
  } | null;
  /** Resolves with the reason when embedded servers are gone for good; never where there are none. */
  readonly lost: Promise<string>;
  close(): Promise<void>;
};

const loopback = ['127.0.0.0/8', '::1/128'];

/** Starts what has no URL, and makes the keys that a service without a database of its own has not been given. */
export async function openServers(config: Config, log: (text: string) => void): Promise<Servers> {
  const dataDir = resolve(config.dataDir);
  const want = { postgres: config.databaseUrl === null, valkey: config.valkeyUrl === null };
  const isGiven = !want.postgres && !want.valkey;
  const { valkeyServer } = config;
  const embedded = isGiven ? null : await openEmbedded({ dataDir, valkeyServer, want, log });
  const versions = embedded?.versions ?? { postgres: null, valkey: null };
  const { databaseUrl = '', valkeyUrl = '' } = urlsOf(config, embedded);
  const adminApiKey = chooseAdminApiKey(config, dataDir, want.postgres);
  return {
    env: {
      DATABASE_URL: databaseUrl,
      VALKEY_URL: valkeyUrl,
      DATA_DIR: dataDir,
      ENCRYPTION_KEY: config.encryptionKeys ?? keepEncryptionKey(dataDir).value,
      BACKEND_ALLOW_CIDRS: [...config.allowCidrs, ...(want.postgres ? loopback : [])].join(','),
      ...(adminApiKey === null ? {} : { ADMIN_API_KEY: adminApiKey.value }),
    },
    facts: [
      describe('Postgres', versions.postgres, databaseUrl, config.dataDir),
      describe('Valkey', versions.valkey, valkeyUrl, config.dataDir),
    ],
    adminApiKey,
    lost: embedded?.lost ?? new Promise<string>(() => undefined),
    close: async () => embedded?.close(),
  };
}

type Urls = { readonly databaseUrl: string | null; readonly valkeyUrl: string | null };

const urlsOf = (given: Urls, embedded: Urls | null) => ({
  databaseUrl: given.databaseUrl ?? embedded?.databaseUrl ?? undefined,
  valkeyUrl: given.valkeyUrl ?? embedded?.valkeyUrl ?? undefined,
});

function describe(
  name: ServerFacts['name'],
  version: string | null,
  url: string,
  dataDir: string,
): ServerFacts {
  // Of a given URL only the place is shown: the rest of it may be secret.
  const { host, pathname } = new URL(url);
  return version === null
    ? { name, kind: 'given', place: `${host}${pathname}` }
    : { name, kind: `embedded ${version}`, place: join(dataDir, name.toLowerCase()) };
}

function chooseAdminApiKey(config: Config, dataDir: string, isEmbedded: boolean): Servers['adminApiKey'] {
  if (config.adminApiKey !== null) return { value: config.adminApiKey, made: false, file: null };
  if (!isEmbedded) return null;
  return { ...keepAdminApiKey(dataDir), file: join(config.dataDir, 'admin-api-key') };
}
