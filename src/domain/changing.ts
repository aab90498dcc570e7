import { refuse, type Draft, type Refusal } from './draft.js';
import type { TaskEvent } from './event.js';
import { currentAttempt, isTerminal, orderOf, type Task } from './task.js';

/** A change by the producer: only while nothing was sent or is being sent, so that every send has the same bytes (I7). */
export function change(draft: Draft, event: Extract<TaskEvent, { type: 'changed' }>): Refusal | undefined {
  const { task } = draft;
  if (isTerminal(task.state)) return refuse('over');
  if (!isUnsent(task)) return refuse('sent');
  // Metadata is a payload: its row is written beside the move.
  const { metadata: _, wish, ...plain } = event.patch;
  const priority = plain.priority ?? task.priority;
  const scheduledFor = plain.scheduledFor === undefined ? task.scheduledFor : plain.scheduledFor;
  const isScheduled = scheduledFor !== null && scheduledFor > draft.now;
  const current = currentAttempt(task);
  // The next attempt must not reuse the key of one that was prepared with other bytes.
  if (current !== null) draft.setAttempt(current.number, { reusable: false });
  draft.set({
    ...plain,
    wish: wish ?? task.wish,
    orderAt: orderOf(sinceOf(task.createdAt, scheduledFor), priority),
  });
  if (wish !== undefined || plain.scheduledFor !== undefined) {
    // Whatever it waited for may not be what it waits for now: it is routed anew.
    draft.set({
      avoid: [],
      dueAt: isScheduled ? scheduledFor : draft.now,
      waiting: isScheduled
        ? { reason: 'scheduled', detail: 'its time has not come', until: scheduledFor }
        : null,
      lane: null,
    });
  }
  const changed = Object.keys(event.patch).sort();
  draft.note('task.changed', event.actor, { changed });
  return undefined;
}

/** From when its age counts: its birth, or the time that it was scheduled for. */
const sinceOf = (createdAt: Date, scheduledFor: Date | null): Date =>
  scheduledFor !== null && scheduledFor > createdAt ? scheduledFor : createdAt;

function isUnsent(task: Task): boolean {
  if (task.state !== 'PENDING' || task.leasedBy !== null || task.cancelRequestedAt !== null) return false;
  const attempt = currentAttempt(task);
  return (
    task.spent === 0 && (attempt === null || (attempt.endedAt !== null && attempt.outcome === 'not_received'))
  );
}
