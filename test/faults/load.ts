import { randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

export type Plan = 'complete' | 'fail' | 'retryOnce' | 'retryHere';

/** One task as its producer knows it: its key, and the id that it was told. */
export type Made = { readonly key: string; readonly plan: Plan; readonly id: string };

export type Answer = { readonly status: number; readonly ms: number; readonly retryAfter: string | null };

export type Load = {
  /**
   * Creates `count` tasks, `width` at a time, each with an Idempotency-Key of its own. A create whose answer was cut,
   * or that was told to come later, is repeated with its key until it is answered 201. `perSecond` paces them.
   */
  create(
    count: number,
    options?: {
      readonly tag?: string;
      readonly plan?: Plan;
      readonly width?: number;
      readonly perSecond?: number;
      readonly more?: object;
    },
  ): Promise<readonly Made[]>;
  /** Every answer that came, the newest last. */
  readonly answers: readonly Answer[];
  /** Requests whose answer never came: whether they were heard is unknown. */
  cut(): number;
  get(path: string): Promise<{ status: number; body: any }>; // oxlint-disable-line typescript/no-explicit-any -- each test knows what it asked for
  close(): void;
};

/** Nine of ten complete, some fail, some fail once and are tried again. */
export function mixedPlan(index: number): Plan {
  if (index % 20 === 7) return 'fail';
  return index % 20 === 13 ? 'retryOnce' : 'complete';
}

/** A producer over kept connections, as a service that creates many tasks has. */
export function openLoad(to: { readonly baseUrl: string; readonly adminKey: string }): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: 128 });
  const answers: Answer[] = [];
  let cutCount = 0;

  const exchange = (method: string, path: string, body: string | null, headers: Record<string, string>) =>
    new Promise<{ status: number; text: string; retryAfter: string | null }>((resolve, reject) => {
      const sent = request(`${to.baseUrl}${path}`, {
        method,
        agent,
        timeout: 20_000,
        headers: {
          authorization: `Bearer ${to.adminKey}`,
          ...(body === null
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
          ...headers,
        },
      });
      sent.once('timeout', () => sent.destroy(new Error('no answer within 20 s')));
      sent.once('error', reject);
      sent.once('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.once('error', reject);
        response.once('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
            retryAfter: response.headers['retry-after'] ?? null,
          }),
        );
      });
      sent.end(body);
    });

  const createOne = async (plan: Plan, tag: string | undefined, more: object): Promise<Made> => {
    const key = randomUUID();
    const body = JSON.stringify({
      type: 'fault.work',
      context: { plan },
      ...(tag === undefined ? {} : { tags: [tag] }),
      ...more,
    });
    const deadline = performance.now() + 45_000;
    while (performance.now() < deadline) {
      const startedAt = performance.now();
      const answer = await exchange('POST', '/v1/tasks', body, { 'idempotency-key': key }).catch(() => null);
      if (answer === null) cutCount += 1;
      else {
        const { status, retryAfter, text } = answer;
        answers.push({ status, retryAfter, ms: performance.now() - startedAt });
        if (status === 201) return { key, plan, id: (JSON.parse(text) as { id: string }).id };
        if (status !== 503) throw new Error(`a create was answered ${status}: ${text}`);
      }
      await wait(50);
    }
    throw new Error('a create was not taken within 45 s');
  };

  return {
    answers,
    cut: () => cutCount,
    async create(count, { tag, plan, width = 32, perSecond = Infinity, more = {} } = {}) {
      const made: Made[] = [];
      const startedAt = performance.now();
      let next = 0;
      const work = async (): Promise<void> => {
        while (next < count) {
          const index = next;
          next += 1;
          const aheadMs = startedAt + (index * 1000) / perSecond - performance.now();
          if (aheadMs > 0) await wait(aheadMs);
          made.push(await createOne(plan ?? mixedPlan(index), tag, more));
        }
      };
      await Promise.all(Array.from({ length: Math.min(width, count) }, work));
      return made;
    },
    async get(path) {
      const { status, text } = await exchange('GET', path, null, {});
      return { status, body: JSON.parse(text) as unknown };
    },
    close: () => agent.destroy(),
  };
}

/** The value below which `share` of them lie. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
