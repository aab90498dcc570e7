import { insertAudit } from '../db/audit.js';
import {
  findBackend,
  insertBackend,
  listBackends,
  listRunningOn,
  lockBackend,
  removeBackend,
  updateBackend,
  type BackendSettings,
} from '../db/backends.js';
import type { Advanced, AdvanceRequest } from '../db/moves.js';
import { notify } from '../db/notify.js';
import type { Db } from '../db/pool.js';
import type { BackendLoad, Protocol } from '../domain/backend.js';
import type { Logger } from '../logger.js';
import { backendJson, changedSettings, isOtherPlace, newSettings } from './backend-json.js';
import { bodyLimits, parseEnvelope, readBytes, textOf } from './body.js';
import { idOf, queryOf, sendJson, sendNothing, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { makeIdSource } from './ids.js';
import { defaultLimit, pageJson, positionOf } from './page.js';
import { invalid, refusal, type Fault } from './problems.js';
import { backendChange, backendInput, type BackendChange } from './schema-backend.js';
import { backendsQuery, forceQuery, noQuery } from './schema-task.js';

export type BackendDeps = {
  readonly db: Db;
  readonly logger: Logger;
  /** Protocols that this build speaks. */
  readonly protocols: readonly Protocol[];
  readonly urlObstacle: (url: string) => string | null;
  /** Seals a credential for its row. */
  readonly seal: (secret: string, backendId: string) => string;
  /** Tests reachability now, and saves what that makes of its health. */
  readonly ping: (backendId: string) => Promise<void>;
  readonly move: (request: AdvanceRequest) => Promise<Advanced>;
};

const nextId = makeIdSource('bknd');

export function backendRoutes(deps: BackendDeps): readonly Route[] {
  const read = 'backends:read' as const;
  const write = 'backends:write' as const;
  const one = '/v1/backends/:id';
  return [
    { method: 'GET', path: '/v1/backends', scope: read, handle: (exchange) => list(deps, exchange) },
    { method: 'POST', path: '/v1/backends', scope: write, handle: (exchange) => create(deps, exchange) },
    { method: 'GET', path: one, scope: read, handle: (exchange) => show(deps, exchange) },
    { method: 'PATCH', path: one, scope: write, handle: (exchange) => change(deps, exchange) },
    { method: 'DELETE', path: one, scope: write, handle: (exchange) => remove(deps, exchange) },
  ];
}

export const absentBackend = (): Error => refusal('not_found', 'there is no backend with this id');

async function list({ db }: BackendDeps, { req, res }: Exchange): Promise<void> {
  const { limit = defaultLimit, cursor, name = null } = queryOf(req, backendsQuery);
  const after = positionOf(cursor);
  const rows = await listBackends(db, name, after && { at: new Date(after.at), id: after.id }, limit + 1);
  sendJson(
    res,
    200,
    pageJson(rows, limit, backendJson, ({ createdAt, id }) => ({ at: createdAt.getTime(), id })),
  );
}

async function show({ db }: BackendDeps, exchange: Exchange): Promise<void> {
  queryOf(exchange.req, noQuery);
  const backend = await findBackend(db, idOf(exchange));
  if (backend === null) throw absentBackend();
  sendJson(exchange.res, 200, backendJson(backend));
}

async function create(deps: BackendDeps, { req, res, caller }: Exchange): Promise<void> {
  queryOf(req, noQuery);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const input = check(backendInput, parseEnvelope(text, { payloads: [] }));
  checkReach(deps, input);
  const id = nextId();
  const secret = input.auth?.secret;
  const settings = newSettings(input, secret === undefined ? null : deps.seal(secret, id));
  const saved = await deps.db.transaction(async (tx) => {
    const result = await insertBackend(tx, id, settings);
    if (result.kind === 'nameTaken') throw nameTaken(input.name);
    await insertAudit(tx, [
      { actor: caller.actor, action: 'backend.create', target: id, detail: { name: input.name } },
    ]);
    return result.backend;
  });
  announce(deps, id, true);
  sendJson(res, 201, backendJson({ ...saved, inFlight: 0 }), { Location: `/v1/backends/${id}` });
}

async function change(deps: BackendDeps, exchange: Exchange): Promise<void> {
  const { req, res } = exchange;
  queryOf(req, noQuery);
  const id = idOf(exchange);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const input = check(backendChange, parseEnvelope(text, { payloads: [] }));
  checkReach(deps, input);
  const sealed = input.auth?.secret === undefined ? null : deps.seal(input.auth.secret, id);
  const { backend, pings } = await deps.db.transaction(async (tx) => {
    const now = await lockBackend(tx, id);
    if (now === null) throw absentBackend();
    const next = changedSettings(now, input, sealed);
    checkChange(now, next, input);
    const pings = isOtherPlace(now, next);
    const saved = await updateBackend(tx, id, next, pings);
    if (saved.kind === 'nameTaken') throw nameTaken(next.name);
    const detail = {
      changed: Object.keys(input).sort(),
      ...(input.mode === undefined ? {} : { mode: input.mode }),
    };
    await insertAudit(tx, [{ actor: exchange.caller.actor, action: 'backend.change', target: id, detail }]);
    return { backend: { ...saved.backend, inFlight: now.inFlight }, pings };
  });
  announce(deps, id, pings);
  sendJson(res, 200, backendJson(backend));
}

async function remove(deps: BackendDeps, exchange: Exchange): Promise<void> {
  const { force = false } = queryOf(exchange.req, forceQuery);
  const id = idOf(exchange);
  const { actor } = exchange.caller;
  await deps.db.transaction(async (tx) => {
    const backend = await lockBackend(tx, id);
    if (backend === null) throw absentBackend();
    const { inFlight, name } = backend;
    if (inFlight > 0 && !force) {
      const detail = `${inFlight} attempts may still run on it; drain it first, or add ?force=true to have them killed`;
      throw refusal('backend_in_use', detail, { inFlight });
    }
    await removeBackend(tx, id);
    await insertAudit(tx, [
      { actor, action: 'backend.delete', target: id, detail: { name, force, inFlight } },
    ]);
  });
  if (force) await killAllOn(deps, id, actor);
  announce(deps, id, false);
  sendNothing(exchange.res);
}

const killsPerChunk = 200;

/** What runs on a removed backend is told to die; it ends when that is confirmed, or given up. */
async function killAllOn(deps: BackendDeps, backendId: string, actor: string): Promise<void> {
  const reason = 'its backend was removed';
  for (let after = ''; ;) {
    const ids = await listRunningOn(deps.db, backendId, after, killsPerChunk);
    const results = await Promise.all(
      ids.map((taskId) => deps.move({ taskId, event: { type: 'cancelRequested', reason, actor } })),
    );
    const kills = results.flatMap((result) => (result.kind === 'won' ? [result.before] : []));
    await insertAudit(
      deps.db,
      kills.map(({ id, workspaceId, state, externalId }) => ({
        actor,
        action: 'task.kill',
        target: id,
        workspaceId,
        reason,
        detail: { state, externalId, backendId },
      })),
    );
    if (ids.length < killsPerChunk) return;
    after = ids[ids.length - 1] ?? '';
  }
}

/** Every process hears of it now, held tasks are looked at, and a new place is pinged. Nobody waits for any of it. */
function announce(deps: BackendDeps, id: string, pings: boolean): void {
  void notify(deps.db, 'backends', [id]).then(() => notify(deps.db, 'release', []));
  if (!pings) return;
  deps.ping(id).catch((error: unknown) => deps.logger.warn('backend.unpinged', { backendId: id, error }));
}

export function checkReach(
  { protocols, urlObstacle }: Pick<BackendDeps, 'protocols' | 'urlObstacle'>,
  input: { readonly url?: string | undefined; readonly protocol?: Protocol | undefined },
): void {
  const faults: Fault[] = [];
  if (input.protocol !== undefined && !protocols.includes(input.protocol)) {
    faults.push({ pointer: '/protocol', detail: `this build speaks ${protocols.join(', ')}` });
  }
  const obstacle = input.url === undefined ? null : urlObstacle(input.url);
  if (obstacle !== null) faults.push({ pointer: '/url', detail: obstacle });
  if (faults.length > 0) throw invalid(faults);
}

function checkChange(
  now: BackendLoad & { readonly sealedSecret: string | null },
  next: BackendSettings,
  input: BackendChange,
): void {
  if (next.protocol !== now.protocol && now.inFlight > 0) {
    const detail = `${now.inFlight} attempts may still run on it; its protocol can be changed when they have ended`;
    throw refusal('backend_in_use', detail, { inFlight: now.inFlight });
  }
  if (next.authType !== 'none' && next.sealedSecret === null) {
    throw invalid([{ pointer: '/auth/secret', detail: 'is required for this type' }]);
  }
  if (next.authType === 'none' && input.auth?.secret !== undefined) {
    throw invalid([{ pointer: '/auth/secret', detail: 'must be left out for the type none' }]);
  }
}

function nameTaken(name: string): Error {
  return refusal('backend_name_taken', `another backend has the name ${JSON.stringify(name)}`);
}
