import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { claim, disown, type Claimed, type ClaimRequest } from '../db/claim.js';
import type { Db } from '../db/pool.js';
import type { Lease } from '../db/processes.js';
import { makeId } from '../domain/ids.js';
import type { Fleet } from '../domain/routing.js';
import type { Task } from '../domain/task.js';
import type { Logger } from '../logger.js';
import type { Plan } from './plan.js';

export type SendPlan = Extract<Plan, { kind: 'send' }>;
export type ClaimedPlan = { readonly plan: SendPlan; readonly claimed: Claimed };

export type ClaimDeps = {
  readonly db: Db;
  readonly lease: Pick<Lease, 'id'>;
  readonly publicUrl: string;
  /** The key that new attempts' tokens are signed with. */
  readonly signingKeyId: string;
  readonly logger: Logger;
  readonly abort: AbortSignal;
  /** Whether this process is sending a task right now. */
  readonly isInHand: (taskId: string) => boolean;
};

/** Longer than any statement may run. */
const lostClaimMs = 3000;

export type Claims = {
  /** Claims what can go, in the order given; what is missing in the answer was refused or is another's. */
  claimAll(plans: readonly SendPlan[], fleet: Fleet): Promise<readonly ClaimedPlan[]>;
  /** Lets go of tasks that a living process may hold without knowing it. */
  giveBack(ids: readonly string[]): Promise<void>;
};

export function makeClaims(deps: ClaimDeps): Claims {
  async function claimBatch(plans: readonly SendPlan[], fleet: Fleet): Promise<readonly Claimed[]> {
    if (plans.length === 0) return [];
    const limited = plans.some(({ backendId }) => isLimited(fleet, backendId));
    const requests = plans.map((plan) => requestOf(deps, plan));
    try {
      return await claim(deps.db, requests, { processId: deps.lease.id, limited });
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
      const lost = ids.filter((id) => !deps.isInHand(id));
      const done = await disown(deps.db, lost, deps.lease.id).then(
        () => true,
        () => false,
      );
      if (done) return;
    }
  }

  return {
    async claimAll(plans, fleet) {
      // One that was claimed before and left no outcome is claimed alone: a poison takes no neighbours along (P15).
      const alone = plans.filter(({ task }) => task.claims > 0);
      const batches = [plans.filter(({ task }) => task.claims === 0), ...alone.map((plan) => [plan])];
      const claimed: ClaimedPlan[] = [];
      for (const batch of batches) {
        const planOf = new Map(batch.map((plan) => [plan.task.id, plan]));
        for (const one of await claimBatch(batch, fleet)) {
          const plan = planOf.get(one.taskId);
          if (plan !== undefined) claimed.push({ plan, claimed: one });
        }
      }
      return claimed;
    },
    giveBack,
  };
}

function requestOf(deps: ClaimDeps, { task, backendId, number }: SendPlan): ClaimRequest {
  return {
    taskId: task.id,
    version: task.version,
    backendId,
    number,
    idempotencyKey: makeId('key', Date.now(), randomBytes(10)),
    callbackUrl: callbackUrlOf(deps.publicUrl, task, number),
    signingKeyId: deps.signingKeyId,
    traceparent: `00-${randomBytes(16).toString('hex')}-${randomBytes(8).toString('hex')}-01`,
  };
}

const callbackUrlOf = (publicUrl: string, task: Task, attempt: number): string =>
  `${publicUrl}/v1/callbacks/${task.id}/${attempt}`;

/** Whether the claim has to lock the backend before it counts. */
function isLimited(fleet: Fleet, backendId: string): boolean {
  const backend = fleet.backends.find(({ id }) => id === backendId);
  if (backend === undefined) return true;
  const { maxConcurrency, maxDispatchesPerMinute, health } = backend;
  return maxConcurrency !== null || maxDispatchesPerMinute !== null || health.reason === 'misconfigured';
}
