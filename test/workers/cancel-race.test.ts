import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openScenario, type Scenario } from '../support/scenario.js';

const pairs = 200;
const jitterMs = 20;

/** A cancel that races its dispatch and the callbacks: whoever wins, the promise holds (P11). */
describe('a cancel in a race', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterAll(() => scene.close());

  const jitter = () => wait(Math.random() * jitterMs);
  /** What the cancel runs against: the claim, the send, or the callback of an agent that has finished. */
  const against = ['claim', 'send', 'callback'] as const;
  type Rival = (typeof against)[number];
  type Race = {
    readonly id: string;
    readonly answer: 'final' | 'requested' | 'over';
    readonly sends: number;
  };

  test(`holds for ${pairs} pairs, and each of the three wins at least ten times`, async () => {
    const rivals = new Map<string, Rival>();
    const arrivals = new Map<string, () => void>();
    const { stub } = await scene.open({
      behave: async ({ taskId }) => {
        const id = taskId ?? '';
        arrivals.get(id)?.();
        await jitter();
        if (rivals.get(id) === 'callback') {
          await scene.tell(id, 1, { status: 'completed', result: '1' });
          await scene.fold([id]);
        }
        return { status: 201 };
      },
    });
    const sendsOf = (id: string) => stub.spawns.filter(({ taskId }) => taskId === id).length;

    const race = async (rival: Rival): Promise<Race> => {
      const id = await scene.create();
      rivals.set(id, rival);
      const arrived = new Promise<void>((resolve) => arrivals.set(id, resolve));
      const sending = jitter().then(async () => (await scene.dispatch.look([id])).settled);
      if (rival !== 'claim') await arrived;
      await jitter();
      const cancelled = await scene.cancel(id);
      const sends = sendsOf(id);
      await sending;
      if (cancelled.kind !== 'won') return { id, answer: 'over', sends };
      return { id, answer: cancelled.after.state === 'CANCELLED' ? 'final' : 'requested', sends };
    };
    const races: Race[] = [];
    for (let done = 0; done < pairs; done += 10) {
      const batch = Array.from({ length: 10 }, (_, index) => race(against[(done + index) % 3] ?? 'claim'));
      races.push(...(await Promise.all(batch)));
    }
    // Later rings, kills and questions, as the duties would.
    await scene.crank();
    await scene.kill(3);
    await scene.crank();

    const wins = { final: 0, requested: 0, over: 0 };
    for (const { id, answer, sends } of races) {
      wins[answer] += 1;
      const { state } = await scene.task(id);
      const agents = stub.sessions.filter(({ taskId }) => taskId === id);
      const timeline = await scene.timeline(id);
      expect(timeline.filter((entry) => / >(COMPLETED|FAILED|CANCELLED)$/.test(entry))).toHaveLength(1);
      if (answer === 'final') {
        expect({ state, sends, later: sendsOf(id) }).toEqual({ state: 'CANCELLED', sends: 0, later: 0 });
      } else if (answer === 'over') {
        expect(state).toBe('COMPLETED');
      } else {
        expect(['CANCELLED', 'COMPLETED']).toContain(state);
        if (state === 'CANCELLED')
          expect(agents.map((agent) => agent.status)).toEqual(agents.map(() => 'killed'));
      }
    }
    expect(Math.min(...Object.values(wins))).toBeGreaterThanOrEqual(10);
    expect(await scene.rows('SELECT 1 FROM attempts WHERE ended_at IS NULL')).toEqual([]);
  });
});
