import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseEnv } from 'node:util';

export type Settings = {
  readonly projectRoot: string;
  readonly dataDir: string;
  /** Everything that the demo keeps: the repository, the Orchestrator's sessions, the logs. */
  readonly demoDir: string;
  readonly port: number;
  /** Where this machine reaches the API. */
  readonly host: string;
  readonly url: string;
  /** What the service is started with. */
  readonly env: NodeJS.ProcessEnv;
  /** The key with every scope; null when the service will make one. */
  readonly adminKey: string | null;
};

/** Reads what the service reads too: the environment, and below it `.env` of the working directory. */
export function readSettings(): Settings {
  const file = existsSync('.env') ? parseEnv(readFileSync('.env', 'utf8')) : {};
  const env: NodeJS.ProcessEnv = { ...file, ...process.env };
  const dataDir = resolve(env['DATA_DIR'] || '.data');
  const port = Number(env['PORT'] || 3000);
  const listen = env['HOST'] || '127.0.0.1';
  const host = listen === '0.0.0.0' ? '127.0.0.1' : listen === '::' ? '::1' : listen;
  if (env['DATABASE_URL']) {
    // On servers of one's own no key is made, and backends on this machine are refused: the demo needs both.
    env['ADMIN_API_KEY'] ||= `mdk_${randomBytes(32).toString('base64url')}`;
    env['BACKEND_ALLOW_CIDRS'] = [env['BACKEND_ALLOW_CIDRS'], '127.0.0.0/8'].filter(Boolean).join(',');
  }
  return {
    projectRoot: fileURLToPath(new URL('../../../', import.meta.url)),
    dataDir,
    demoDir: join(dataDir, 'demo'),
    port,
    host,
    url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`,
    env,
    adminKey: env['ADMIN_API_KEY'] || null,
  };
}

export const adminKeyFile = (settings: Settings): string => join(settings.dataDir, 'admin-api-key');

/** To be called when the service is ready: by then it has made its key, if it had to. */
export function findAdminKey(settings: Settings): string {
  return settings.adminKey ?? readFileSync(adminKeyFile(settings), 'utf8').trim();
}
