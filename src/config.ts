import { z } from 'zod';

import {
  cidrs,
  dayMs,
  fault,
  isKey,
  milliseconds,
  trustProxy,
  url,
  wholeNumber,
  yesOrNo,
} from './config-rules.js';

const logLevels = ['error', 'warn', 'info', 'http', 'verbose', 'debug', 'silly'] as const;

const variables = z.object({
  PORT: wholeNumber(0, 65_535, 3000),
  HOST: z
    .string()
    .regex(/^[A-Za-z0-9.:_-]+$/, fault('must be an address or a name', '127.0.0.1'))
    .default('127.0.0.1'),
  DATABASE_URL: url(
    ['postgres:', 'postgresql:'],
    'postgres://user:password@127.0.0.1:5432/mosaic',
  ).optional(),
  VALKEY_URL: url(['valkey:', 'valkeys:', 'redis:', 'rediss:'], 'valkey://127.0.0.1:6379').optional(),
  DATA_DIR: z.string().default('.data'),
  VALKEY_SERVER: z.string().optional(),
  PUBLIC_URL: url(['http:', 'https:'], 'https://dispatch.example.com', true).optional(),
  ADMIN_API_KEY: z
    .string()
    .regex(
      /^[!-~]{16,512}$/,
      fault('must be 16 to 512 printable characters without blanks', 'the output of: openssl rand -hex 24'),
    )
    .optional(),
  ENCRYPTION_KEY: z
    .string()
    .refine(
      (text) => text.split(',').every((key) => isKey(key.trim())),
      fault(
        'must be one or more keys of 32 bytes in base64, separated by commas',
        'the output of: openssl rand -base64 32',
      ),
    )
    .transform((text) => text.replaceAll(/\s/g, ''))
    .optional(),
  BACKEND_ALLOW_CIDRS: cidrs,
  BACKEND_DENY_CIDRS: cidrs,
  HEALTH_INTERVAL_MS: milliseconds(10_000, 100),
  HEALTH_TIMEOUT_MS: milliseconds(2_000),
  HEALTH_RISE: wholeNumber(1, 100, 2),
  HEALTH_FALL: wholeNumber(1, 100, 3),
  DISPATCH_TIMEOUT_MS: milliseconds(20_000),
  DISPATCH_MAX_ATTEMPTS: wholeNumber(1, 100, 3),
  DISPATCH_MAX_SENDS: wholeNumber(1, 100, 8),
  DISPATCH_BACKOFF_BASE_MS: milliseconds(1_000),
  DISPATCH_BACKOFF_MAX_MS: milliseconds(300_000),
  TASK_START_TIMEOUT_MS: milliseconds(900_000, 0),
  TASK_HEARTBEAT_TIMEOUT_MS: milliseconds(0, 0),
  TASK_RUN_TIMEOUT_MS: milliseconds(dayMs, 0),
  SWEEP_INTERVAL_MS: milliseconds(1_000, 50),
  RECONCILE_INTERVAL_MS: milliseconds(10_000, 50),
  RECONCILE_SILENCE_MS: milliseconds(60_000),
  GIVE_UP_AFTER_MS: milliseconds(3_600_000),
  RETENTION_DAYS: wholeNumber(1, 3_650, 30),
  QUEUE_PREFIX: z
    .string()
    .regex(
      /^[!-9;-~]{1,64}$/,
      fault('must be 1 to 64 printable characters without blanks and colons', '{mosaic}'),
    )
    .default('{mosaic}'),
  BULL_BOARD_WRITABLE: yesOrNo,
  TRUST_PROXY: trustProxy,
  SHUTDOWN_TIMEOUT_MS: wholeNumber(1_000, 600_000, 25_000),
  LOG_LEVEL: z.enum(logLevels, fault(`must be one of ${logLevels.join(', ')}`, 'info')).default('info'),
});

type Environment = Readonly<Record<string, string | undefined>>;
export type ConfigFault = { readonly variable: string; readonly message: string };
export type Config = ReturnType<typeof shape>;
export type ConfigResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly faults: readonly ConfigFault[] };

/** Reads the whole configuration; an empty variable counts as unset, and names that are not ours are not looked at. */
export function loadConfig(env: Environment): ConfigResult {
  const given = Object.fromEntries(
    Object.keys(variables.shape).flatMap((name) => {
      const value = env[name]?.trim();
      return value === undefined || value === '' ? [] : [[name, value]];
    }),
  );
  const read = variables.safeParse(given);
  const faults = [
    ...(read.success
      ? []
      : read.error.issues.map((issue) => ({ variable: String(issue.path[0]), message: issue.message }))),
    ...findConflicts(given),
  ];
  if (!read.success || faults.length > 0) return { ok: false, faults };
  return { ok: true, config: shape(read.data) };
}

/** Rules between variables; they look at the texts, so that they are told together with all other faults. */
function findConflicts(given: Environment): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const example = 'for example https://dispatch.example.com';
  if (given['PUBLIC_URL'] === undefined && ['0.0.0.0', '::'].includes(given['HOST'] ?? '')) {
    faults.push({
      variable: 'PUBLIC_URL',
      message: `must be set when HOST is ${given['HOST']}, for no Orchestrator can call that address back, ${example}`,
    });
  }
  if (given['PUBLIC_URL'] === undefined && Number(given['PORT'] ?? '3000') === 0) {
    faults.push({
      variable: 'PUBLIC_URL',
      message: `must be set when PORT is 0, for the port is not known beforehand, ${example}`,
    });
  }
  if (given['DATABASE_URL'] !== undefined && given['ENCRYPTION_KEY'] === undefined) {
    faults.push({
      variable: 'ENCRYPTION_KEY',
      message:
        'must be set when DATABASE_URL is, for every process has to seal and sign with the same key, for example the output of: openssl rand -base64 32',
    });
  }
  const [base, max] = [
    Number(given['DISPATCH_BACKOFF_BASE_MS'] ?? 1_000),
    Number(given['DISPATCH_BACKOFF_MAX_MS'] ?? 300_000),
  ];
  if (base > max) {
    faults.push({
      variable: 'DISPATCH_BACKOFF_MAX_MS',
      message: `must not be less than DISPATCH_BACKOFF_BASE_MS (${base}), for example ${base * 300}`,
    });
  }
  return faults;
}

function shape(read: z.output<typeof variables>) {
  const host = read.HOST.includes(':') ? `[${read.HOST}]` : read.HOST;
  return {
    port: read.PORT,
    host: read.HOST,
    databaseUrl: read.DATABASE_URL ?? null,
    valkeyUrl: read.VALKEY_URL ?? null,
    dataDir: read.DATA_DIR,
    valkeyServer: read.VALKEY_SERVER ?? null,
    publicUrl: (read.PUBLIC_URL ?? `http://${host}:${read.PORT}`).replace(/\/+$/, ''),
    adminApiKey: read.ADMIN_API_KEY ?? null,
    encryptionKeys: read.ENCRYPTION_KEY ?? null,
    allowCidrs: read.BACKEND_ALLOW_CIDRS,
    denyCidrs: read.BACKEND_DENY_CIDRS,
    health: {
      intervalMs: read.HEALTH_INTERVAL_MS,
      timeoutMs: read.HEALTH_TIMEOUT_MS,
      rise: read.HEALTH_RISE,
      fall: read.HEALTH_FALL,
    },
    timeouts: {
      dispatchMs: read.DISPATCH_TIMEOUT_MS,
      startMs: read.TASK_START_TIMEOUT_MS,
      heartbeatMs: read.TASK_HEARTBEAT_TIMEOUT_MS,
      runMs: read.TASK_RUN_TIMEOUT_MS,
    },
    retry: {
      maxAttempts: read.DISPATCH_MAX_ATTEMPTS,
      maxSends: read.DISPATCH_MAX_SENDS,
      backoffBaseMs: read.DISPATCH_BACKOFF_BASE_MS,
      backoffMaxMs: read.DISPATCH_BACKOFF_MAX_MS,
      onUnknownOutcome: 'fail' as const,
    },
    sweepIntervalMs: read.SWEEP_INTERVAL_MS,
    reconcile: { intervalMs: read.RECONCILE_INTERVAL_MS, silenceMs: read.RECONCILE_SILENCE_MS },
    giveUpAfterMs: read.GIVE_UP_AFTER_MS,
    retentionMs: read.RETENTION_DAYS * dayMs,
    queuePrefix: read.QUEUE_PREFIX,
    bullBoardWritable: read.BULL_BOARD_WRITABLE,
    trustProxy: read.TRUST_PROXY as boolean | number | string,
    shutdownTimeoutMs: read.SHUTDOWN_TIMEOUT_MS,
    logLevel: read.LOG_LEVEL,
  };
}

/** The environment, with what a `.env` in the working directory adds; what is set already wins. */
export function readEnvironment(): NodeJS.ProcessEnv {
  try {
    process.loadEnvFile();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      printFaults([{ variable: '.env', message: `cannot be read (${(error as Error).message})` }]);
    }
  }
  return process.env;
}

/** With `servers`, a process of the Procfile: it must be told where both servers are. All faults at once, exit 78. */
export function readConfigOrExit(needs: { readonly servers: boolean }): Config {
  const env = readEnvironment();
  const result = loadConfig(env);
  const missing = needs.servers
    ? (['DATABASE_URL', 'VALKEY_URL'] as const).filter((name) => (env[name] ?? '').trim() === '')
    : [];
  const faults = [
    ...missing.map((variable) => ({
      variable,
      message: 'must be set: only npm start and the demo bring servers of their own',
    })),
    ...(result.ok ? [] : result.faults),
  ];
  if (faults.length > 0 || !result.ok) printFaults(faults);
  return result.config;
}

/** `EX_CONFIG` of sysexits.h. */
const configurationExitCode = 78;

function printFaults(faults: readonly ConfigFault[]): never {
  const lines = faults.map(({ variable, message }) => `  ${variable} ${message}`);
  process.stderr.write(
    `the configuration has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}:\n${lines.join('\n')}\n`,
  );
  process.exit(configurationExitCode);
}
