import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { makeGather } from '../../src/db/gather.js';
import { openDb, type Db } from '../../src/db/pool.js';
import { openTestDatabase, type TestDatabase } from '../support/database.js';

describe('makeGather', () => {
  let database: TestDatabase;
  let db: Db;
  beforeAll(async () => {
    database = await openTestDatabase();
    db = openDb({ url: database.url, name: 'test', max: 4 });
    await db.query({ text: 'CREATE TABLE kept (n integer PRIMARY KEY, batch integer)' });
  });
  afterAll(async () => {
    await db.close();
    await database.close();
  });

  const roomy = { rows: 100, bytes: 1e6, waitingBytes: 1e6 };

  /** Writes numbers in one statement each batch; a number below 0 is a fault of the data. */
  function writer() {
    const batches: number[][] = [];
    const write = async (items: readonly number[]): Promise<readonly string[]> => {
      batches.push([...items]);
      const rows = await db.query<{ n: number }>(
        {
          text: 'SELECT (CASE WHEN n < 0 THEN 1 / (n - n) ELSE n END)::integer AS n FROM unnest($1::integer[]) AS n',
        },
        [items],
      );
      return rows.map(({ n }) => `wrote ${n}`);
    };
    return { batches, write };
  }

  test('gives each caller its own result, in order, and writes what waited as one batch', async () => {
    const { batches, write } = writer();
    const put = makeGather(write, roomy);
    const results = await Promise.all(Array.from({ length: 20 }, (_, index) => put(index)));
    expect(results).toEqual(Array.from({ length: 20 }, (_, index) => `wrote ${index}`));
    expect(batches).toHaveLength(1);
  });

  test('writes a lone item without waiting for others, and gathers while a write is under way', async () => {
    const { batches, write } = writer();
    const put = makeGather(write, roomy);
    expect(await put(1)).toBe('wrote 1');
    const first = put(2);
    const rest = new Promise((resolve) => setImmediate(() => setImmediate(resolve))).then(() =>
      Promise.all([put(3), put(4)]),
    );
    await Promise.all([first, rest]);
    expect(batches).toEqual([[1], [2], [3, 4]]);
  });

  test('keeps batches within their rows and their bytes, and an oversized item goes alone', async () => {
    const { batches, write } = writer();
    const byRows = makeGather(write, { ...roomy, rows: 2 });
    await Promise.all([1, 2, 3, 4, 5].map(byRows));
    expect(batches.map(({ length }) => length)).toEqual([2, 2, 1]);
    batches.length = 0;
    const byBytes = makeGather(write, { ...roomy, bytes: 10 }, (n) => n);
    await Promise.all([4, 4, 50, 4].map(byBytes));
    expect(batches).toEqual([[4, 4], [50], [4]]);
  });

  test('halves a batch on a fault of the data: one bad row harms only itself (I9)', async () => {
    const { batches, write } = writer();
    const put = makeGather(write, roomy);
    const items = Array.from({ length: 16 }, (_, index) => (index === 5 ? -1 : index));
    const results = await Promise.allSettled(items.map(put));
    results.forEach((result, index) => {
      if (index === 5) expect(result).toMatchObject({ status: 'rejected', reason: { code: '22012' } });
      else expect(result).toEqual({ status: 'fulfilled', value: `wrote ${index}` });
    });
    expect(batches.length).toBeLessThanOrEqual(9);
  });

  test('refuses newcomers when too much waits, and takes them again afterwards', async () => {
    const { write } = writer();
    const put = makeGather(write, { ...roomy, waitingBytes: 10 }, () => 5);
    const taken = [put(1), put(2)];
    await expect(put(3)).rejects.toMatchObject({ code: 'overloaded' });
    await Promise.all(taken);
    expect(await put(4)).toBe('wrote 4');
  });

  test('refuses by number too, where items have no size', async () => {
    const { write } = writer();
    const put = makeGather(write, { ...roomy, rows: 1 });
    const taken = Array.from({ length: 100 }, (_, index) => put(index));
    await expect(put(100)).rejects.toMatchObject({ code: 'overloaded' });
    await Promise.all(taken);
  });

  test('repeats nothing after a lost connection: each caller hears of it once', async () => {
    let writes = 0;
    const put = makeGather(async (items: readonly number[]) => {
      writes += 1;
      await db.query({ text: 'SELECT pg_terminate_backend(pg_backend_pid())' });
      return items;
    }, roomy);
    const results = await Promise.allSettled([1, 2, 3, 4].map(put));
    expect(results.map(({ status }) => status)).toEqual(Array(4).fill('rejected'));
    expect(writes).toBe(1);
    // The dead connection is not handed out again.
    expect(await db.query({ text: 'SELECT 1 AS one' })).toEqual([{ one: 1 }]);
  });

  test('repeats nothing after a timeout either', async () => {
    let writes = 0;
    const hasty = openDb({ url: database.url, name: 'hasty', max: 1, statementTimeoutMs: 50 });
    const put = makeGather(async (items: readonly number[]) => {
      writes += 1;
      await hasty.query({ text: 'SELECT pg_sleep(5)' });
      return items;
    }, roomy);
    await expect(Promise.all([put(1), put(2)])).rejects.toMatchObject({ code: '57014' });
    expect(writes).toBe(1);
    await hasty.close();
  });

  test('writes side by side where it may', async () => {
    let busy = 0;
    let most = 0;
    const put = makeGather(
      async (items: readonly number[]) => {
        busy += 1;
        most = Math.max(most, busy);
        await db.query({ text: 'SELECT pg_sleep(0.05)' });
        busy -= 1;
        return items;
      },
      { ...roomy, rows: 1, writers: 2 },
    );
    await Promise.all([1, 2, 3, 4].map(put));
    expect(most).toBe(2);
  });
});
