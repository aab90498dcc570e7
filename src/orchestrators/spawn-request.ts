import type { Task } from '../domain/task.js';

/** What an Orchestrator is told of a task, besides its payloads. */
export type SpawnTask = Pick<
  Task,
  | 'id'
  | 'attempt'
  | 'type'
  | 'title'
  | 'reference'
  | 'priority'
  | 'workspaceId'
  | 'tags'
  | 'createdAt'
  | 'deadlineAt'
>;

/**
 * The body of a Gateway spawn request. The same arguments always give the same bytes, so that every send of an attempt
 * is equal (I7): the order of the members is fixed here, and the payloads go in as the text that their producer sent.
 *
 * @param context raw JSON text @param metadata raw JSON text, or null for none
 */
export function spawnBody(
  task: SpawnTask,
  context: string,
  metadata: string | null,
  callbackUrl: string,
  callbackToken: string,
): string {
  const members: readonly (readonly [string, string])[] = [
    ['id', JSON.stringify(task.id)],
    ['attempt', JSON.stringify(task.attempt)],
    ['type', JSON.stringify(task.type)],
    ['title', JSON.stringify(task.title)],
    ['reference', JSON.stringify(task.reference)],
    ['priority', JSON.stringify(task.priority)],
    ['workspaceId', JSON.stringify(task.workspaceId)],
    ['tags', JSON.stringify(task.tags)],
    ['metadata', metadata ?? '{}'],
    ['createdAt', JSON.stringify(task.createdAt.toISOString())],
    ['deadlineAt', JSON.stringify(task.deadlineAt?.toISOString() ?? null)],
  ];
  const taskText = members.map(([name, text]) => `"${name}":${text}`).join(',');
  const url = JSON.stringify(callbackUrl);
  return `{"task":{${taskText}},"context":${context},"callback_url":${url},"callback_token":${JSON.stringify(callbackToken)}}`;
}
