import type { Backend } from '../domain/backend.js';
import type { Outcome } from '../domain/outcome.js';

/** A backend with its credential opened, for the length of one call; never logged, never kept. */
export type Target = Pick<
  Backend,
  'id' | 'protocol' | 'url' | 'authType' | 'healthPath' | 'healthExpect' | 'configVersion'
> & {
  readonly secret: string | null;
};

/** Everything one send of an attempt consists of: the same bytes each time (I7). */
export type Send = {
  readonly taskId: string;
  readonly attempt: number;
  readonly idempotencyKey: string;
  /** The request body, already serialized. */
  readonly body: string;
  readonly traceparent: string;
  /** Bound for the whole exchange, ms. */
  readonly timeoutMs: number;
  /** Asked right before the first byte leaves, once there is a connection; false: none leaves, `notReceived`. */
  readonly mayLeave?: () => boolean;
};

/** Which agent is meant: its external id if we know one. */
export type AgentRef = {
  readonly taskId: string;
  readonly attempt: number;
  readonly externalId: string | null;
};

export const sightedStates = ['spawning', 'queued', 'running', 'completed', 'failed', 'killed'] as const;
export type SightedState = (typeof sightedStates)[number];

/** What a backend says of one agent. `result` is the raw JSON text as it came. */
export type Sighting =
  | {
      readonly kind: 'seen';
      readonly state: SightedState;
      readonly externalId: string | null;
      readonly attempt: number | null;
      readonly progress: { readonly percent: number; readonly message: string | null } | null;
      readonly result: string | null;
      readonly error: { readonly code: string; readonly message: string; readonly retryable: boolean } | null;
    }
  /** 404 for a known id. `proven`: the route has told of other agents, so that it is this one that is not known. */
  | { readonly kind: 'unknownThere'; readonly proven?: true }
  /** Route missing (405, 501, or a 404 where no id is known). */
  | { readonly kind: 'cannotTell'; readonly reason: string }
  /** No usable answer this time. */
  | { readonly kind: 'tryAgain'; readonly reason: string };

export type KillAnswer =
  /** The answer itself says `killed`. */
  | { readonly kind: 'killed' }
  /** A bare 2xx: it was told; whether it is dead the status route must say. */
  | { readonly kind: 'told' }
  /** 400, 409: already over, its end is on the status route. */
  | { readonly kind: 'over' }
  /** 404: it knows no such agent. */
  | { readonly kind: 'unknownThere' }
  /** 405, 501, or no id to name it by: this backend has no kill for it. */
  | { readonly kind: 'cannotKill'; readonly reason: string }
  | { readonly kind: 'tryAgain'; readonly reason: string };

export type Probe = {
  readonly ok: boolean;
  /** Null when no answer came. */
  readonly httpStatus: number | null;
  readonly latencyMs: number;
  readonly error: string | null;
};

export type TestStep = {
  readonly name: 'resolve' | 'connect' | 'health' | 'auth';
  readonly ok: boolean;
  readonly ms: number;
  readonly detail: string;
};
export type TestReport = {
  readonly ok: boolean;
  readonly latencyMs: number;
  readonly steps: readonly TestStep[];
};

/** The only port to an Orchestrator; one implementation a protocol. No method throws for what a backend does. */
export interface OrchestratorClient {
  /** Sends the spawn request once; never retries, never follows a redirect. */
  spawn(to: Target, send: Send, signal: AbortSignal): Promise<Outcome>;
  status(at: Target, agent: AgentRef & { externalId: string }, signal: AbortSignal): Promise<Sighting>;
  /** What the backend lists for a task: one sighting a session, in its order. */
  find(
    at: Target,
    taskId: string,
    signal: AbortSignal,
  ): Promise<readonly Sighting[] | { kind: 'cannotTell' | 'tryAgain'; reason: string }>;
  kill(
    at: Target,
    agent: AgentRef & { externalId: string },
    reason: string,
    signal: AbortSignal,
  ): Promise<KillAnswer>;
  probe(target: Target, timeoutMs: number, signal: AbortSignal): Promise<Probe>;
  /** Resolve, connect, health, auth, one after another, each with the cure of its failure; nothing is spawned. */
  test(target: Target, timeoutMs: number, signal: AbortSignal): Promise<TestReport>;
}

/** Protocols that this build speaks; a backend of another one cannot be saved. */
export type Clients = Readonly<Partial<Record<Backend['protocol'], OrchestratorClient>>>;
