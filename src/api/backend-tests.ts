import { findBackend } from '../db/backends.js';
import { listHealth, type HealthRecord } from '../db/health-history.js';
import type { Sql } from '../db/pool.js';
import type { Clients, Target, TestReport } from '../orchestrators/client.js';
import { absentBackend, checkReach } from './backends.js';
import { bodyLimits, hasBody, parseEnvelope, readBytes, textOf } from './body.js';
import { closedSignal } from './task-read.js';
import { idOf, queryOf, sendJson, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { defaultLimit, pageJson, positionOf } from './page.js';
import { refusal } from './problems.js';
import { backendTrial } from './schema-backend.js';
import { noQuery, nothing, pageQuery } from './schema-task.js';

export type BackendTestDeps = {
  readonly db: Sql;
  readonly clients: Clients;
  /** A saved backend with its credential opened. */
  readonly targetOf: (backendId: string) => Promise<Target | null>;
  readonly timeoutMs: number;
};

/** Trying a backend out, saved or not, and what its health was. */
export function backendTestRoutes(deps: BackendTestDeps): readonly Route[] {
  const run = async (exchange: Exchange, target: Target): Promise<void> => {
    const client = deps.clients[target.protocol];
    if (client === undefined)
      throw refusal('validation_failed', `this build does not speak ${target.protocol}`);
    const report = await client.test(target, deps.timeoutMs, closedSignal(exchange));
    sendJson(exchange.res, 200, reportJson(report));
  };

  const testSaved = async (exchange: Exchange): Promise<void> => {
    const { req } = exchange;
    queryOf(req, noQuery);
    if (hasBody(req))
      check(nothing, parseEnvelope(textOf(await readBytes(req, bodyLimits.plain)), { payloads: [] }));
    const id = idOf(exchange);
    const [known, target] = await Promise.all([findBackend(deps.db, id), deps.targetOf(id)]);
    if (known === null || target === null) throw absentBackend();
    await run(exchange, target);
  };

  const testUnsaved = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange.req, noQuery);
    const text = textOf(await readBytes(exchange.req, bodyLimits.plain));
    const input = check(backendTrial, parseEnvelope(text, { payloads: [] }));
    const protocols = Object.keys(deps.clients) as Target['protocol'][];
    // An address that is denied is shown as the step that fails, with the reason.
    checkReach({ protocols, urlObstacle: () => null }, input);
    await run(exchange, {
      id: 'unsaved',
      protocol: input.protocol,
      url: input.url,
      authType: input.auth?.type ?? 'none',
      healthPath: input.health?.path ?? '/health',
      healthExpect: input.health?.expect ?? '2xx',
      configVersion: 0,
      secret: input.auth?.secret ?? null,
    });
  };

  const history = async (exchange: Exchange): Promise<void> => {
    const { limit = defaultLimit, cursor } = queryOf(exchange.req, pageQuery);
    const id = idOf(exchange);
    const before = positionOf(cursor);
    if ((await findBackend(deps.db, id)) === null) throw absentBackend();
    const rows = await listHealth(deps.db, id, before?.at ?? null, limit + 1);
    sendJson(
      exchange.res,
      200,
      pageJson(rows, limit, recordJson, (row) => ({ at: Number(row.id), id })),
    );
  };

  return [
    { method: 'POST', path: '/v1/backends/test', scope: 'backends:write', handle: testUnsaved },
    { method: 'POST', path: '/v1/backends/:id/test', scope: 'backends:write', handle: testSaved },
    { method: 'GET', path: '/v1/backends/:id/health', scope: 'backends:read', handle: history },
  ];
}

function reportJson({ ok, latencyMs, steps }: TestReport): string {
  return JSON.stringify({
    ok,
    latencyMs,
    steps: steps.map(({ name, ok: isOk, ms, detail }) => ({ name, ok: isOk, ms, detail })),
  });
}

function recordJson({ at, ok, status, latencyMs, error }: HealthRecord): string {
  return JSON.stringify({ at, ok, status, latencyMs, error });
}
