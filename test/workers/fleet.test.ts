import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { makeFleetView } from '../../src/workers/fleet.js';
import { openScenario, type Scenario } from '../support/scenario.js';

let scene: Scenario;
beforeAll(async () => {
  scene = await openScenario();
});
afterAll(() => scene.close());

test('what is about to be sent counts at once, until a later reading, and makes no backend look full', async () => {
  const { id: free } = await scene.open();
  const { id: small } = await scene.open({}, { maxConcurrency: 2 });
  const fleet = makeFleetView({ db: scene.db, sealer: { open: (text) => text }, maxAgeMs: 60_000 });
  const loads = async () => {
    const { backends } = await fleet.look();
    return [free, small].map((id) => backends.find((one) => one.id === id)?.inFlight);
  };
  expect(await loads()).toEqual([0, 0]);
  fleet.count([free, free, free, small, small, small]);
  expect(await loads()).toEqual([3, 1]);
  fleet.forget();
  expect(await loads()).toEqual([0, 0]);
});
