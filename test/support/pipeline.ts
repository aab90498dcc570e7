import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { openDb } from '../../src/db/pool.js';
import { openLease } from '../../src/db/processes.js';
import { insertTasks } from '../../src/db/tasks.js';
import { insertCallbacks, type NewCallback } from '../../src/db/callbacks.js';
import { saveLessons } from '../../src/db/backend-health.js';
import { taskColumns, taskOf, type TaskRow } from '../../src/db/task-row.js';
import { makeId } from '../../src/domain/ids.js';
import { newTask, type TaskRequest } from '../../src/domain/new-task.js';
import type { Task } from '../../src/domain/task.js';
import type { Logger } from '../../src/logger.js';
import { makeCallbackTokens } from '../../src/orchestrators/callback-token.js';
import type { Clients } from '../../src/orchestrators/client.js';
import { openClients } from '../../src/orchestrators/clients.js';
import type { Ring } from '../../src/queues/ring.js';
import { makeSealer } from '../../src/seal.js';
import { makeDispatch, type Dispatch } from '../../src/workers/dispatch.js';
import { makeFleetView } from '../../src/workers/fleet.js';
import { makePing } from '../../src/workers/health.js';
import { makeKills } from '../../src/workers/kill.js';
import { makeMover } from '../../src/workers/mover.js';
import { makeReconcile } from '../../src/workers/reconcile.js';
import { makeDeadlines } from '../../src/workers/deadlines.js';
import { makeRelease } from '../../src/workers/release.js';
import { makeStops } from '../../src/workers/stop.js';
import { makeRemoved } from '../../src/workers/removed.js';
import { makeSweep } from '../../src/workers/sweep.js';
import { makeTransitions } from '../../src/workers/transitions.js';
import { openTestDatabase } from './database.js';
import { aNewCallback } from './rows.js';

export const silent: Logger = { info() {}, warn() {}, error() {}, debug() {} };

export const defaults = {
  timeouts: { dispatchMs: 3000, startMs: 900_000, heartbeatMs: 0, runMs: 86_400_000 },
  retry: {
    maxAttempts: 3,
    maxSends: 8,
    backoffBaseMs: 20,
    backoffMaxMs: 100,
    onUnknownOutcome: 'fail' as const,
  },
};

/** Rings are kept in a list: the test turns the crank. */
function listRing(): Ring & { rung: { queue: string; ids: readonly string[] }[] } {
  const rung: { queue: string; ids: readonly string[] }[] = [];
  return {
    rung,
    async ring(queue, ids) {
      if (ids.length > 0) rung.push({ queue, ids });
      return true;
    },
    depth: () => Promise.resolve(0),
    awayMs: () => 0,
    close: () => Promise.resolve(),
  };
}

export type Pipeline = Awaited<ReturnType<typeof openPipeline>>;

/** The workers over a real database and real HTTP, with no process and no queue between: each step is called by hand. */
export async function openPipeline(options: { silenceMs?: number; giveUpAfterMs?: number } = {}) {
  const limits = {
    silenceMs: options.silenceMs ?? 60_000,
    giveUpAfterMs: options.giveUpAfterMs ?? 3_600_000,
  };
  const database = await openTestDatabase();
  const db = openDb({ url: database.url, name: 'test', max: 8 });
  // No web process keeps the door open here, and while it is shut no clock runs out.
  await db.query({ text: `UPDATE intake SET open_until = now() + interval '1 hour'` });
  const keys = [{ id: '0a0b0c0d', key: randomBytes(32) }];
  const sealer = makeSealer(keys);
  const tokens = makeCallbackTokens(keys);
  const { clients, close: closeClients } = openClients({ allowCidrs: ['127.0.0.0/8'], denyCidrs: [] });
  const ring = listRing();
  const fleet = makeFleetView({ db, sealer, maxAgeMs: 0 });
  const mover = makeMover({ db, limits, logger: silent });
  const closers: (() => Promise<void>)[] = [];
  const policy = { rise: 2, fall: 3, timeoutMs: 1000 };

  /** `claimsOnly` never gets to its sends; `diesAt` stops for ever when it has that task in hand. */
  const openDispatcher = async (
    doom: { claimsOnly?: boolean; diesAt?: string } = {},
  ): Promise<
    Dispatch & {
      lease: Awaited<ReturnType<typeof openLease>>;
      abort: AbortController;
      /** Calls that will never come back. */
      stuck: () => number;
    }
  > => {
    const id = makeId('proc', Date.now(), randomBytes(10));
    const lease = await openLease({ url: database.url, name: 'dispatch', id, logger: silent });
    const abort = new AbortController();
    setMaxListeners(0, abort.signal);
    const isDoomed = doom.claimsOnly === true || doom.diesAt !== undefined;
    const doomed = openDoomed(clients, doom.diesAt ?? null, abort.signal);
    const dispatch = makeDispatch({
      ...{ db, ring, lease, mover, ...limits },
      clients: isDoomed ? doomed.clients : clients,
      tokens,
      logger: silent,
      fleet: makeFleetView({ db, sealer, maxAgeMs: 0 }),
      teach: (lesson) => saveLessons(db, [lesson], policy.fall),
      publicUrl: 'http://127.0.0.1:1',
      signingKeyId: keys[0]!.id,
      abort: abort.signal,
    });
    closers.push(async () => {
      abort.abort();
      await dispatch.idle();
      await lease.close();
    });
    return { ...dispatch, lease, abort, stuck: doomed.stuck };
  };
  const dispatch = await openDispatcher();
  await fleet.look();
  const asking = { db, fleet, clients, mover, logger: silent, silenceMs: limits.silenceMs };

  return {
    url: database.url,
    db,
    ring,
    mover,
    tokens,
    limits,
    dispatch,
    openDispatcher,
    ping: makePing({ db, fleet, clients, logger: silent, policy }),
    fold: makeTransitions({ db, limits, logger: silent, mover }),
    duties: {
      sweep: makeSweep({ db, ring, everyMs: 1000 }),
      release: makeRelease({ db, ring, everyMs: 1000 }),
      kill: makeKills(asking),
      reconcile: makeReconcile({ ...asking, everyMs: 1000 }),
      deadlines: makeDeadlines({ ...asking, everyMs: 1000 }),
      stop: makeStops({ db, mover }),
      removed: makeRemoved({ db, mover, ...limits }),
    },
    async backend(url: string, fields: Partial<BackendFields> = {}): Promise<string> {
      const id = makeId('bknd', Date.now(), randomBytes(10));
      const row = { ...backendFields, name: id, ...fields };
      await db.query(
        {
          text: `INSERT INTO backends (id, name, protocol, url, labels, weight, max_concurrency,
            max_dispatches_per_minute, mode, health_status) VALUES ($1, $2, 'gateway', $3, $4, $5, $6, $7, $8, $9)`,
        },
        [
          id,
          row.name,
          url,
          JSON.stringify(row.labels),
          row.weight,
          row.maxConcurrency,
          row.maxDispatchesPerMinute,
          row.mode,
          row.health,
        ],
      );
      return id;
    },
    async create(request: Partial<TaskRequest> = {}, context = '{"n":1}'): Promise<string> {
      const id = makeId('task', Date.now(), randomBytes(10));
      const given = { id, context, metadata: null, createdBy: 'test', idempotency: null };
      await insertTasks(db, [newTask({ type: 'test', ...request }, given, defaults)]);
      return id;
    },
    /** Looks at tasks and waits until what was sent is saved. */
    async send(...ids: string[]): Promise<void> {
      const report = await dispatch.look(ids);
      await report.settled;
    },
    async tell(
      taskId: string,
      attempt: number,
      said: Partial<NewCallback> & Pick<NewCallback, 'status'>,
    ): Promise<void> {
      await insertCallbacks(db, [aNewCallback(taskId, { ...said, attempt })]);
    },
    async task(id: string): Promise<Task> {
      const [row] = await db.query<TaskRow>(
        { text: `SELECT ${taskColumns('t')} FROM tasks t WHERE id = $1` },
        [id],
      );
      if (row === undefined) throw new Error(`no task ${id}`);
      return taskOf(row);
    },
    /** The timeline as `type from>to`, shortened to the type where nothing moved. */
    async timeline(id: string): Promise<string[]> {
      const rows = await db.query<{ type: string; from_state: string | null; to_state: string; seq: number }>(
        { text: 'SELECT type, from_state, to_state, seq FROM task_events WHERE task_id = $1 ORDER BY seq' },
        [id],
      );
      if (rows.some((row, index) => row.seq !== index + 1)) throw new Error('the timeline has a gap');
      return rows.map((row) => (row.from_state === row.to_state ? row.type : `${row.type} >${row.to_state}`));
    },
    async rows<R extends Record<string, unknown>>(text: string, values: unknown[] = []): Promise<R[]> {
      return db.query<R>({ text }, values);
    },
    async close(): Promise<void> {
      for (const close of closers.reverse()) await close();
      closeClients();
      await db.close();
      await database.close();
    },
  };
}

/** Clients of a process that dies: from the given task on, or at once, no call of it ever comes back. */
function openDoomed(clients: Clients, diesAt: string | null, released: AbortSignal) {
  const { gateway } = clients;
  if (gateway === undefined) throw new Error('the gateway client is missing');
  let isDead = diesAt === null;
  let stuck = 0;
  const untilReleased = () =>
    new Promise<never>((_, reject) => {
      stuck += 1;
      released.addEventListener('abort', () => reject(new Error('the process is dead')));
    });
  const dying: Clients = {
    gateway: {
      ...gateway,
      spawn: async (target, send, signal) => {
        isDead ||= send.taskId === diesAt;
        return isDead ? untilReleased() : gateway.spawn(target, send, signal);
      },
      find: async (target, taskId, signal) => {
        isDead ||= taskId === diesAt;
        return isDead ? untilReleased() : gateway.find(target, taskId, signal);
      },
    },
  };
  return { clients: dying, stuck: () => stuck };
}

type BackendFields = {
  name: string;
  labels: Record<string, string>;
  weight: number;
  maxConcurrency: number | null;
  maxDispatchesPerMinute: number | null;
  mode: string;
  health: string;
};

const backendFields: Omit<BackendFields, 'name'> = {
  labels: {},
  weight: 1,
  maxConcurrency: null,
  maxDispatchesPerMinute: null,
  mode: 'active',
  health: 'up',
};
