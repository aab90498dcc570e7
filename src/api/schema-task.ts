import { z } from 'zod';
import { taskStates } from '../domain/task.js';
import {
  durationMs,
  httpUrl,
  instant,
  lineOfText,
  objectId,
  objectPayload,
  payload,
  text,
  workspaceId,
} from './schema-parts.js';

/** The input rules of tasks; the only source of them. */
export const maxMetadataBytes = 64 * 1024;
export const maxBatchItems = 1000;

const labels = z
  .record(lineOfText(128), lineOfText(256))
  .refine((value) => Object.keys(value).length <= 50, { error: 'must have at most 50 members' });

export const backendWish = z.strictObject({
  id: objectId.optional(),
  name: text(128).optional(),
  labels: labels.optional(),
});

const tags = z.array(text(128)).max(50);
const priority = z.int().min(1).max(5);
const reason = text(1024);

const timeouts = z.strictObject({
  dispatchMs: durationMs.optional(),
  startMs: durationMs.optional(),
  heartbeatMs: durationMs.optional(),
  runMs: durationMs.optional(),
});

const retry = z.strictObject({
  maxAttempts: z.int().min(1).max(100).optional(),
  maxSends: z.int().min(1).max(100).optional(),
  backoffBaseMs: durationMs.optional(),
  backoffMaxMs: durationMs.optional(),
  onUnknownOutcome: z.enum(['fail', 'failover']).optional(),
});

export const taskInput = z.strictObject({
  type: text(128),
  context: payload,
  title: text(512).optional(),
  reference: text(256).optional(),
  priority: priority.optional(),
  workspaceId: workspaceId.optional(),
  backend: backendWish.optional(),
  tags: tags.optional(),
  metadata: objectPayload(maxMetadataBytes).optional(),
  scheduledFor: instant.optional(),
  deadlineAt: instant.optional(),
  timeouts: timeouts.optional(),
  retry: retry.optional(),
  notify: z.strictObject({ url: httpUrl }).optional(),
});
export type TaskInput = z.output<typeof taskInput>;

export const idempotencyKey = z
  .string()
  .regex(/^[\x20-\x7e]{1,255}$/, { error: 'must be 1 to 255 printable ASCII characters' });

export const batchItem = taskInput.extend({ idempotencyKey: idempotencyKey.optional() });

export const batchInput = z.strictObject({ tasks: z.array(z.unknown()) });

export const taskChange = z.strictObject({
  priority: priority.optional(),
  scheduledFor: instant.nullable().optional(),
  deadlineAt: instant.nullable().optional(),
  backend: backendWish.nullable().optional(),
  tags: tags.optional(),
  metadata: payload
    .refine((value) => value.rawJson === 'null' || value.rawJson.startsWith('{'), {
      error: 'must be an object or null',
    })
    .refine((value) => Buffer.byteLength(value.rawJson) <= maxMetadataBytes, {
      error: `must be at most ${maxMetadataBytes} bytes`,
    })
    .optional(),
});
export type TaskChange = z.output<typeof taskChange>;

export const cancelInput = z.strictObject({ reason, giveUp: z.boolean().optional() });
export const stopInput = z.strictObject({ reason });
export const nothing = z.strictObject({});

/** Query strings come as lists of texts, one a repetition. */
const once = <S extends z.ZodType<unknown, string>>(schema: S) =>
  z
    .array(z.string())
    .max(1, { error: 'must be given once' })
    .transform((values) => values[0] as string)
    .pipe(schema);

const wholeNumber = (min: number, max: number) =>
  once(
    z
      .string()
      .regex(/^\d{1,9}$/, { error: `must be a whole number from ${min} to ${max}` })
      .transform(Number)
      .pipe(z.int().min(min).max(max)),
  );

const flag = once(z.enum(['true', 'false'])).transform((value) => value === 'true');

export const noQuery = z.strictObject({});
export const pageQuery = z.strictObject({
  limit: wholeNumber(1, 200).optional(),
  cursor: once(z.string()).optional(),
});
export const waitQuery = z.strictObject({ wait: wholeNumber(0, 60).optional() });
export const dryRunQuery = z.strictObject({ dryRun: flag.optional() });
export const forceQuery = z.strictObject({ force: flag.optional() });
export const backendsQuery = pageQuery.extend({ name: once(text(128)).optional() });

export const tasksQuery = pageQuery.extend({
  state: z.array(z.enum(taskStates)).optional(),
  type: once(text(128)).optional(),
  backendId: once(objectId).optional(),
  workspaceId: once(workspaceId).optional(),
  reference: once(text(256)).optional(),
  tag: z.array(text(128)).max(50).optional(),
  createdAfter: once(instant).optional(),
  createdBefore: once(instant).optional(),
  cancelling: flag.optional(),
});
export type TasksQuery = z.output<typeof tasksQuery>;
