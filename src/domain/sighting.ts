/** What a backend says, when asked, of the agent of one attempt. `result` is raw JSON text. */
export type SightingEvent = {
  readonly type: 'sighted';
  readonly attempt: number;
  readonly state: 'spawning' | 'queued' | 'running' | 'completed' | 'failed' | 'killed';
  readonly externalId: string | null;
  readonly progress: { readonly percent: number; readonly message: string | null } | null;
  readonly result: string | null;
  readonly error: { readonly code: string; readonly message: string; readonly retryable: boolean } | null;
  /** When it is asked next. */
  readonly askAt: Date;
};
