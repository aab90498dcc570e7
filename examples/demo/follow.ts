import { expected, pause, type Call, type TaskView } from './api.js';
import type { DemoTask } from './tasks.js';

export type Followed = DemoTask & { readonly id: string };

export function isOver({ state }: TaskView): boolean {
  return state === 'COMPLETED' || state === 'FAILED' || state === 'CANCELLED';
}

/** Creates all tasks with one request; the answer has one entry for each, in their order. */
export async function createTasks(call: Call, tasks: readonly DemoTask[]): Promise<Followed[]> {
  const reply = await call('POST', '/v1/tasks/batch', { tasks: tasks.map(({ body }) => body) });
  type Item = { index: number; status: number; task?: { id: string }; problem?: unknown };
  const { data } = expected<{ data: Item[] }>(reply, 'creating the tasks', 200);
  const refused = data.filter((item) => item.status !== 201);
  if (refused.length > 0) throw new Error(`tasks were refused: ${JSON.stringify(refused).slice(0, 2000)}`);
  const ids = new Map(data.map((item) => [item.index, item.task?.id ?? '']));
  return tasks.map((task, index) => ({ ...task, id: ids.get(index) ?? '' }));
}

/**
 * Asks for all tasks of this run, a few times a second, until all have ended; shows each new picture, and cancels
 * what is to be cancelled as soon as it runs.
 */
export async function followTasks(
  call: Call,
  run: { readonly id: string; readonly tasks: readonly Followed[]; readonly limitMs: number },
  show: (views: readonly TaskView[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const toCancel = new Set(
    run.tasks.filter((task) => task.expectation.cancelWhenRunning).map((task) => task.id),
  );
  const endMs = performance.now() + run.limitMs;
  for (;;) {
    const reply = await call('GET', `/v1/tasks?limit=200&tag=${encodeURIComponent(run.id)}`);
    const { data } = expected<{ data: TaskView[] }>(reply, 'listing the tasks', 200);
    const byId = new Map(data.map((view) => [view.id, view]));
    const views = run.tasks.flatMap((task) => byId.get(task.id) ?? []);
    show(views);
    for (const view of views) {
      if (view.state === 'RUNNING' && toCancel.delete(view.id)) await cancel(call, view.id);
    }
    if (views.length === run.tasks.length && views.every(isOver)) return;
    if (performance.now() > endMs) return;
    await pause(250, signal);
  }
}

async function cancel(call: Call, id: string): Promise<void> {
  const reply = await call('POST', `/v1/tasks/${id}/cancel`, { reason: 'the demo shows a cancellation' });
  expected(reply, 'cancelling', 200, 202, 409);
}
