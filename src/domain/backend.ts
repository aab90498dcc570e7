/** A configured Orchestrator instance as the rules see it. Credentials never enter the domain. */
export const protocols = ['gateway', 'agents', 'a2a'] as const;
export type Protocol = (typeof protocols)[number];

export const backendModes = ['active', 'draining', 'disabled'] as const;
export type BackendMode = (typeof backendModes)[number];

export type HealthStatus = 'up' | 'down' | 'unknown';
export type HealthReason = 'unreachable' | 'unhealthy' | 'misconfigured';

export type Health = {
  readonly status: HealthStatus;
  readonly reason: HealthReason | null;
  readonly checkedAt: Date | null;
  readonly latencyMs: number | null;
  readonly consecutiveFailures: number;
  readonly consecutiveSuccesses: number;
  readonly lastError: string | null;
};

export type Labels = Readonly<Record<string, string>>;

export type Backend = {
  readonly id: string;
  readonly name: string;
  readonly protocol: Protocol;
  readonly url: string;
  readonly authType: 'bearer' | 'apiKey' | 'none';
  readonly healthPath: string;
  readonly healthExpect: '2xx' | 'any';
  readonly labels: Labels;
  readonly weight: number;
  readonly maxConcurrency: number | null;
  readonly maxDispatchesPerMinute: number | null;
  readonly mode: BackendMode;
  /** Grows with every change of configuration; a probe counts only for the version it saw. */
  readonly configVersion: number;
  readonly health: Health;
  /** Sends in a row that were not received. */
  readonly refusedSends: number;
  /** Set by Retry-After: nothing is sent before. */
  readonly blockedUntil: Date | null;
  /** When a rate-limited backend may get its next spawn request. */
  readonly nextSendAt: Date | null;
  /** When a misconfigured backend may get one trial task. */
  readonly trialAt: Date | null;
  readonly deletedAt: Date | null;
  readonly createdAt: Date;
  readonly updatedAt: Date;
};

/** A backend with what runs on it now: attempts whose agent may live. */
export type BackendLoad = Backend & { readonly inFlight: number };
