import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { openScenario, type Scenario } from '../support/scenario.js';

/** An agent that was taken for lost, and is accepted all the same: it is killed, and its task goes its own way. */
describe('an acceptance that comes after the agent was taken for lost', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  test('does not become the task’s agent again, however often it is said', async () => {
    const { stub } = await scene.open();
    const id = await scene.create();
    await scene.drive(id);
    const [agent] = (stub.sessions as unknown[]).splice(0);
    await scene.reconcile(2);
    expect(await scene.task(id)).toMatchObject({ state: 'PENDING', attempt: 1 });
    (stub.sessions as unknown[]).push(agent);
    const accepted = { type: 'accepted', attempt: 1, externalId: 'session_1', httpStatus: 201 } as const;
    for (let times = 0; times < 2; times += 1) {
      await scene.mover.move({ taskId: id, event: accepted });
      expect(await scene.task(id)).toMatchObject({ state: 'PENDING' });
    }
    await scene.kill();
    expect(stub.sessions[0]?.status).toBe('killed');
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 2 });
    expect(await scene.attempts(id)).toMatchObject([{ outcome: 'killed' }, { outcome: 'accepted' }]);
  });
});
