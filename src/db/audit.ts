import type { Sql } from './pool.js';

/** A change by a person or a key: who, what, to what, why. Never a secret, never a payload. */
export type AuditEntry = {
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly workspaceId?: string | null;
  readonly reason?: string | null;
  readonly detail?: Readonly<Record<string, unknown>>;
};

export type AuditRecord = {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly target: string;
  readonly workspaceId: string | null;
  readonly reason: string | null;
  readonly detail: Readonly<Record<string, unknown>>;
};

/** The list goes by id: the instant is read where the id is taken, not at the transaction's begin, so both agree. */
const insertStatement = {
  name: 'insert-audit',
  text: `
INSERT INTO audit_log (at, actor, action, target, workspace_id, reason, detail)
SELECT clock_timestamp(), actor, action, target, workspace_id, reason, detail FROM json_to_recordset($1)
  AS i(actor text, action text, target text, workspace_id text, reason text, detail json)`,
};

const listStatement = {
  name: 'list-audit',
  text: `
SELECT id, at, actor, action, target, workspace_id AS "workspaceId", reason, coalesce(detail, '{}') AS detail
FROM audit_log WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`,
};

export async function insertAudit(sql: Sql, entries: readonly AuditEntry[]): Promise<void> {
  const rows = entries.map(({ actor, action, target, workspaceId, reason, detail }) => ({
    actor,
    action,
    target,
    reason,
    detail,
    workspace_id: workspaceId,
  }));
  await sql.query(insertStatement, [JSON.stringify(rows)]);
}

/** Newest first. */
export async function listAudit(
  sql: Sql,
  before: number | null,
  limit: number,
): Promise<readonly AuditRecord[]> {
  return sql.query<AuditRecord>(listStatement, [before, limit]);
}
