import type { BackendLoad } from '../domain/backend.js';
import type { Fleet } from '../domain/routing.js';
import type { Sql } from './pool.js';
import { backendColumns, backendOf, type BackendRow } from './backend-row.js';

const fleetStatement = {
  name: 'find-fleet',
  text: `
WITH load AS (
  SELECT backend_id, count(*)::integer AS in_flight FROM attempts WHERE ended_at IS NULL GROUP BY backend_id
)
SELECT ${backendColumns('b')}, coalesce(l.in_flight, 0) AS in_flight, clock.now
FROM (SELECT now() AS now) AS clock
LEFT JOIN backends b ON b.deleted_at IS NULL OR b.deleted_at > clock.now - interval '1 day'
LEFT JOIN load l ON l.backend_id = b.id
ORDER BY b.id`,
};

/* A loose index scan: one probe a lane, however many tasks each of them holds. */
const lanesStatement = {
  name: 'held-lanes',
  text: `
WITH RECURSIVE lanes AS (
  (SELECT lane FROM tasks WHERE state = 'PENDING' AND lane IS NOT NULL ORDER BY lane LIMIT 1)
  UNION ALL
  SELECT (SELECT t.lane FROM tasks t
          WHERE t.state = 'PENDING' AND t.lane IS NOT NULL AND t.lane > lanes.lane ORDER BY t.lane LIMIT 1)
  FROM lanes WHERE lanes.lane IS NOT NULL
)
SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT 1000`,
};

/** Without any backend there is one row all the same, for the time. */
type FleetRow = Omit<BackendRow, 'auth_secret' | 'id'> & { id: string | null; in_flight: number; now: Date };

/** Every backend with the attempts whose agent may live on it, and the lanes in which tasks wait; a picture of one instant. */
export async function findFleet(sql: Sql): Promise<Fleet> {
  const [rows, lanes] = await Promise.all([
    sql.query<FleetRow>(fleetStatement),
    sql.query<{ lane: string }>(lanesStatement),
  ]);
  const backends = rows.flatMap(({ id, ...row }): BackendLoad[] =>
    id === null ? [] : [{ ...backendOf({ ...row, id }), inFlight: row.in_flight }],
  );
  return { now: rows[0]?.now ?? new Date(0), backends, heldLanes: lanes.map(({ lane }) => lane) };
}
