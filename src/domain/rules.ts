/** What a decision may look at besides the task: database time, one die, and the operator's limits (I6). */
export type Rules = {
  readonly now: Date;
  /** In [0, 1). */
  readonly random: number;
  /** After how long a silence a backend is asked; also how long an old agent is told to die before a new one starts. */
  readonly silenceMs: number;
  /** How long a backend may be away before what is unknown on it is settled without it. */
  readonly giveUpAfterMs: number;
};
