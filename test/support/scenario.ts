import { expect } from '@jest/globals';
import { findUnapplied, findUnrung } from '../../src/db/due.js';
import type { Task } from '../../src/domain/task.js';
import type { Duty } from '../../src/workers/duty.js';
import { eventually } from './eventually.js';
import { openStubOrchestrator, type StubOptions, type StubOrchestrator } from './orchestrator.js';
import { openPipeline, type Pipeline } from './pipeline.js';

export type AttemptSeen = {
  readonly number: number;
  readonly backend_id: string;
  readonly external_id: string | null;
  readonly outcome: string | null;
  readonly sends: number;
  readonly idempotency_key: string;
  readonly ended_at: Date | null;
  readonly kill_due_at: Date | null;
};

type BackendFields = NonNullable<Parameters<Pipeline['backend']>[1]>;
export type Scenario = Awaited<ReturnType<typeof openScenario>>;

/** A pipeline with Orchestrators of its own, and the crank that turns all of it once. */
export async function openScenario(limits: Parameters<typeof openPipeline>[0] = {}) {
  const pipeline = await openPipeline(limits);
  const stubs: StubOrchestrator[] = [];
  const never = new AbortController().signal;

  /** What the scheduler, the bells and the workers would do in the next instant. */
  async function crank(): Promise<void> {
    await pipeline.duties.release.runOnce(never);
    const rung = pipeline.ring.rung.splice(0).flatMap(({ ids }) => ids);
    const ids = [...new Set([...rung, ...(await findUnrung(pipeline.db, 0, 1000))])];
    await pipeline.send(...ids);
    await pipeline.dispatch.idle();
    await pipeline.fold(await findUnapplied(pipeline.db, 0, 1000));
  }

  return {
    ...pipeline,
    crank,
    /** A backend that is a real Orchestrator; `up` and without limits unless `fields` say otherwise. */
    async open(options: StubOptions = {}, fields: BackendFields = {}) {
      const stub = await openStubOrchestrator(options);
      stubs.push(stub);
      return { stub, id: await pipeline.backend(stub.url, fields) };
    },
    /** Turns the crank until the task is as `until` says. */
    async drive(id: string, until: (task: Task) => boolean = ({ state }) => state !== 'PENDING') {
      return eventually(async () => {
        await crank();
        const task = await pipeline.task(id);
        expect([task.state, task.waiting, until(task)]).toEqual([task.state, task.waiting, true]);
        return task;
      });
    },
    /** Tasks of one kind, in the order of their making. */
    async createMany(count: number, request: Parameters<Pipeline['create']>[0] = {}): Promise<string[]> {
      const ids: string[] = [];
      for (let made = 0; made < count; made += 1) ids.push(await pipeline.create(request));
      return ids;
    },
    /** As if its process had been killed: nobody renews its lease, which has just run out. What it sends goes on. */
    async die({ lease }: Awaited<ReturnType<Pipeline['openDispatcher']>>): Promise<void> {
      await lease.close();
      await pipeline.rows(
        `INSERT INTO processes (id, name, host, pid, lease_until) VALUES ($1, 'dispatch', 'gone', 0, now())`,
        [lease.id],
      );
    },
    run: (duty: Duty) => duty.runOnce(never),
    /** Lets every kill and question that waits for its time be due now, and carries it out. */
    async kill(times = 1): Promise<void> {
      for (let turn = 0; turn < times; turn += 1) {
        await pipeline.rows('UPDATE attempts SET kill_due_at = now() WHERE kill_due_at IS NOT NULL');
        await pipeline.duties.kill.runOnce(never);
      }
    },
    async reconcile(times = 1): Promise<void> {
      for (let turn = 0; turn < times; turn += 1) {
        await pipeline.rows(`UPDATE attempts SET ask_at = now() WHERE ask_at IS NOT NULL`);
        await pipeline.rows(`UPDATE tasks SET last_heard_at = last_heard_at - interval '1 day',
          dispatched_at = dispatched_at - interval '1 day' WHERE finished_at IS NULL`);
        await pipeline.duties.reconcile.runOnce(never);
      }
    },
    cancel: (id: string, reason = 'not needed') =>
      pipeline.mover.move({ taskId: id, event: { type: 'cancelRequested', reason, actor: 'key_1' } }),
    attempts: (id: string) =>
      pipeline.rows<AttemptSeen>('SELECT * FROM attempts WHERE task_id = $1 ORDER BY number', [id]),
    /** The ends of the attempts that still hold a slot. */
    inFlight: async (backendId: string) =>
      (await pipeline.rows('SELECT 1 FROM attempts WHERE backend_id = $1 AND ended_at IS NULL', [backendId]))
        .length,
    async clear(): Promise<void> {
      await pipeline.dispatch.idle();
      await pipeline.rows(
        'TRUNCATE tasks, task_payloads, task_results, task_events, attempts, callbacks, backends, fences, audit_log',
      );
      pipeline.ring.rung.splice(0);
      await Promise.all(stubs.splice(0).map((stub) => stub.close()));
    },
    async close(): Promise<void> {
      await pipeline.close();
      await Promise.all(stubs.splice(0).map((stub) => stub.close()));
    },
  };
}
