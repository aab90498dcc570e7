import { createHash, randomUUID } from 'node:crypto';
import { insertCallbacks, type NewCallback } from '../db/callbacks.js';
import { makeGather } from '../db/gather.js';
import type { Sql } from '../db/pool.js';
import type { Shape } from '../domain/json-scan.js';
import { bodyLimits, mebibyte, parseEnvelope, readBytes, textOf } from './body.js';
import { bearerOf } from './bearer.js';
import { sendJson, type Exchange, type Route } from './exchange.js';
import { check } from './faults.js';
import { invalid, refusal } from './problems.js';
import {
  callbackInput,
  callbackStatuses,
  maxEventIdChars,
  type CallbackInput,
  type CallbackStatus,
} from './schema-callback.js';
import { suggestion } from './faults.js';

export type CallbackDeps = {
  /** A pool of its own: a stuck worker or a burst of creates must not close this door. */
  readonly db: Sql;
  readonly verifyToken: (
    token: string,
    taskId: string,
    attempt: number,
  ) => 'valid' | 'malformed' | 'other_attempt';
  /** Rings for tasks with stored callbacks; never throws. */
  readonly ring: (taskIds: readonly string[]) => Promise<boolean>;
};

const shape: Shape = { payloads: ['result'], own: ['progress', 'error'] };
const maxResultBytes = mebibyte;

/** The door for Orchestrators: stored where a crash cannot lose it, then 202, then the bell (I1, I4). */
export function callbackRoutes(deps: CallbackDeps): readonly Route[] {
  const store = makeGather<NewCallback, { taskId: string }>(
    async (callbacks) => {
      const stored = await insertCallbacks(deps.db, callbacks);
      void deps.ring([...new Set(callbacks.map(({ taskId }) => taskId))]);
      return stored;
    },
    { rows: 500, bytes: 8 * mebibyte, waitingBytes: 64 * mebibyte, writers: 2 },
    (callback) => (callback.result?.length ?? 0) + 512,
  );

  const take = async ({ req, res, params }: Exchange): Promise<void> => {
    const { taskId, attempt } = addressOf(params);
    // Before the body and before any query: whoever has no token costs us a hash.
    checkToken(deps, req.headers.authorization, taskId, attempt);
    const bytes = await readBytes(req, bodyLimits.callback);
    const input = check(callbackInput, parseEnvelope(textOf(bytes), shape));
    const headerId = webhookId(req.headers['webhook-id']);
    await store(callbackOf(taskId, attempt, input, headerId, bytes));
    sendJson(res, 202, '{"accepted":true}');
  };
  return [
    {
      method: 'POST',
      path: '/v1/callbacks/:taskId/:attempt',
      scope: 'anyone',
      hot: /^\/v1\/callbacks\/(?<taskId>\w{1,128})\/(?<attempt>\d{1,9})$/,
      handle: take,
    },
  ];
}

function addressOf(params: Exchange['params']): { taskId: string; attempt: number } {
  const { taskId = '', attempt = '' } = params;
  // What cannot be an attempt's address is judged by its token like any other: it fits none.
  return { taskId, attempt: /^[1-9]\d{0,8}$/.test(attempt) ? Number(attempt) : 0 };
}

function checkToken(deps: CallbackDeps, header: string | undefined, taskId: string, attempt: number): void {
  const deny = (detail: string, reason: string): Error =>
    refusal('callback_token_invalid', detail, { reason });
  if (header === undefined) {
    throw deny('the token is missing; send Authorization: Bearer <callback_token>', 'missing');
  }
  const token = bearerOf(header);
  const verdict = token === null ? 'malformed' : deps.verifyToken(token, taskId, attempt);
  if (verdict === 'malformed') throw deny('this is not a callback token, or its key is gone', 'malformed');
  if (verdict === 'other_attempt')
    throw deny("this is another attempt's token, or it was changed", 'other_attempt');
}

function webhookId(header: string | string[] | undefined): string | null {
  if (header === undefined || header === '') return null;
  const id = Array.isArray(header) ? header.join(', ') : header;
  if (id.length > maxEventIdChars) {
    throw invalid([
      { pointer: '/id', detail: `webhook-id must be at most ${maxEventIdChars} characters long` },
    ]);
  }
  return id;
}

function statusOf(input: CallbackInput): CallbackStatus {
  const word = input.status.toLowerCase();
  const status = callbackStatuses.find((known) => known === word);
  if (status !== undefined) return status;
  const detail = `${JSON.stringify(input.status.slice(0, 64))} is not one of ${callbackStatuses.join(', ')}${suggestion(word, callbackStatuses)}`;
  throw refusal('callback_status_unknown', detail, { errors: [{ pointer: '/status', detail }] });
}

function callbackOf(
  taskId: string,
  attempt: number,
  input: CallbackInput,
  headerId: string | null,
  bytes: Buffer,
): NewCallback {
  const status = statusOf(input);
  const result = input.result?.rawJson ?? null;
  if (result !== null && Buffer.byteLength(result) > maxResultBytes) {
    throw refusal('payload_too_large', `a result may have ${maxResultBytes} bytes at most`, {
      limitBytes: maxResultBytes,
    });
  }
  const eventId = clean(input.id) ?? clean(headerId);
  return {
    taskId,
    attempt,
    dedupeKey: dedupeKeyOf(status, eventId, bytes),
    status,
    eventId,
    sessionId: clean(input.sessionId),
    sequence: input.sequence ?? null,
    occurredAt: input.occurredAt ?? null,
    progressPercent: input.progress?.percent ?? null,
    progressMessage: clean(input.progress?.message, 1024),
    errorCode: clean(input.error?.code, 128),
    errorMessage: clean(input.error?.message, 4096),
    errorRetryable: input.error?.retryable ?? null,
    result,
  };
}

/**
 * A duplicate is one whose id and status were seen for this attempt; without an id an end is one when its bytes
 * are the same, and a sign of life never is (P7).
 */
function dedupeKeyOf(status: CallbackStatus, eventId: string | null, bytes: Buffer): string {
  if (eventId !== null) return `id:${status}:${eventId}`;
  if (status === 'running' || status === 'progress') return `once:${randomUUID()}`;
  return `bytes:${status}:${createHash('sha256').update(bytes).digest('base64url')}`;
}

/** What Postgres can keep as text; an Orchestrator's words are shortened rather than refused. */
function clean(text: string | null | undefined, maxChars = 1024): string | null {
  if (text === null || text === undefined) return null;
  const whole = text.replaceAll('\0', '').replaceAll(/\p{Surrogate}/gu, '\ufffd');
  return whole.length > maxChars ? `${whole.slice(0, maxChars - 1).replace(/\p{Surrogate}$/u, '')}…` : whole;
}
