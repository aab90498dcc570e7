import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { headerOf, jsonObject } from './orchestrator-answers.js';
import type { Callback } from './orchestrator-callbacks.js';

/** One spawn request as it arrived. Duplicates are all here: the stub hides nothing. */
export type StubSpawn = {
  /** 1, 2, 3… over all spawn requests of this stub. */
  readonly nth: number;
  /** When its head arrived, ms since the epoch. */
  readonly at: number;
  readonly headers: IncomingHttpHeaders;
  readonly idempotencyKey: string | null;
  /** The rest is known once the body was read; `complete` is false when the sender stopped before its end. */
  bodyText: string;
  complete: boolean;
  taskId: string | null;
  attempt: number | null;
  callbackUrl: string | null;
  callbackToken: string | null;
  /** The session that its acceptance made (or, with `honourKeys`, found). */
  sessionId: string | null;
};

/** An agent: what the status and list routes tell of it. Set its members to let it change without a callback. */
export type StubSession = {
  readonly id: string;
  readonly taskId: string | null;
  readonly attempt: number | null;
  status: string;
  progress?: unknown;
  result?: unknown;
  error?: unknown;
};

/** What an accepted spawn's agent does: nothing, the usual three callbacks, or what a function says. */
export type AgentScript = 'silent' | 'auto' | ((spawn: StubSpawn) => readonly Callback[]);

export function arrived(request: IncomingMessage, nth: number): StubSpawn {
  return {
    nth,
    at: Date.now(),
    headers: request.headers,
    idempotencyKey: headerOf(request.headers, 'idempotency-key'),
    bodyText: '',
    complete: false,
    taskId: null,
    attempt: null,
    callbackUrl: null,
    callbackToken: null,
    sessionId: null,
  };
}

/** Adds what the body says. */
export function learn(spawn: StubSpawn, text: string, complete: boolean): void {
  const body = jsonObject(text);
  const task =
    typeof body['task'] === 'object' && body['task'] !== null
      ? (body['task'] as Record<string, unknown>)
      : {};
  spawn.bodyText = text;
  spawn.complete = complete;
  spawn.taskId = typeof task['id'] === 'string' ? task['id'] : null;
  spawn.attempt = typeof task['attempt'] === 'number' ? task['attempt'] : null;
  spawn.callbackUrl = typeof body['callback_url'] === 'string' ? body['callback_url'] : null;
  spawn.callbackToken = typeof body['callback_token'] === 'string' ? body['callback_token'] : null;
}

/** What an agent will call back, in order. */
export function scriptOf(agents: AgentScript, spawn: StubSpawn, session: StubSession): readonly Callback[] {
  if (agents === 'silent') return [];
  if (typeof agents === 'function') return agents(spawn);
  const sessionId = session.id;
  return [
    { status: 'running', id: `${sessionId}-1`, sessionId },
    {
      status: 'progress',
      id: `${sessionId}-2`,
      sessionId,
      sequence: 1,
      progress: { percent: 50, message: 'half' },
    },
    { status: 'completed', id: `${sessionId}-3`, sessionId, result: { ok: true, session: sessionId } },
  ];
}

/** What a callback says is also what the status route tells from then on. */
export function note(session: StubSession, callback: Callback): void {
  if (typeof callback === 'string' || ['completed', 'failed', 'killed'].includes(session.status)) return;
  session.status = callback.status === 'progress' ? 'running' : callback.status.toLowerCase();
  if (callback.progress !== undefined) session.progress = callback.progress;
  if (callback.result !== undefined) session.result = callback.result;
  if (callback.error !== undefined) session.error = callback.error;
}
