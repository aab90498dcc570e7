import { z } from 'zod';
import { instant, payload } from './schema-parts.js';

/** What an Orchestrator may send; further members are tolerated, so that theirs may grow before ours. */
export const callbackStatuses = ['running', 'progress', 'completed', 'failed', 'killed'] as const;
export type CallbackStatus = (typeof callbackStatuses)[number];

export const maxEventIdChars = 255;
const eventId = z.string().min(1).max(maxEventIdChars);
const words = z.string();

export const callbackInput = z.looseObject({
  status: z.string(),
  id: eventId.nullish(),
  sessionId: z.string().max(1024).nullish(),
  sequence: z.int().min(0).nullish(),
  occurredAt: instant.nullish(),
  progress: z.looseObject({ percent: z.number().min(0).max(100), message: words.nullish() }).nullish(),
  result: payload.optional(),
  error: z.looseObject({ code: words.nullish(), message: words, retryable: z.boolean().nullish() }).nullish(),
});
export type CallbackInput = z.output<typeof callbackInput>;
