import type { Claimed } from '../db/claim.js';
import { findDue, findUnapplied } from '../db/due.js';
import type { Db } from '../db/pool.js';
import type { Lease } from '../db/processes.js';
import { currentAttempt, type Task } from '../domain/task.js';
import type { Ring } from '../queues/ring.js';
import { makeClaims, type ClaimDeps, type SendPlan } from './claiming.js';
import type { Mover } from './mover.js';
import { makeOverflow } from './overflow.js';
import { makePlaces } from './places.js';
import { planBatch, type Plan } from './plan.js';
import { sendClaimed, type SendDeps } from './send.js';

export type DispatchDeps = SendDeps &
  Omit<ClaimDeps, 'isInHand'> & {
    readonly db: Db;
    readonly mover: Mover;
    readonly ring: Pick<Ring, 'ring'>;
    readonly lease: Lease;
    /** Cuts sends on shutdown, after their grace. */
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

/** Most tasks of one look that the overflow asks for. */
const perLook = 128;

/** Where a task waits that is to be routed anew. */
const anyBackend = '';

/** Well below the claims after which a task is set aside, so that the innocent never get there. */
const doubtfulFromClaims = 2;

export function makeDispatch(deps: DispatchDeps): Dispatch {
  const places = makePlaces({ total: 512, perBackend: 128 });
  const overflow = makeOverflow();
  const doubts = new Set<string>();
  let doubtful: string | null = null;
  const sends = new Map<string, Promise<void>>();
  const claims = makeClaims({ ...deps, isInHand: (taskId) => sends.has(taskId) });
  let pumping = false;

  async function look(rung: readonly string[]): Promise<DispatchReport> {
    // Rings come doubled: what is being sent, or waits here for a place, needs no second look.
    const ids = rung.filter((id) => !sends.has(id) && !overflow.has(id));
    if (ids.length === 0 || !deps.lease.holds()) return { claimed: 0, held: 0, settled: Promise.resolve() };
    const [tasks, fleet] = await Promise.all([findDue(deps.db, ids), deps.fleet.look()]);
    const plans = planBatch(tasks, fleet);
    const placed = takePlaces(plans.filter((plan) => plan.kind === 'send'));
    deps.fleet.count(placed.map(({ backendId }) => backendId));
    const claimed = await claims.claimAll(placed, fleet);
    const won = new Set(claimed.map(({ plan }) => plan.task.id));
    const refused = placed.filter(({ task }) => !won.has(task.id));
    for (const { task, backendId } of refused) givePlace(task.id, backendId);
    const settled = Promise.all(claimed.map((one) => startSend(one.plan.task, one.claimed)));
    const held = await setAside([
      ...plans.filter((plan) => plan.kind !== 'send'),
      ...(await planAgain(refused)),
    ]);
    return { claimed: claimed.length, held, settled: settled.then(() => undefined) };
  }

  /**
   * Only what can be sent at once is claimed; the rest waits here as ids, which may be lost at any time. Of those
   * that were claimed twice and left no outcome one is in hand at a time: whichever ends this process is then alone,
   * and no neighbour of it is counted as poison with it (P15). One crash alone says little about any of them: in turn,
   * each for the length of its send, a hundred would take minutes behind a slow backend.
   */
  function takePlaces(plans: readonly SendPlan[]): SendPlan[] {
    return plans.filter(({ task, backendId }) => {
      const isDoubtful = task.claims >= doubtfulFromClaims;
      const mayGo = places.free(backendId) > 0 && !(isDoubtful && doubtful !== null);
      if (!mayGo && isDoubtful) doubts.add(task.id);
      else if (!mayGo) overflow.add(backendId, task.id);
      if (!mayGo) return false;
      places.take(backendId);
      if (isDoubtful) doubtful = task.id;
      return true;
    });
  }

  function givePlace(taskId: string, backendId: string): void {
    places.give(backendId);
    if (doubtful === taskId) doubtful = null;
  }

  /** What the claim refused is looked at with fresh eyes: held if its backend is full, else left to the sweep. */
  async function planAgain(refused: readonly SendPlan[]): Promise<readonly Plan[]> {
    if (refused.length === 0) return [];
    deps.fleet.forget();
    const ids = refused.map(({ task }) => task.id);
    const [tasks, fleet] = await Promise.all([findDue(deps.db, ids), deps.fleet.look()]);
    await ringUnfolded(tasks);
    return planBatch(tasks, fleet).filter((plan) => plan.kind === 'hold');
  }

  /** A task with callbacks that nobody has folded cannot be claimed: the other bell is rung for it. */
  async function ringUnfolded(tasks: readonly Task[]): Promise<void> {
    if (!tasks.some((task) => currentAttempt(task) !== null)) return;
    await deps.ring.ring('transitions', await findUnapplied(deps.db, 0, 1000));
  }

  async function setAside(plans: readonly Plan[]): Promise<number> {
    const moves = plans.map((plan) => {
      const taskId = plan.task.id;
      if (plan.kind === 'hold') {
        const { waiting, lane } = plan.route;
        return deps.mover.move({ taskId, event: { type: 'held', waiting, lane } });
      }
      const reason = `it was claimed ${plan.task.claims} times and no worker lived to tell the outcome`;
      return deps.mover.move({ taskId, event: { type: 'quarantined', reason } });
    });
    await Promise.all(moves);
    return plans.length;
  }

  function startSend(task: Task, claimed: Claimed): Promise<void> {
    const send = sendAndSave(task, claimed).finally(() => {
      sends.delete(task.id);
      givePlace(task.id, claimed.attempt.backend_id);
      pump();
    });
    sends.set(task.id, send);
    return send;
  }

  async function sendAndSave(task: Task, claimed: Claimed): Promise<void> {
    const startedAt = performance.now();
    const { task_id: taskId, number: attempt, backend_id: backendId } = claimed.attempt;
    try {
      const event = await sendClaimed(deps, task, claimed, deps.abort);
      const saved = await deps.mover.moveSurely({ taskId, event }, deps.abort);
      const durationMs = Math.round(performance.now() - startedAt);
      deps.logger.info('task.sent', {
        taskId,
        attempt,
        backendId,
        outcome: event.type,
        durationMs,
        saved: saved.kind,
      });
      // Another backend may take it at once: no need to wait for the sweep.
      const goesOn = saved.kind === 'won' && saved.after.state === 'PENDING' && event.type === 'postponed';
      if (goesOn && event.dueAt <= deps.fleet.now()) overflow.add(anyBackend, taskId);
    } catch (error) {
      deps.logger.error('send.broken', { taskId, attempt, backendId, error });
      void claims.giveBack([taskId]);
    }
  }

  /** Goes on with what found no place, as many as have one now; one look at a time, so that freed places gather. */
  function pump(): void {
    if (pumping || deps.abort.aborted) return;
    pumping = true;
    setImmediate(() => {
      const free = (backendId: string): number =>
        backendId === anyBackend ? perLook : places.free(backendId);
      const ids = [...overflow.take(free, perLook), ...takeOne(doubts, doubtful === null)];
      const looked = ids.length === 0 ? null : look(ids);
      if (looked === null) pumping = false;
      else {
        looked
          .catch((error: unknown) => deps.logger.warn('dispatch.delayed', { error }))
          .finally(() => {
            pumping = false;
            pump();
          });
      }
    });
  }

  return {
    look,
    sending: () => places.taken(),
    async idle() {
      while (sends.size > 0) await Promise.allSettled(sends.values());
    },
  };
}

function takeOne(ids: Set<string>, mayTake: boolean): string[] {
  const [first] = ids;
  if (first === undefined || !mayTake) return [];
  ids.delete(first);
  return [first];
}
