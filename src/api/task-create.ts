import type { Shape } from '../domain/json-scan.js';
import type { Task, Waiting } from '../domain/task.js';
import type { Caller } from './auth.js';
import { bodyLimits, parseBatch, parseEnvelope, readBytes, textOf, type Read } from './body.js';
import { queryOf, sendJson, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { idempotencyKeyOf } from './idempotency.js';
import { invalid, problemOf, type Problem } from './problems.js';
import { batchInput, batchItem, maxBatchItems, noQuery, taskInput } from './schema-task.js';
import type { Taken, TaskIntake } from './task-intake.js';
import { taskJson } from './task-json.js';

export const taskShape: Shape = { payloads: ['context', 'metadata'] };
const batchShape: Shape = { payloads: [], items: { member: 'tasks', shape: taskShape } };

export type WaitingOf = (tasks: readonly Task[]) => Promise<ReadonlyMap<string, Waiting>>;

/** `POST /v1/tasks` and its batch: 2xx is said after the commit (I4), one item and a thousand on one path (I9). */
export function taskCreationRoutes(deps: {
  readonly intake: TaskIntake;
  readonly waitingOf: WaitingOf;
}): readonly Route[] {
  const { intake, waitingOf } = deps;

  const create = async ({ req, res, caller }: Exchange): Promise<void> => {
    queryOf(req, noQuery);
    const idempotencyKey = idempotencyKeyOf(req);
    const input = parseEnvelope(textOf(await readBytes(req, bodyLimits.plain)), taskShape);
    const born = await intake.prepare({ input, parsed: check(taskInput, input), caller, idempotencyKey });
    const { view, replayed } = await intake.take(born);
    const waiting = await waitingOf([view.task]);
    sendJson(res, 201, taskJson(view.task, waiting.get(view.task.id) ?? null, view), {
      Location: `/v1/tasks/${view.task.id}`,
      ...(replayed ? { 'Idempotency-Replayed': 'true' } : {}),
    });
  };

  const createBatch = async ({ req, res, caller, requestId }: Exchange): Promise<void> => {
    queryOf(req, noQuery);
    const items = itemsOf(parseBatch(textOf(await readBytes(req, bodyLimits.batch)), batchShape));
    const results = await Promise.all(items.map((item) => takeItem(intake, item, caller)));
    const failure = commonFailure(results);
    if (failure !== null) throw failure;
    const waiting = await waitingOf(
      results.flatMap((result) => ('view' in result ? [result.view.task] : [])),
    );
    const data = results.map((result, index) => {
      if (!('view' in result)) return itemProblem(index, problemOf(result.error, requestId).problem);
      const { task } = result.view;
      return `{"index":${index},"status":201,"task":${taskJson(task, waiting.get(task.id) ?? null, result.view)}}`;
    });
    sendJson(res, 200, `{"data":[${data.join(',')}]}`);
  };

  return [
    { method: 'POST', path: '/v1/tasks', scope: 'tasks:write', hot: /^\/v1\/tasks$/, handle: create },
    { method: 'POST', path: '/v1/tasks/batch', scope: 'tasks:write', handle: createBatch },
  ];
}

type ItemResult = Taken | { readonly error: unknown };

async function takeItem(intake: TaskIntake, item: Read, caller: Caller): Promise<ItemResult> {
  try {
    if (!item.ok) throw item.error;
    const { idempotencyKey = null, ...parsed } = check(batchItem, item.input);
    // The key is no part of what it stands for: the same task sent alone, with the header, is the same.
    const { idempotencyKey: _, ...input } = item.input as Record<string, unknown>;
    return await intake.take(await intake.prepare({ input, parsed, caller, idempotencyKey }));
  } catch (error) {
    return { error };
  }
}

function itemsOf({ root, items }: ReturnType<typeof parseBatch>): readonly Read[] {
  check(batchInput, root);
  if (items === null) throw invalid([{ pointer: '/tasks', detail: 'must be an array' }]);
  if (items.length < 1 || items.length > maxBatchItems) {
    throw invalid([{ pointer: '/tasks', detail: `must have 1 to ${maxBatchItems} items` }]);
  }
  return items;
}

/** Where nothing at all could be stored, the whole request is told to come again. */
function commonFailure(results: readonly ItemResult[]): unknown {
  const errors = results.map((result) => ('error' in result ? result.error : null));
  if (errors.some((error) => error === null)) return null;
  const failed = errors.filter((error) => problemOf(error, '').problem.status >= 500);
  return failed.length === errors.length ? failed[0] : null;
}

function itemProblem(index: number, problem: Problem): string {
  return JSON.stringify({ index, status: problem.status, problem });
}
