import type { Backend, BackendMode, HealthReason, HealthStatus, Protocol } from '../domain/backend.js';
import { columnsOf, makeReader } from './columns.js';

export type BackendRow = {
  id: string;
  name: string;
  protocol: Protocol;
  url: string;
  auth_type: 'bearer' | 'apiKey' | 'none';
  auth_secret: string | null;
  health_path: string;
  health_expect: '2xx' | 'any';
  labels: Record<string, string>;
  weight: number;
  max_concurrency: number | null;
  max_dispatches_per_minute: number | null;
  mode: BackendMode;
  config_version: number;
  health_status: HealthStatus;
  health_reason: HealthReason | null;
  checked_at: Date | null;
  latency_ms: number | null;
  consecutive_failures: number;
  consecutive_successes: number;
  last_error: string | null;
  refused_sends: number;
  blocked_until: Date | null;
  next_send_at: Date | null;
  trial_at: Date | null;
  trial_failures: number;
  deleted_at: Date | null;
  created_at: Date;
  updated_at: Date;
};

/** Without `auth_secret`: whoever needs it asks for it by name. */
const names = `id name protocol url auth_type health_path health_expect labels weight max_concurrency
  max_dispatches_per_minute mode config_version health_status health_reason checked_at latency_ms consecutive_failures
  consecutive_successes last_error refused_sends blocked_until next_send_at trial_at trial_failures deleted_at created_at
  updated_at`.split(/\s+/);

const read = makeReader<Omit<BackendRow, 'auth_secret'>>(names);

export const backendColumns = (alias: string): string => columnsOf(names, alias);

export function backendOf(row: Omit<BackendRow, 'auth_secret'>): Backend {
  return {
    ...read(row),
    health: {
      status: row.health_status,
      reason: row.health_reason,
      checkedAt: row.checked_at,
      latencyMs: row.latency_ms,
      consecutiveFailures: row.consecutive_failures,
      consecutiveSuccesses: row.consecutive_successes,
      lastError: row.last_error,
    },
  };
}
