import {
  assess,
  trialDelayMs,
  type BackendLesson,
  type HealthPolicy,
  type ProbeResult,
} from '../domain/health.js';
import type { Health } from '../domain/backend.js';
import type { Db, Sql } from './pool.js';
import { backendColumns, backendOf, type BackendRow } from './backend-row.js';

/** A backend with its sealed credential: what a process needs to call it. */
export type BackendWithSecret = ReturnType<typeof backendOf> & {
  readonly sealedSecret: string | null;
};

const withSecrets = {
  name: 'backends-with-secrets',
  text: `SELECT ${backendColumns('b')}, b.auth_secret FROM backends b WHERE b.id = ANY($1)`,
};

/** Deleted ones too: their agents may have to be killed. */
export async function findBackendsWithSecrets(
  sql: Sql,
  ids: readonly string[],
): Promise<readonly BackendWithSecret[]> {
  const rows = await sql.query<BackendRow>(withSecrets, [ids]);
  return rows.map((row) => ({
    ...backendOf(row),
    sealedSecret: row.auth_secret,
    refusedSends: row.refused_sends,
  }));
}

const lockStatement = {
  name: 'lock-backend-health',
  text: `
SELECT ${backendColumns('b')}, clock_timestamp() AS now FROM backends b
WHERE b.id = $1 AND b.deleted_at IS NULL FOR UPDATE`,
};

const saveHealthStatement = {
  name: 'save-health',
  text: `
UPDATE backends SET health_status = $2, health_reason = $3, checked_at = $4, latency_ms = $5,
  consecutive_failures = $6, consecutive_successes = $7, last_error = $8,
  refused_sends = CASE WHEN $2 = 'up' THEN 0 ELSE refused_sends END
WHERE id = $1`,
};

const historyStatement = {
  name: 'add-health-history',
  text: `INSERT INTO backend_health (backend_id, at, ok, status, latency_ms, error) VALUES ($1, $2, $3, $4, $5, $6)`,
};

/** How a probe changed the status; null when the backend is gone or its configuration is not the one that was seen. */
export type ProbeSaved = { readonly before: Health; readonly after: Health; readonly name: string } | null;

/** Saves a probe's verdict and its line of history, if the backend is still configured as the probe saw it. */
export function saveProbe(
  db: Db,
  backendId: string,
  configVersion: number,
  probe: ProbeResult,
  policy: HealthPolicy,
): Promise<ProbeSaved> {
  return db.transaction(async (tx) => {
    const [row] = await tx.query<BackendRow & { now: Date }>(lockStatement, [backendId]);
    if (row === undefined || row.config_version !== configVersion) return null;
    const before = backendOf(row).health;
    const after = assess(before, probe, policy, row.now);
    await tx.query(saveHealthStatement, [
      backendId,
      after.status,
      after.reason,
      after.checkedAt,
      after.latencyMs,
      after.consecutiveFailures,
      after.consecutiveSuccesses,
      after.lastError,
    ]);
    await tx.query(historyStatement, [
      backendId,
      row.now,
      probe.ok,
      after.status,
      after.latencyMs,
      probe.error,
    ]);
    return { before, after, name: row.name };
  });
}

/** A lesson of one send, bound to the configuration that the send used. */
export type TaughtLesson = {
  readonly backendId: string;
  readonly configVersion: number;
  readonly lesson: BackendLesson;
};

const lessonStatement = {
  name: 'save-lessons',
  text: `
UPDATE backends b SET
  refused_sends = CASE i.kind WHEN 'refused' THEN b.refused_sends + i.times WHEN 'blocked' THEN b.refused_sends ELSE 0 END,
  blocked_until = CASE WHEN i.kind = 'blocked' THEN greatest(b.blocked_until, i.until) ELSE b.blocked_until END,
  health_status = CASE
    WHEN i.kind = 'misconfigured' THEN 'down'
    WHEN i.kind = 'refused' AND b.refused_sends + i.times >= $2 THEN 'down'
    WHEN i.kind IN ('fine', 'blocked') AND b.health_reason = 'misconfigured' THEN 'up'
    ELSE b.health_status END,
  health_reason = CASE
    WHEN i.kind = 'misconfigured' THEN 'misconfigured'
    WHEN i.kind = 'refused' AND b.refused_sends + i.times >= $2 AND b.health_status <> 'down' THEN 'unreachable'
    WHEN i.kind IN ('fine', 'blocked') AND b.health_reason = 'misconfigured' THEN NULL
    ELSE b.health_reason END,
  last_error = CASE
    WHEN i.kind IN ('misconfigured', 'refused') THEN i.reason
    WHEN i.kind IN ('fine', 'blocked') AND b.health_reason = 'misconfigured' THEN NULL
    ELSE b.last_error END,
  consecutive_successes = CASE WHEN i.kind IN ('misconfigured', 'refused') THEN 0 ELSE b.consecutive_successes END,
  trial_failures = CASE i.kind WHEN 'misconfigured' THEN b.trial_failures + 1 WHEN 'refused' THEN b.trial_failures ELSE 0 END,
  trial_at = CASE i.kind
    WHEN 'misconfigured' THEN clock_timestamp() + least($3::float8 * power(2, least(b.trial_failures, 7)), 300000) * interval '1 millisecond'
    WHEN 'refused' THEN b.trial_at ELSE NULL END
FROM json_to_recordset($1) AS i(id text, config_version integer, kind text, times integer, until timestamptz, reason text)
WHERE b.id = i.id AND b.config_version = i.config_version
RETURNING b.id, b.health_status, b.health_reason`,
};

/**
 * Saves what sends taught about their backends: `fall` sends in a row that were not received mark one down
 * without waiting for pings, a refused credential or route marks it misconfigured, a Retry-After holds all of it.
 */
export async function saveLessons(sql: Sql, lessons: readonly TaughtLesson[], fall: number): Promise<void> {
  const rows = foldLessons(lessons);
  if (rows.length > 0) await sql.query(lessonStatement, [JSON.stringify(rows), fall, trialDelayMs(0)]);
}

/** One row a backend: the last word counts, and refusals in a row are counted together. */
function foldLessons(lessons: readonly TaughtLesson[]): Record<string, unknown>[] {
  const byBackend = new Map<string, Record<string, unknown> & { kind: string; times: number }>();
  for (const { backendId, configVersion, lesson } of lessons) {
    const before = byBackend.get(backendId);
    const times = lesson.kind === 'refused' && before?.kind === 'refused' ? before.times + 1 : 1;
    byBackend.set(backendId, {
      id: backendId,
      config_version: configVersion,
      kind: lesson.kind,
      times,
      until: lesson.kind === 'blocked' ? lesson.until : null,
      reason: 'reason' in lesson ? lesson.reason : null,
    });
  }
  return [...byBackend.values()].sort((a, b) => (String(a['id']) < String(b['id']) ? -1 : 1));
}

const idsStatement = {
  name: 'list-backend-ids',
  text: 'SELECT id FROM backends WHERE deleted_at IS NULL ORDER BY id',
};

export async function listBackendIds(sql: Sql): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(idsStatement);
  return rows.map(({ id }) => id);
}
