import type { Advanced, AdvanceRequest } from '../db/moves.js';
import { insertAudit } from '../db/audit.js';
import { findLivingRetry, type TaskView } from '../db/task-reads.js';
import { insertTasks } from '../db/tasks.js';
import type { Db, Sql } from '../db/pool.js';
import type { TaskEvent, TaskPatch } from '../domain/event.js';
import type { NewTask } from '../domain/new-task.js';
import { isTerminal, type Task } from '../domain/task.js';
import { requireScope } from './auth.js';
import { bodyLimits, hasBody, parseEnvelope, readBytes, textOf } from './body.js';
import { idOf, queryOf, sendJson, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { makeIdSource } from './ids.js';
import { refusal } from './problems.js';
import { cancelInput, noQuery, nothing, taskChange, type TaskChange } from './schema-task.js';
import type { WaitingOf } from './task-create.js';
import { newView } from './task-intake.js';
import { taskJson } from './task-json.js';
import { checkOwnTask, findOwnTask } from './task-read.js';
import type { FleetView } from './waiting.js';
import { checkWish } from './wish.js';

export type TaskChangeDeps = {
  readonly db: Db;
  readonly fleetView: FleetView;
  readonly waitingOf: WaitingOf;
  /** Moves one task, trying again for a while when others hold its row; it rings for what follows. */
  readonly move: (request: AdvanceRequest) => Promise<Advanced>;
  readonly ring: (ids: readonly string[]) => Promise<boolean>;
};

export function taskChangeRoutes(deps: TaskChangeDeps): readonly Route[] {
  return [
    {
      method: 'PATCH',
      path: '/v1/tasks/:id',
      scope: 'tasks:write',
      handle: (exchange) => change(deps, exchange),
    },
    {
      method: 'POST',
      path: '/v1/tasks/:id/cancel',
      scope: 'tasks:write',
      handle: (exchange) => cancel(deps, exchange),
    },
    {
      method: 'POST',
      path: '/v1/tasks/:id/retry',
      scope: 'tasks:write',
      handle: (exchange) => retry(deps, exchange),
    },
  ];
}

async function sendTask(
  deps: TaskChangeDeps,
  exchange: Exchange,
  status: number,
  view: TaskView,
): Promise<void> {
  const { task } = view;
  const waiting = await deps.waitingOf([task]);
  const headers: Record<string, string> = status === 201 ? { Location: `/v1/tasks/${task.id}` } : {};
  sendJson(exchange.res, status, taskJson(task, waiting.get(task.id) ?? null, view), headers);
}

async function change(deps: TaskChangeDeps, exchange: Exchange): Promise<void> {
  const { req, caller } = exchange;
  queryOf(req, noQuery);
  const id = idOf(exchange);
  await checkOwnTask(deps.db, id, caller);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const input = check(taskChange, parseEnvelope(text, { payloads: ['metadata'] }));
  if (input.backend !== undefined && input.backend !== null) {
    await checkWish(deps.fleetView, input.backend, '/backend');
  }
  const patch = patchOf(input);
  if (Object.keys(patch).length > 0) {
    const result = await deps.move({ taskId: id, event: { type: 'changed', patch, actor: caller.actor } });
    const { after } = settled(result, (task) =>
      refusal('task_already_sent', `a task can be changed until it is sent; this one is ${task.state}`, {
        state: task.state,
      }),
    );
    const detail = { changed: Object.keys(patch).sort() };
    await insertAudit(deps.db, [auditOf('task.change', exchange, after, null, detail)]);
    // Where nothing is held any more it may go at once.
    if (after.dueAt !== null && after.dueAt <= after.updatedAt) void deps.ring([id]);
  }
  await sendTask(deps, exchange, 200, await findOwnTask(deps.db, id, caller));
}

function patchOf({ backend, metadata, ...plain }: TaskChange): TaskPatch {
  const given = Object.fromEntries(Object.entries(plain).filter(([, value]) => value !== undefined));
  return {
    ...given,
    ...(backend === undefined ? {} : { wish: backend ?? {} }),
    ...(metadata === undefined ? {} : { metadata: metadata.rawJson === 'null' ? null : metadata.rawJson }),
  };
}

/** 200: final, it was never sent and never will be. 202: the backend must confirm first (P11). */
async function cancel(deps: TaskChangeDeps, exchange: Exchange): Promise<void> {
  const { req, caller } = exchange;
  queryOf(req, noQuery);
  const id = idOf(exchange);
  await checkOwnTask(deps.db, id, caller);
  const text = textOf(await readBytes(req, bodyLimits.plain));
  const { reason, giveUp = false } = check(cancelInput, parseEnvelope(text, { payloads: [] }));
  if (giveUp) requireScope(caller, 'admin');
  const event: TaskEvent = { type: giveUp ? 'gaveUp' : 'cancelRequested', reason, actor: caller.actor };
  const result = await deps.move({ taskId: id, event });
  const isRepeated = !giveUp && result.kind === 'refused' && result.reason === 'stale';
  const moved = isRepeated
    ? { before: result.after, after: result.after }
    : settled(result, (task) =>
        refusal(
          'task_not_cancelling',
          `only a task that is being cancelled can be given up; this one is ${task.state}`,
          {
            state: task.state,
          },
        ),
      );
  const detail = {
    state: moved.before.state,
    attempt: moved.before.attempt,
    externalId: moved.before.externalId,
  };
  const action = giveUp ? 'task.giveUp' : 'task.cancel';
  await insertAudit(deps.db, [auditOf(action, exchange, moved.before, reason, detail)]);
  const view = await findOwnTask(deps.db, id, caller);
  await sendTask(deps, exchange, isTerminal(moved.after.state) ? 200 : 202, view);
}

/** What a move came to; refusals of every kind become problems. */
function settled(result: Advanced, otherwise: (task: Task) => Error): { before: Task; after: Task } {
  switch (result.kind) {
    case 'won':
      return result;
    case 'absent':
      throw refusal('not_found', 'there is no task with this id');
    case 'skipped':
      throw refusal('busy', 'this task is being changed by others; repeat the request');
    case 'refused': {
      const { state } = result.after;
      if (isTerminal(state)) throw refusal('task_already_ended', `the task has ended as ${state}`, { state });
      throw otherwise(result.after);
    }
  }
}

const nextId = makeIdSource('task');

/** The advisory lock makes two retries of one task come one after the other: the second sees the first. */
const lockStatement = {
  name: 'lock-retry',
  text: 'SELECT pg_advisory_xact_lock(hashtextextended($1, 7264002))',
};

async function retry(deps: TaskChangeDeps, exchange: Exchange): Promise<void> {
  const { req, caller } = exchange;
  queryOf(req, noQuery);
  const id = idOf(exchange);
  if (hasBody(req))
    check(nothing, parseEnvelope(textOf(await readBytes(req, bodyLimits.plain)), { payloads: [] }));
  await checkOwnTask(deps.db, id, caller);
  const view = await deps.db.transaction(async (tx) => {
    await tx.query(lockStatement, [id]);
    const original = await findOwnTask(tx, id, caller);
    return retryOnce(tx, original, exchange);
  });
  void deps.ring([view.task.id]);
  await sendTask(deps, exchange, 201, view);
}

async function retryOnce(tx: Sql, original: TaskView, exchange: Exchange): Promise<TaskView> {
  const { task } = original;
  if (task.state !== 'FAILED' && task.state !== 'CANCELLED') {
    const detail = `only a FAILED or CANCELLED task can be tried again; this one is ${task.state}`;
    throw refusal('task_not_ended', detail, { state: task.state });
  }
  const living = await findLivingRetry(tx, task.id);
  if (living !== null) {
    throw refusal('retry_not_ended', `its retry ${living} has not ended`, { retryId: living });
  }
  const born = againOf(original, exchange.caller.actor);
  const [inserted] = await insertTasks(tx, [born]);
  if (inserted?.kind !== 'created') throw new Error(`the retry of ${task.id} was not stored`);
  await insertAudit(tx, [auditOf('task.retry', exchange, task, null, { state: task.state, retry: born.id })]);
  return newView(born, inserted.createdAt);
}

/** The same task, without what belonged to its time: no schedule, no deadline that is over. */
function againOf({ task, context, metadata }: TaskView, actor: string): NewTask {
  const { type, title, reference, workspaceId, priority, tags, wish, timeouts, retry, notifyUrl } = task;
  return {
    ...{
      type,
      title,
      reference,
      workspaceId,
      priority,
      tags,
      wish,
      timeouts,
      retry,
      notifyUrl,
      context,
      metadata,
    },
    id: nextId(),
    retryOf: task.id,
    createdBy: actor,
    idempotency: null,
    scheduledFor: null,
    deadlineAt: task.deadlineAt !== null && task.deadlineAt.getTime() > Date.now() ? task.deadlineAt : null,
  };
}

function auditOf(
  action: string,
  { caller }: Exchange,
  task: Task,
  reason: string | null,
  detail: Readonly<Record<string, unknown>>,
): Parameters<typeof insertAudit>[1][number] {
  return { actor: caller.actor, action, target: task.id, workspaceId: task.workspaceId, reason, detail };
}
