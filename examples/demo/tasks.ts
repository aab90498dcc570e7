import { readFileSync } from 'node:fs';

/** What the demo expects of a task; it is not sent. */
export type Expectation = {
  readonly expect: 'COMPLETED' | 'FAILED' | 'CANCELLED';
  readonly errorCode: string | null;
  /** Attempts that it must have taken. */
  readonly attempts: number;
  readonly cancelWhenRunning: boolean;
};
export type DemoTask = {
  readonly title: string;
  readonly body: Record<string, unknown>;
  readonly expectation: Expectation;
};

type Line = Record<string, unknown> & {
  title: string;
  context: Record<string, unknown>;
  demo?: Partial<Expectation> & { inSeconds?: number };
};

/** Reads the tasks' file, one body of a create request a line, and completes each with what only this run knows. */
export function readTasks(
  file: string,
  run: { id: string; repository: string; backend: string; now: Date },
): DemoTask[] {
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return lines.map((line, index) => {
    const { demo = {}, context, ...body } = JSON.parse(line) as Line;
    const {
      expect = 'COMPLETED',
      errorCode = null,
      attempts = 1,
      cancelWhenRunning = false,
      inSeconds,
    } = demo;
    const due = inSeconds === undefined ? null : new Date(run.now.getTime() + inSeconds * 1000).toISOString();
    return {
      title: body.title,
      expectation: { expect, errorCode, attempts, cancelWhenRunning },
      body: {
        ...body,
        context: { repository: run.repository, branch: 'main', ...context },
        backend: { name: run.backend },
        tags: ['demo', run.id],
        ...(due === null ? {} : { scheduledFor: due }),
        // Creating the batch a second time, after an answer that was lost, makes no task twice.
        idempotencyKey: `${run.id}-${index}`,
      },
    };
  });
}
