import type { TaskState } from './task.js';

/**
 * Every legal move of a task (I2). The trigger in the database repeats this table, and a test compares them.
 * PENDING leads to PENDING through nothing: a retry is DISPATCHED or RUNNING going back.
 */
export const legalMoves = {
  PENDING: ['DISPATCHED', 'FAILED', 'CANCELLED'],
  DISPATCHED: ['RUNNING', 'PENDING', 'FAILED', 'CANCELLED'],
  RUNNING: ['COMPLETED', 'PENDING', 'FAILED', 'CANCELLED'],
  COMPLETED: [],
  FAILED: [],
  CANCELLED: [],
} as const satisfies Record<TaskState, readonly TaskState[]>;

export function isLegal(from: TaskState, to: TaskState): boolean {
  return (legalMoves[from] as readonly TaskState[]).includes(to);
}
