import { Agent, request } from 'node:http';
import pg from 'pg';
import type { BenchSystem } from './system.js';

/** Bounds of one run: no load goes on for ever, and only loopback is its target. */
const maxRunMs = 120_000;
const arrivalsWithinMs = 30_000;

export type Client = { create(): Promise<{ id: string; sentAtMs: number }>; close(): void };

export function openClient(system: Pick<BenchSystem, 'url' | 'key'>): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 });
  const body = JSON.stringify({
    type: 'bench',
    context: { repository: 'https://git.example.com/a.git', branch: 'main' },
  });
  const headers = {
    authorization: `Bearer ${system.key}`,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  };
  return {
    create: () =>
      new Promise((resolve, reject) => {
        const sentAtMs = Date.now();
        const call = request(`${system.url}/v1/tasks`, { method: 'POST', agent, headers });
        call.on('error', reject);
        call.on('response', (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            if (answer.statusCode !== 201)
              return reject(new Error(`${answer.statusCode}: ${text.slice(0, 200)}`));
            return resolve({ id: (JSON.parse(text) as { id: string }).id, sentAtMs });
          });
        });
        call.end(body);
      }),
    close: () => agent.destroy(),
  };
}

/** Creates `count` tasks with so many requests in flight; answers when all of them are COMPLETED in Postgres. */
export async function closedLoop(
  system: BenchSystem,
  count: number,
  inFlight: number,
): Promise<{ seconds: number }> {
  const client = openClient(system);
  const startedAt = performance.now();
  let left = count;
  const worker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await client.create();
    }
  };
  await Promise.all(Array.from({ length: inFlight }, worker));
  while ((await unfinished(system)) > 0) {
    if (performance.now() - startedAt > maxRunMs) throw new Error('the tasks did not complete in time');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  client.close();
  return { seconds: (performance.now() - startedAt) / 1000 };
}

/** Creates tasks at a fixed rate, whatever the answers take; answers with the ms from request to arrival at the stub. */
export async function openLoop(
  system: BenchSystem,
  perSecond: number,
  seconds: number,
): Promise<readonly number[]> {
  const client = openClient(system);
  await arrivals(system);
  const creates: Promise<{ id: string; sentAtMs: number }>[] = [];
  const startedAt = performance.now();
  for (let index = 0; index < perSecond * seconds; index += 1) {
    const dueMs = (index * 1000) / perSecond - (performance.now() - startedAt);
    if (dueMs > 0) await new Promise((resolve) => setTimeout(resolve, dueMs));
    creates.push(client.create());
  }
  const made = await Promise.all(creates);
  const arrivedAt = new Map<string, number>();
  const deadline = performance.now() + arrivalsWithinMs;
  while (arrivedAt.size < made.length && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const [id, atMs] of await arrivals(system)) arrivedAt.set(id, atMs);
  }
  client.close();
  return made.map(({ id, sentAtMs }) => {
    const at = arrivedAt.get(id);
    if (at === undefined) throw new Error(`task ${id} did not arrive`);
    return at - sentAtMs;
  });
}

function arrivals(system: BenchSystem): Promise<[string, number][]> {
  return new Promise((resolve) => {
    system.stub.once('message', (message) => resolve(message as [string, number][]));
    system.stub.send('arrivals');
  });
}

let pool: pg.Pool | undefined;
/** Counted by the index of the states that have not ended, so that asking costs nothing. */
async function unfinished(system: BenchSystem): Promise<number> {
  pool ??= new pg.Pool({ connectionString: system.databaseUrl, max: 1, options: '-c enable_seqscan=off' });
  const { rows } = await pool.query<{ n: number }>(
    `SELECT count(*)::integer AS n FROM tasks WHERE state IN ('PENDING', 'DISPATCHED', 'RUNNING')`,
  );
  return rows[0]?.n ?? 0;
}

/** Every task COMPLETED with its result and a whole timeline, every callback applied; or what is wrong. */
export async function verify(): Promise<string[]> {
  for (let looks = 0; looks < 300; looks += 1) {
    const left = `SELECT count(*)::integer AS n FROM tasks WHERE finished_at IS NULL`;
    if ((await (pool as pg.Pool).query<{ n: number }>(left)).rows[0]?.n === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const faults: string[] = [];
  const checks: [string, string][] = [
    ['tasks not COMPLETED', `SELECT count(*)::integer AS n FROM tasks WHERE state <> 'COMPLETED'`],
    [
      'tasks without a result',
      `SELECT count(*)::integer AS n FROM tasks t LEFT JOIN task_results r ON r.task_id = t.id WHERE r.task_id IS NULL`,
    ],
    [
      'timelines with a gap',
      `SELECT count(*)::integer AS n FROM tasks t WHERE seq <> (SELECT count(*) FROM task_events e WHERE e.task_id = t.id)`,
    ],
    ['callbacks not applied', `SELECT count(*)::integer AS n FROM callbacks WHERE applied_at IS NULL`],
    [
      'tasks without two callbacks',
      `SELECT count(*)::integer AS n FROM tasks t WHERE (SELECT count(*) FROM callbacks c WHERE c.task_id = t.id) < 2`,
    ],
    [
      'weak server settings',
      `SELECT count(*)::integer AS n FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting <> 'on'`,
    ],
  ];
  for (const [what, text] of checks) {
    const { rows } = await (pool as pg.Pool).query<{ n: number }>(text);
    if (rows[0]?.n !== 0) faults.push(`${what}: ${rows[0]?.n}`);
  }
  return faults;
}

export async function closeLoad(): Promise<void> {
  await pool?.end();
  pool = undefined;
}
