import type { Sql } from './pool.js';

export type HealthRecord = {
  readonly id: string;
  readonly at: Date;
  readonly ok: boolean;
  /** What the backend's status was after this test. */
  readonly status: string;
  readonly latencyMs: number | null;
  readonly error: string | null;
};

const listStatement = {
  name: 'list-health',
  text: `
SELECT id, at, ok, status, latency_ms AS "latencyMs", error FROM backend_health
WHERE backend_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
};

/** Newest first. */
export async function listHealth(
  sql: Sql,
  backendId: string,
  before: number | null,
  limit: number,
): Promise<readonly HealthRecord[]> {
  return sql.query<HealthRecord>(listStatement, [backendId, before, limit]);
}
