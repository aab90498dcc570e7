import { findBrokenPromises } from '../db/ready.js';
import type { Sql } from '../db/pool.js';
import { sendJson, type Route } from './exchange.js';

export type ReadinessDeps = {
  /** Null while the process starts: it waits for the database or its schema. */
  readonly db: () => Sql | null;
  readonly isDraining: () => boolean;
  /** Shown, never decisive: Valkey out of reach costs time, no task (I1). */
  readonly valkey: () => Promise<Readonly<Record<string, unknown>>>;
};

/** `/livez` says that the process runs, `/readyz` whether it should be given requests. */
export function healthRoutes(deps: ReadinessDeps): readonly Route[] {
  return [
    {
      method: 'GET',
      path: '/livez',
      scope: 'anyone',
      handle: ({ res }) => sendJson(res, 200, '{"status":"ok"}'),
    },
    {
      method: 'GET',
      path: '/readyz',
      scope: 'anyone',
      async handle({ res }) {
        res.setHeader('Cache-Control', 'no-store');
        const reason = await obstacle(deps);
        if (reason === null) {
          sendJson(res, 200, JSON.stringify({ status: 'ready', valkey: await deps.valkey() }));
          return;
        }
        sendJson(res, 503, JSON.stringify({ status: 'not_ready', reason }), { 'Retry-After': '1' });
      },
    },
  ];
}

async function obstacle(deps: ReadinessDeps): Promise<string | null> {
  if (deps.isDraining()) return 'the process is shutting down';
  const db = deps.db();
  if (db === null) return 'the process is starting: it waits for the database and its schema';
  try {
    const broken = await findBrokenPromises(db);
    return broken.length === 0 ? null : `the database would lose what it has committed: ${broken.join(', ')}`;
  } catch {
    return 'the database is out of reach';
  }
}
