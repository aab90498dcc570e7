export type Reply = { readonly status: number; readonly body: unknown };
export type Call = (method: string, path: string, body?: unknown) => Promise<Reply>;

export type TaskView = {
  readonly id: string;
  readonly title: string;
  readonly state: 'PENDING' | 'DISPATCHED' | 'RUNNING' | 'COMPLETED' | 'FAILED' | 'CANCELLED';
  readonly attempt: number;
  readonly progress: { readonly percent: number; readonly message: string | null } | null;
  readonly waiting: { readonly reason: string; readonly detail: string } | null;
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAt: string;
  readonly finishedAt: string | null;
};
/** Of the result only what the table shows; only a task read by itself carries it. */
export type WholeTask = TaskView & { readonly result: { readonly commit?: string | null } | null };
export type BackendView = {
  readonly id: string;
  readonly health: { readonly status: string; readonly lastError: string | null };
};

/** Calls to the API as any other program makes them; a service that is away is asked again for a while. */
export function makeCall(url: string, key: string, signal: AbortSignal): Call {
  return async (method, path, body) => {
    for (let tries = 1; ; tries += 1) {
      signal.throwIfAborted();
      try {
        const response = await fetch(url + path, {
          method,
          headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal: AbortSignal.any([signal, AbortSignal.timeout(15_000)]),
        });
        const text = await response.text();
        // 503 says that nothing was done; every call that the demo makes may be repeated after that.
        if (response.status !== 503 || tries >= 20) return { status: response.status, body: parse(text) };
      } catch (error) {
        if (signal.aborted || tries >= 20) throw error;
      }
      await pause(500, signal);
    }
  };
}

/** The body of an answer that must have one of these statuses; anything else ends the demo with what was said. */
export function expected<T>(reply: Reply, what: string, ...statuses: number[]): T {
  if (statuses.includes(reply.status)) return reply.body as T;
  throw new Error(`${what}: answered ${reply.status} ${JSON.stringify(reply.body).slice(0, 2000)}`);
}

export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
  signal.throwIfAborted();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
