import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openStubOrchestrator, type StubOrchestrator } from '../support/orchestrator.js';
import { openPipeline, type Pipeline } from '../support/pipeline.js';

describe('the way of a task', () => {
  let pipeline: Pipeline;
  let stub: StubOrchestrator;
  beforeAll(async () => {
    pipeline = await openPipeline();
    stub = await openStubOrchestrator();
    await pipeline.backend(stub.url, { name: 'stub' });
  });
  afterAll(async () => {
    await pipeline.close();
    await stub.close();
  });

  test('a created task is sent once and followed to its end', async () => {
    const id = await pipeline.create({ title: 'hello' }, '{"text": "as it came"}');
    await pipeline.send(id);
    const sent = await pipeline.task(id);
    expect(sent).toMatchObject({ state: 'DISPATCHED', attempt: 1, leasedBy: null, dueAt: null });
    expect(sent.externalId).not.toBeNull();
    expect(stub.spawns.filter(({ taskId }) => taskId === id)).toHaveLength(1);
    expect(stub.spawns.at(-1)?.bodyText).toContain('"context":{"text": "as it came"}');

    await pipeline.tell(id, 1, { status: 'running' });
    await pipeline.tell(id, 1, { status: 'progress', progressPercent: 40, sequence: 1 });
    await pipeline.tell(id, 1, { status: 'completed', result: '{"ok": true}' });
    await pipeline.fold([id]);
    expect(await pipeline.task(id)).toMatchObject({ state: 'COMPLETED', progress: { percent: 40 } });
    expect(await pipeline.timeline(id)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'task.progress',
      'task.completed >COMPLETED',
    ]);
    const [stored] = await pipeline.rows<{ result: string }>(
      'SELECT result FROM task_results WHERE task_id = $1',
      [id],
    );
    expect(stored?.result).toBe('{"ok": true}');
    expect(await pipeline.rows('SELECT 1 FROM callbacks WHERE applied_at IS NULL')).toEqual([]);
  });

  test('a task that is rung twice is sent once', async () => {
    const id = await pipeline.create();
    await Promise.all([pipeline.send(id), pipeline.send(id), pipeline.send(id)]);
    await pipeline.send(id);
    expect(stub.spawns.filter(({ taskId }) => taskId === id)).toHaveLength(1);
    expect(await pipeline.task(id)).toMatchObject({ state: 'DISPATCHED', attempt: 1 });
  });

  test('completed without running fills the walk in', async () => {
    const id = await pipeline.create();
    await pipeline.send(id);
    await pipeline.tell(id, 1, { status: 'completed', result: '1' });
    await pipeline.fold([id]);
    expect(await pipeline.timeline(id)).toEqual([
      'task.created >PENDING',
      'task.claimed',
      'task.dispatched >DISPATCHED',
      'task.started >RUNNING',
      'task.completed >COMPLETED',
    ]);
  });
});
