import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { claim, disown, type Claimed, type ClaimRequest } from '../db/claim.js';
import { findDue, findUnapplied } from '../db/due.js';
import type { Db } from '../db/pool.js';
import type { Lease } from '../db/processes.js';
import { makeId } from '../domain/ids.js';
import type { Fleet } from '../domain/routing.js';
import { currentAttempt, type Task } from '../domain/task.js';
import type { Ring } from '../queues/ring.js';
import type { Mover } from './mover.js';
import { makePlaces } from './places.js';
import { planBatch, type Plan } from './plan.js';
import { sendClaimed, type SendDeps } from './send.js';

export type DispatchDeps = SendDeps & {
  readonly db: Db;
  readonly mover: Mover;
  readonly ring: Pick<Ring, 'ring'>;
  readonly lease: Lease;
  readonly publicUrl: string;
  /** The key that new attempts' tokens are signed with. */
  readonly signingKeyId: string;
  /** Ends sends on shutdown, after their grace. */
  readonly abort: AbortSignal;
};

/** What became of one ring; `settled` resolves when its sends have ended and are saved. */
export type DispatchReport = {
  readonly claimed: number;
  readonly held: number;
  readonly settled: Promise<void>;
};

export type Dispatch = {
  /** Looks at tasks that were rung for: claims what can go, holds what cannot, and returns at the claim. */
  look(ids: readonly string[]): Promise<DispatchReport>;
  /** Sends under way. */
  sending(): number;
  /** Resolves when no send is under way. */
  idle(): Promise<void>;
};

type SendPlan = Extract<Plan, { kind: 'send' }>;

/** Ids that found no send place; more than this are left to the sweep. */
const maxOverflow = 10_000;

/** Longer than any statement may run. */
const lostClaimMs = 3000;

export function makeDispatch(deps: DispatchDeps): Dispatch {
  const places = makePlaces({ total: 512, perBackend: 128 });
  const overflow = new Set<string>();
  const sends = new Set<Promise<void>>();
  const inHand = new Set<string>();
  let pumping = false;

  async function look(ids: readonly string[]): Promise<DispatchReport> {
    if (!deps.lease.holds()) return { claimed: 0, held: 0, settled: Promise.resolve() };
    const [tasks, fleet] = await Promise.all([findDue(deps.db, ids), deps.fleet.look()]);
    const plans = planBatch(tasks, fleet);
    const wanted = plans.filter((plan): plan is SendPlan => plan.kind === 'send');
    const within = takePlaces(wanted);
    const claimed = await claimAll(within, fleet);
    const settled = Promise.all(claimed.map(({ plan, claim: one }) => startSend(plan.task, one))).then(
      () => undefined,
    );
    const refused = within.filter((plan) => !claimed.some(({ claim: one }) => one.taskId === plan.task.id));
    const held = await holdAll([
      ...plans.filter((plan) => plan.kind !== 'send'),
      ...(await planAgain(refused)),
    ]);
    return { claimed: claimed.length, held, settled };
  }

  /** Only what can be sent at once is claimed; the rest waits here as ids, which may be lost at any time. */
  function takePlaces(plans: readonly SendPlan[]): SendPlan[] {
    return plans.filter((plan) => {
      if (places.free(plan.backendId) > 0) {
        places.take(plan.backendId);
        return true;
      }
      if (overflow.size < maxOverflow) overflow.add(plan.task.id);
      return false;
    });
  }

  /** A task that was claimed before without an outcome is claimed alone, or a poison would take its neighbours along. */
  async function claimAll(
    plans: readonly SendPlan[],
    fleet: Fleet,
  ): Promise<{ plan: SendPlan; claim: Claimed }[]> {
    const alone = plans.filter(({ task }) => task.claims > 0);
    const batches = [plans.filter(({ task }) => task.claims === 0), ...alone.map((plan) => [plan])];
    const claimed: { plan: SendPlan; claim: Claimed }[] = [];
    for (const batch of batches) {
      const got = await claimBatch(batch, fleet);
      for (const one of got) {
        const plan = batch.find(({ task }) => task.id === one.taskId);
        if (plan !== undefined) claimed.push({ plan, claim: one });
      }
      for (const { task, backendId } of batch) {
        if (!got.some(({ taskId }) => taskId === task.id)) places.give(backendId);
      }
    }
    return claimed;
  }

  async function claimBatch(plans: readonly SendPlan[], fleet: Fleet): Promise<readonly Claimed[]> {
    if (plans.length === 0) return [];
    const limited = plans.some(({ backendId }) => isLimited(fleet, backendId));
    try {
      return await claim(deps.db, plans.map(requestOf), { processId: deps.lease.id, limited });
    } catch (error) {
      deps.logger.warn('claim.unknown', { tasks: plans.length, error });
      void giveBack(plans.map(({ task }) => task.id));
      return [];
    }
  }

  /**
   * A claim whose answer was lost may have been committed, and a living process would keep those tasks for ever:
   * they are given back once that statement cannot be under way any more, unless they came into hand meanwhile.
   */
  async function giveBack(ids: readonly string[]): Promise<void> {
    while (!deps.abort.aborted) {
      await sleep(lostClaimMs, undefined, { signal: deps.abort }).catch(() => undefined);
      const lost = ids.filter((id) => !inHand.has(id));
      const done = await disown(deps.db, lost, deps.lease.id).then(
        () => true,
        () => false,
      );
      if (done) return;
    }
  }

  function requestOf({ task, backendId, number }: SendPlan): ClaimRequest {
    return {
      taskId: task.id,
      version: task.version,
      backendId,
      number,
      idempotencyKey: makeId('key', Date.now(), randomBytes(10)),
      callbackUrl: `${deps.publicUrl}/v1/callbacks/${task.id}/${number}`,
      signingKeyId: deps.signingKeyId,
      traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`,
    };
  }

  /** What the claim refused is looked at again with fresh eyes: it is held if its backend is full, else left to the sweep. */
  async function planAgain(refused: readonly SendPlan[]): Promise<readonly Plan[]> {
    if (refused.length === 0) return [];
    deps.fleet.forget();
    const [tasks, fleet] = await Promise.all([
      findDue(
        deps.db,
        refused.map(({ task }) => task.id),
      ),
      deps.fleet.look(),
    ]);
    void ringUnfolded(tasks);
    return planBatch(tasks, fleet).filter((plan) => plan.kind === 'hold');
  }

  /** A task with callbacks that nobody has folded cannot be claimed: the other bell is rung for it. */
  async function ringUnfolded(tasks: readonly Task[]): Promise<void> {
    const doubtful = tasks.filter((task) => currentAttempt(task) !== null);
    if (doubtful.length === 0) return;
    const unapplied = await findUnapplied(deps.db, 0, 1000).catch(() => []);
    await deps.ring.ring('transitions', unapplied);
  }

  async function holdAll(plans: readonly Plan[]): Promise<number> {
    await Promise.all(
      plans.map(async (plan) => {
        if (plan.kind === 'hold') {
          const { waiting, lane } = plan.route;
          await deps.mover.move({ taskId: plan.task.id, event: { type: 'held', waiting, lane } });
        } else if (plan.kind === 'quarantine') {
          const reason = `it was claimed ${plan.task.claims} times and no worker lived to tell the outcome`;
          await deps.mover.move({ taskId: plan.task.id, event: { type: 'quarantined', reason } });
        }
      }),
    );
    return plans.length;
  }

  function startSend(task: Task, claimed: Claimed): Promise<void> {
    const { backend_id: backendId } = claimed.attempt;
    inHand.add(task.id);
    const send = sendAndSave(task, claimed).finally(() => {
      inHand.delete(task.id);
      places.give(backendId);
      sends.delete(send);
      pump();
    });
    sends.add(send);
    return send;
  }

  async function sendAndSave(task: Task, claimed: Claimed): Promise<void> {
    const startedAt = performance.now();
    const { task_id: taskId, number, backend_id: backendId } = claimed.attempt;
    try {
      const event = await sendClaimed(deps, task, claimed, deps.abort);
      const saved = await deps.mover.moveSurely({ taskId, event }, deps.abort);
      const durationMs = Math.round(performance.now() - startedAt);
      deps.logger.info('task.sent', {
        taskId,
        attempt: number,
        backendId,
        outcome: event.type,
        durationMs,
        saved: saved.kind,
      });
      // Another backend may take it at once: no need to wait for the sweep.
      const goesOn = saved.kind === 'won' && saved.after.state === 'PENDING' && event.type === 'postponed';
      if (goesOn && event.dueAt <= deps.fleet.now()) remember(taskId);
    } catch (error) {
      deps.logger.error('send.broken', { taskId, attempt: number, backendId, error });
      void giveBack([taskId]);
    }
  }

  function remember(taskId: string): void {
    if (overflow.size < maxOverflow) overflow.add(taskId);
  }

  /** Goes on with what found no place, as soon as one is free; gathered, since many sends end together. */
  function pump(): void {
    if (pumping || overflow.size === 0 || deps.abort.aborted) return;
    pumping = true;
    setImmediate(() => {
      pumping = false;
      const ids = [...overflow].slice(0, 200);
      for (const id of ids) overflow.delete(id);
      look(ids).catch((error: unknown) => deps.logger.warn('dispatch.delayed', { error }));
    });
  }

  return {
    look,
    sending: () => places.taken(),
    async idle() {
      while (sends.size > 0) await Promise.allSettled(sends);
    },
  };
}

function isLimited(fleet: Fleet, backendId: string): boolean {
  const backend = fleet.backends.find(({ id }) => id === backendId);
  if (backend === undefined) return true;
  return (
    backend.maxConcurrency !== null ||
    backend.maxDispatchesPerMinute !== null ||
    backend.health.reason === 'misconfigured'
  );
}
