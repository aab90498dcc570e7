import type { Sql } from '../db/pool.js';
import {
  findTaskView,
  findTaskWorkspace,
  listAttempts,
  listEvents,
  listTasks,
  type TaskView,
} from '../db/task-reads.js';
import { isTerminal } from '../domain/task.js';
import type { Caller } from './auth.js';
import { idOf, queryOf, sendJson, type Exchange, type Route } from './exchange.js';
import { cursorOf, defaultLimit, pageJson, positionOf } from './page.js';
import { refusal } from './problems.js';
import { noQuery, pageQuery, tasksQuery, waitQuery, type TasksQuery } from './schema-task.js';
import { sendEventStream } from './sse.js';
import type { StreamHub } from './streams.js';
import type { WaitingOf } from './task-create.js';
import { attemptJson, eventJson, taskJson } from './task-json.js';

export type TaskReadDeps = { readonly db: Sql; readonly hub: StreamHub; readonly waitingOf: WaitingOf };

export function taskReadRoutes(deps: TaskReadDeps): readonly Route[] {
  const { db, hub, waitingOf } = deps;

  const show = async (exchange: Exchange): Promise<void> => {
    const { req, res, caller } = exchange;
    const { wait = 0 } = queryOf(req, waitQuery);
    const id = idOf(exchange);
    let view = await findOwnTask(db, id, caller);
    if (wait > 0 && !isTerminal(view.task.state)) {
      await hub.untilEnded(id, {
        timeoutMs: wait * 1000,
        keyId: caller.keyId,
        closed: closedSignal(exchange),
      });
      view = await findOwnTask(db, id, caller);
    }
    const waiting = await waitingOf([view.task]);
    sendJson(res, 200, taskJson(view.task, waiting.get(id) ?? null, view));
  };

  const list = async ({ req, res, caller }: Exchange): Promise<void> => {
    const query = queryOf(req, tasksQuery);
    const limit = query.limit ?? defaultLimit;
    const after = positionOf(query.cursor);
    const tasks =
      caller.workspaceId !== null &&
      query.workspaceId !== undefined &&
      query.workspaceId !== caller.workspaceId
        ? []
        : await listTasks(db, filterOf(query, caller), {
            after: after && { at: new Date(after.at), id: after.id },
            limit: limit + 1,
          });
    const waiting = await waitingOf(tasks);
    const text = pageJson(
      tasks,
      limit,
      (task) => taskJson(task, waiting.get(task.id) ?? null, null),
      ({ createdAt, id }) => ({ at: createdAt.getTime(), id }),
    );
    sendJson(res, 200, text);
  };

  /** What belongs to a task, ascending, paged by its number. */
  const children =
    <R>(
      find: (id: string, after: number, limit: number) => Promise<readonly R[]>,
      toJson: (row: R) => string,
      numberOf: (row: R) => number,
    ) =>
    async (exchange: Exchange): Promise<void> => {
      const { limit = defaultLimit, cursor } = queryOf(exchange.req, pageQuery);
      const id = idOf(exchange);
      await checkOwnTask(db, id, exchange.caller);
      const position = positionOf(cursor);
      if (position !== null && (position.id !== id || position.at > 2 ** 31 - 1)) {
        throw refusal(
          'malformed_cursor',
          `${JSON.stringify(cursorOf(position))} is a cursor of another list`,
        );
      }
      const rows = await find(id, position?.at ?? 0, limit + 1);
      sendJson(
        exchange.res,
        200,
        pageJson(rows, limit, toJson, (row) => ({ at: numberOf(row), id })),
      );
    };

  const stream = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange.req, noQuery);
    const id = idOf(exchange);
    await checkOwnTask(db, id, exchange.caller);
    await sendEventStream({ db, hub }, exchange, id);
  };

  const attempts = children(
    (id, after, limit) => listAttempts(db, id, after, limit),
    attemptJson,
    ({ number }) => number,
  );
  const events = children(
    (id, after, limit) => listEvents(db, id, after, limit),
    eventJson,
    ({ seq }) => seq,
  );
  return [
    { method: 'GET', path: '/v1/tasks', scope: 'tasks:read', handle: list },
    { method: 'GET', path: '/v1/tasks/:id', scope: 'tasks:read', handle: show },
    { method: 'GET', path: '/v1/tasks/:id/attempts', scope: 'tasks:read', handle: attempts },
    { method: 'GET', path: '/v1/tasks/:id/events', scope: 'tasks:read', handle: events },
    { method: 'GET', path: '/v1/tasks/:id/stream', scope: 'tasks:read', handle: stream },
  ];
}

function filterOf(query: TasksQuery, caller: Caller): Parameters<typeof listTasks>[1] {
  return {
    states: query.state,
    type: query.type,
    backendId: query.backendId,
    workspaceId: caller.workspaceId ?? query.workspaceId,
    reference: query.reference,
    tags: query.tag,
    createdAfter: query.createdAfter,
    createdBefore: query.createdBefore,
    cancelling: query.cancelling,
  };
}

/** Aborts when nobody waits for the answer any more. */
export function closedSignal({ res }: Exchange): AbortSignal {
  const closed = new AbortController();
  res.once('close', () => closed.abort());
  return closed.signal;
}

const absent = (): Error => refusal('not_found', 'there is no task with this id');

/** Another workspace's task is as absent as one that never was. */
export async function findOwnTask(db: Sql, id: string, caller: Caller): Promise<TaskView> {
  const view = await findTaskView(db, id);
  if (view === null || !isOwn(view.task.workspaceId, caller)) throw absent();
  return view;
}

export async function checkOwnTask(db: Sql, id: string, caller: Caller): Promise<void> {
  const workspaceId = await findTaskWorkspace(db, id);
  if (workspaceId === undefined || !isOwn(workspaceId, caller)) throw absent();
}

function isOwn(workspaceId: string | null, caller: Caller): boolean {
  return caller.workspaceId === null || caller.workspaceId === workspaceId;
}
