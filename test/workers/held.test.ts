import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually } from '../support/eventually.js';
import { openScenario, type Scenario } from '../support/scenario.js';

/** Work that cannot go now: why it waits, what that costs, and who goes first when it can. */
describe('held work', () => {
  let scene: Scenario;
  beforeAll(async () => {
    scene = await openScenario();
  });
  afterEach(() => scene.clear());
  afterAll(() => scene.close());

  const waitingOf = async (id: string) => {
    const { state, waiting, spent, attempt, lane, dueAt } = await scene.task(id);
    return { state, reason: waiting?.reason, detail: waiting?.detail, spent, attempt, lane, dueAt };
  };
  const held = (reason: string, detail: string) => ({
    state: 'PENDING',
    reason,
    detail: expect.stringContaining(detail),
    spent: 0,
    attempt: 0,
    lane: expect.any(String),
    dueAt: null,
  });
  const idle = { state: 'PENDING', spent: 0, attempt: 0 };

  test('without any backend it waits for one and goes out as soon as one is there', async () => {
    const id = await scene.create();
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('no_backend', 'been added yet'));
    await scene.open();
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1, spent: 0 });
    expect(await scene.attempts(id)).toMatchObject([{ number: 1, sends: 1 }]);
  });

  test('labels that no backend has are named, and a backend that has them all gets it', async () => {
    await scene.open({}, { labels: { gpu: 'yes' } });
    const id = await scene.create({ backend: { labels: { gpu: 'yes', region: 'eu' } } });
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('no_backend', 'labels gpu=yes, region=eu'));
    const { stub, id: fitting } = await scene.open({}, { labels: { gpu: 'yes', region: 'eu', tier: '1' } });
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', backendId: fitting });
    expect(stub.spawns).toHaveLength(1);
  });

  test('a backend that was never tested, or is down, holds it until a ping says that it is up', async () => {
    const { id: backendId } = await scene.open({}, { health: 'unknown', name: 'north' });
    const id = await scene.create();
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('backend_down', 'north has not answered a health test yet'));
    await scene.rows(`UPDATE backends SET health_status = 'down', health_reason = 'unhealthy'`);
    await scene.rows(`UPDATE tasks SET due_at = now(), lane = NULL`);
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('backend_down', 'north is unhealthy'));
    await scene.ping(backendId);
    await scene.crank();
    expect(await scene.task(id)).toMatchObject(idle);
    await scene.ping(backendId);
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
  });

  test.each(['draining', 'disabled'])('a %s backend counts as none, and the detail says so', async (mode) => {
    const { id: backendId } = await scene.open({}, { mode, name: 'west' });
    const id = await scene.create({ backend: { name: 'west' } });
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('no_backend', `west is ${mode}`));
    await scene.rows(`UPDATE backends SET mode = 'active' WHERE id = $1`, [backendId]);
    expect(await scene.drive(id)).toMatchObject({ state: 'DISPATCHED' });
  });

  test('a removed backend counts as none, and the detail says so', async () => {
    const { id: backendId } = await scene.open({}, { name: 'gone' });
    await scene.rows(`UPDATE backends SET deleted_at = now()`);
    const id = await scene.create({ backend: { id: backendId } });
    await scene.send(id);
    expect(await waitingOf(id)).toEqual(held('no_backend', 'gone was removed'));
    await scene.crank();
    expect(await scene.task(id)).toMatchObject(idle);
  });

  test('a full backend holds the next one until an attempt on it ends', async () => {
    const { stub } = await scene.open({}, { maxConcurrency: 1, name: 'small' });
    const [first, second] = [await scene.create(), await scene.create()];
    await scene.send(first, second);
    expect(await waitingOf(second)).toEqual(held('backend_full', 'small'));
    await scene.crank();
    expect(stub.spawns).toHaveLength(1);
    await scene.tell(first, 1, { status: 'completed' });
    expect(await scene.drive(second)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
  });

  test('a backend beyond its rate holds the rest as rate_limited', async () => {
    const { stub } = await scene.open({}, { maxDispatchesPerMinute: 6, name: 'slow' });
    const [first, second] = [await scene.create(), await scene.create()];
    await scene.send(first);
    await scene.send(second);
    expect(await waitingOf(second)).toEqual(held('rate_limited', 'slow takes 6 a minute'));
    expect((await scene.task(second)).waiting?.until).toBeInstanceOf(Date);
    await scene.crank();
    expect(stub.spawns).toHaveLength(1);
    await scene.rows('UPDATE backends SET next_send_at = now()');
    expect(await scene.drive(second)).toMatchObject({ state: 'DISPATCHED' });
  });

  test('higher priority goes first, and ten minutes of age make up for one step', async () => {
    const ids: Record<string, string> = {};
    for (const [name, priority, ageMinutes] of [
      ['idle but very old', 5, 45],
      ['urgent and new', 1, 0],
      ['normal and new', 3, 0],
      ['normal and old', 3, 15],
      ['normal and older', 3, 19],
    ] as const) {
      ids[name] = await scene.create({ priority });
      await scene.rows(
        `UPDATE tasks SET created_at = created_at - make_interval(mins => $2),
           order_at = order_at - make_interval(mins => $2) WHERE id = $1`,
        [ids[name], ageMinutes],
      );
    }
    await scene.send(...Object.values(ids));
    const { stub } = await scene.open({}, { maxConcurrency: 1 });
    await inOneByOne(Object.values(ids).length);
    const nameOf = new Map(Object.entries(ids).map(([name, id]) => [id, name]));
    expect(stub.spawns.map(({ taskId }) => nameOf.get(taskId ?? ''))).toEqual([
      'idle but very old',
      'urgent and new',
      'normal and older',
      'normal and old',
      'normal and new',
    ]);
  });

  /** Each that is sent ends at once, so that the next has a place. */
  async function inOneByOne(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1) {
      await eventually(async () => {
        await scene.crank();
        const [running] = await scene.rows<{ id: string; attempt: number }>(
          `SELECT id, attempt FROM tasks WHERE state = 'DISPATCHED'`,
        );
        expect(running).toBeDefined();
        await scene.tell(running?.id ?? '', running?.attempt ?? 0, { status: 'completed' });
        await scene.fold([running?.id ?? '']);
      });
    }
  }

  test('five of a small workspace go out in turn with five hundred of a big one', async () => {
    const big = await scene.createMany(500, { workspaceId: 'big' });
    await scene.send(...big);
    const small = await scene.createMany(5, { workspaceId: 'small' });
    const third = await scene.createMany(2, { workspaceId: 'third' });
    await scene.send(...small, ...third);
    const { stub } = await scene.open({}, { maxConcurrency: 1 });
    await inOneByOne(14);
    const order = stub.spawns.map(({ taskId }) =>
      small.includes(taskId ?? '') ? 's' : third.includes(taskId ?? '') ? 't' : 'b',
    );
    expect(order.filter((one) => one === 's')).toHaveLength(5);
    expect(order.filter((one) => one === 't')).toHaveLength(2);
    // In turn: until they are out, none of them waits longer than one round.
    expect(order.slice(0, 6).sort().join('')).toBe('bbsstt');
    expect(order.slice(6, 12).sort().join('')).toBe('bbbsss');
  });

  test('with many places at once the workspaces share them', async () => {
    const big = await scene.createMany(60, { workspaceId: 'big' });
    await scene.send(...big);
    const small = await scene.createMany(5, { workspaceId: 'small' });
    await scene.send(...small);
    await scene.open({}, { maxConcurrency: 10 });
    await scene.crank();
    const sent = await scene.rows<{ id: string }>(`SELECT id FROM tasks WHERE state = 'DISPATCHED'`);
    expect(sent).toHaveLength(10);
    expect(sent.filter(({ id }) => small.includes(id))).toHaveLength(5);
  });

  test('a newcomer does not overtake who is held, whatever place has become free', async () => {
    const { stub } = await scene.open({}, { maxConcurrency: 1 });
    const [running, waiting] = [await scene.create(), await scene.create()];
    await scene.send(running, waiting);
    await scene.tell(running, 1, { status: 'completed' });
    await scene.fold([running]);
    const newcomer = await scene.create();
    await scene.send(newcomer);
    expect(await waitingOf(newcomer)).toEqual(held('backend_full', 'others wait'));
    await scene.drive(waiting);
    expect(stub.spawns.map(({ taskId }) => taskId)).toEqual([running, waiting]);
  });

  test('a newcomer may go where nobody waits', async () => {
    await scene.open({}, { name: 'full', maxConcurrency: 1 });
    await scene.open({}, { name: 'free' });
    const wish = { backend: { name: 'full' } };
    const ids = [await scene.create(wish), await scene.create(wish)];
    await scene.send(...ids);
    const other = await scene.create({ backend: { name: 'free' } });
    await scene.send(other);
    expect(await scene.task(other)).toMatchObject({ state: 'DISPATCHED' });
  });

  test('while three backends are stopped a hundred tasks of one attempt wait, and all go out when one starts', async () => {
    const backends = [await scene.open(), await scene.open(), await scene.open()];
    for (const { stub } of backends) await stub.stop();
    const ids = await scene.createMany(100, { retry: { maxAttempts: 1 } });
    await scene.send(...ids);
    await eventually(async () => {
      await scene.crank();
      const reasons = await scene.rows(
        `SELECT DISTINCT state, waiting_reason AS reason, spent, due_at FROM tasks`,
      );
      expect(reasons).toEqual([{ state: 'PENDING', reason: 'backend_down', spent: 0, due_at: null }]);
    });
    const { stub, id } = backends[1]!;
    await stub.start();
    await scene.ping(id);
    await scene.ping(id);
    await eventually(async () => {
      await scene.crank();
      const states = await scene.rows(`SELECT state, count(*)::integer AS n FROM tasks GROUP BY state`);
      expect(states).toEqual([{ state: 'DISPATCHED', n: 100 }]);
    });
    expect(new Set(stub.spawns.map(({ taskId }) => taskId)).size).toBe(100);
    expect(stub.spawns).toHaveLength(100);
    expect(await scene.inFlight(id)).toBe(100);
  });
});
