import { makeGather } from '../db/gather.js';
import type { Db } from '../db/pool.js';
import { findTaskViews, type TaskView } from '../db/task-reads.js';
import { insertTasks, type Inserted } from '../db/tasks.js';
import { newTask, type NewTask, type TaskDefaults, type TaskRequest } from '../domain/new-task.js';
import type { Caller } from './auth.js';
import { mebibyte } from './body.js';
import { bodyHash, idempotencyScopeOf } from './idempotency.js';
import { makeIdSource } from './ids.js';
import { invalid, refusal } from './problems.js';
import type { TaskInput } from './schema-task.js';
import { bornTask } from './task-json.js';
import type { FleetView } from './waiting.js';
import { checkWish } from './wish.js';

export type IntakeDeps = {
  readonly db: Db;
  readonly defaults: TaskDefaults;
  readonly fleetView: FleetView;
  /** Rings for new tasks that are due; never throws. */
  readonly ring: (ids: readonly string[]) => Promise<boolean>;
  /** Why we would not call this URL, or null. */
  readonly urlObstacle: (url: string) => string | null;
};

/** A create, checked and ready to be stored. */
export type Order = {
  readonly input: unknown;
  readonly parsed: TaskInput;
  readonly caller: Caller;
  readonly idempotencyKey: string | null;
};

export type Taken = { readonly view: TaskView; readonly replayed: boolean };

export type TaskIntake = {
  /** Everything that can be refused without a write. */
  prepare(order: Order): Promise<NewTask>;
  /** Stores the task, or finds the one that its Idempotency-Key stands for; both are committed when it resolves. */
  take(born: NewTask): Promise<Taken>;
};

const gatherLimits = { rows: 500, bytes: 8 * mebibyte, waitingBytes: 64 * mebibyte, writers: 2 };

export function makeTaskIntake(deps: IntakeDeps): TaskIntake {
  const nextId = makeIdSource('task');
  const save = makeGather<NewTask, Inserted>(
    (tasks) => saveAndRing(deps, tasks),
    gatherLimits,
    ({ context, metadata }) => context.length + (metadata?.length ?? 0) + 1024,
  );
  // Replays of one moment are read together, as they were written together.
  const read = makeGather<string, TaskView | null>(
    async (ids) => {
      const views = new Map((await findTaskViews(deps.db, ids)).map((view) => [view.task.id, view]));
      return ids.map((id) => views.get(id) ?? null);
    },
    { rows: 100, bytes: Infinity, waitingBytes: Infinity },
  );

  return {
    async prepare({ input, parsed, caller, idempotencyKey: key }) {
      const { context, metadata, notify, timeouts, retry, ...request } = parsed;
      const limits = { timeouts, retry } as Pick<TaskRequest, 'timeouts' | 'retry'>;
      const workspaceId = workspaceFor(request.workspaceId, caller);
      if (request.backend !== undefined) await checkWish(deps.fleetView, request.backend, '/backend');
      const obstacle = notify === undefined ? null : deps.urlObstacle(notify.url);
      if (obstacle !== null) throw invalid([{ pointer: '/notify/url', detail: obstacle }]);
      return newTask(
        { ...request, ...limits, workspaceId, notifyUrl: notify?.url },
        {
          id: nextId(),
          context: context.rawJson,
          metadata: metadata?.rawJson ?? null,
          createdBy: caller.actor,
          idempotency:
            key === null ? null : { scope: idempotencyScopeOf(caller), key, hash: bodyHash(input) },
        },
        deps.defaults,
      );
    },
    async take(born) {
      const inserted = await save(born);
      if (inserted.kind === 'created') return { view: newView(born, inserted.createdAt), replayed: false };
      if (inserted.kind === 'keyReused') throw keyReused(born, inserted.createdAt);
      const view = await read(inserted.id);
      if (view === null) throw refusal('busy', 'the task of this key is being removed; use a new key');
      return { view, replayed: true };
    },
  };
}

/** One commit, then one ring for all that may go out now. Nobody waits for the bell. */
async function saveAndRing(deps: IntakeDeps, tasks: readonly NewTask[]): Promise<readonly Inserted[]> {
  const results = await insertTasks(deps.db, tasks);
  const due = tasks.filter(({ scheduledFor }, index) => {
    const result = results[index];
    return result?.kind === 'created' && (scheduledFor === null || scheduledFor <= result.createdAt);
  });
  if (due.length > 0) void deps.ring(due.map(({ id }) => id));
  return results;
}

export function newView(born: NewTask, createdAt: Date): TaskView {
  return { task: bornTask(born, createdAt), context: born.context, metadata: born.metadata, result: null };
}

/** A key with a workspace makes only that workspace's tasks. */
function workspaceFor(asked: string | undefined, caller: Caller): string | undefined {
  if (caller.workspaceId === null || asked === caller.workspaceId) return asked;
  if (asked === undefined) return caller.workspaceId;
  throw refusal('workspace_forbidden', `this key makes tasks of workspace ${caller.workspaceId} only`, {
    errors: [{ pointer: '/workspaceId', detail: 'is not the workspace of this API key' }],
  });
}

function keyReused(born: NewTask, createdAt: Date): Error {
  const at = createdAt.toISOString();
  const detail = `key ${JSON.stringify(born.idempotency?.key)} first came at ${at} with another body; use a new key for a new task`;
  return refusal('idempotency_key_reused', detail, { firstSeenAt: at });
}
