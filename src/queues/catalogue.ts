import type { JobsOptions, WorkerOptions } from 'bullmq';

/** Every queue on one screen. A job is a doorbell (I1): it carries ids and nothing else (I3). */
export const queueNames = ['dispatch', 'transitions', 'health'] as const;
export type QueueName = (typeof queueNames)[number];

/** The queues whose jobs are rings: task ids to look at. */
export type RingQueue = Extract<QueueName, 'dispatch' | 'transitions'>;
export type RingData = { readonly ids: readonly string[] };
export type PingData = { readonly backendId: string };

/** More ids a job would mean more sends repeated after a crash; fewer would make Valkey the bottleneck. */
export const idsPerRing = 200;

/** BullMQ never retries: attempts, backoff and quarantine live in Postgres (I5). */
export const jobOptions: JobsOptions = {
  attempts: 1,
  removeOnComplete: { count: 1000 },
  removeOnFail: { age: 24 * 3600, count: 5000 },
};

/** At its defaults BullMQ needs 33–57 s to notice a killed worker; so it takes 5–7 s. Poison is handled in Postgres. */
export const workerOptions = {
  lockDuration: 5000,
  stalledInterval: 2000,
  maxStalledCount: 20,
  drainDelay: 5,
} as const satisfies Partial<WorkerOptions>;
