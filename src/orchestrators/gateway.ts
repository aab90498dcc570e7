import { outcomeOfAnswer } from '../domain/outcome.js';
import { joinUrl, usableId } from './backend-text.js';
import type { OrchestratorClient, Probe, Target } from './client.js';
import { isSuccess, killAnswerOf, sessionIdOf, sightingOf, sightingsOf } from './gateway-answers.js';
import { testGateway } from './gateway-test.js';
import { maxAnswerBytes, maxStatusBytes, type Http, type HttpAnswer, type HttpFailure } from './http.js';

/** Bound for one question (status, list, kill), ms; they are repeated, so none needs to wait long. */
const askTimeoutMs = 10_000;

const routes = {
  spawn: '/orchestrator/sessions/spawn',
  sessions: '/orchestrator/sessions',
  status: (id: string) => `/orchestrator/sessions/${encodeURIComponent(id)}/status`,
  kill: (id: string) => `/orchestrator/sessions/${encodeURIComponent(id)}/kill`,
};

/** The header that carries a backend's credential; none for `none`. */
export function authHeaders(target: Target): Record<string, string> {
  if (target.secret === null || target.authType === 'none') return {};
  return target.authType === 'bearer'
    ? { authorization: `Bearer ${target.secret}` }
    : { 'x-api-key': target.secret };
}

/**
 * Speaks the Gateway protocol. Every method turns whatever happens on the wire into a value (I5).
 * @param now the time by which a Retry-After date is understood
 */
export function makeGatewayClient({ http, now }: { http: Http; now: () => Date }): OrchestratorClient {
  const get = (target: Target, url: string, maxBytes: number, timeoutMs: number, signal: AbortSignal) =>
    http.request({ method: 'GET', url, headers: authHeaders(target), timeoutMs, maxBytes, signal });

  const probe = async (target: Target, timeoutMs: number, signal: AbortSignal): Promise<Probe> => {
    const startedAt = performance.now();
    const url = joinUrl(target.url, target.healthPath);
    const answer = await get(target, url, maxAnswerBytes, timeoutMs, signal);
    return probeOf(target, answer, Math.round(performance.now() - startedAt));
  };
  /** Backends whose status route has told of some agent: their 404 is not that of a route that is missing. */
  const haveStatus = new Set<string>();

  return {
    spawn: async (to, send, signal) => {
      const answer = await http.request({
        method: 'POST',
        url: joinUrl(to.url, routes.spawn),
        headers: {
          ...authHeaders(to),
          'content-type': 'application/json',
          'idempotency-key': send.idempotencyKey,
          traceparent: send.traceparent,
        },
        body: send.body,
        timeoutMs: send.timeoutMs,
        maxBytes: maxAnswerBytes,
        signal,
        ...(send.mayLeave === undefined ? {} : { mayLeave: send.mayLeave }),
      });
      if (answer.kind === 'failed') {
        const { phase, reason } = answer;
        return phase === 'notReceived' ? { kind: phase, reason } : { kind: phase, reason, httpStatus: null };
      }
      const externalId = sessionIdOf(answer.body.toString('utf8'));
      const retryAfter = answer.headers['retry-after'] ?? null;
      return outcomeOfAnswer({ httpStatus: answer.httpStatus, externalId, retryAfter }, now());
    },

    status: async (at, agent, signal) => {
      if (usableId(agent.externalId) === null)
        return { kind: 'cannotTell', reason: 'its id fits into no URL' };
      const url = joinUrl(at.url, routes.status(agent.externalId));
      const answer = await get(at, url, maxStatusBytes, askTimeoutMs, signal);
      const sighting = sightingOf(answer, agent.externalId);
      if (sighting.kind === 'seen') haveStatus.add(at.id);
      return sighting.kind === 'unknownThere' && haveStatus.has(at.id)
        ? { ...sighting, proven: true }
        : sighting;
    },

    find: async (at, taskId, signal) => {
      const url = joinUrl(at.url, routes.sessions, { taskId });
      return sightingsOf(await get(at, url, maxStatusBytes, askTimeoutMs, signal), taskId);
    },

    kill: async (at, agent, reason, signal) => {
      if (usableId(agent.externalId) === null)
        return { kind: 'cannotKill', reason: 'its id fits into no URL' };
      return killAnswerOf(
        await http.request({
          method: 'POST',
          url: joinUrl(at.url, routes.kill(agent.externalId)),
          headers: { ...authHeaders(at), 'content-type': 'application/json' },
          body: JSON.stringify({ reason }),
          timeoutMs: askTimeoutMs,
          maxBytes: maxAnswerBytes,
          signal,
        }),
      );
    },

    probe,

    test: (target, timeoutMs, signal) =>
      testGateway(http, target, timeoutMs, signal, {
        health: (boundMs) => probe(target, boundMs, signal),
        // A list of nothing: it needs the credential and spawns nothing.
        auth: (boundMs) => {
          const url = joinUrl(target.url, routes.sessions, { taskId: 'probe' });
          return get(target, url, maxAnswerBytes, boundMs, signal);
        },
      }),
  };
}

function probeOf(target: Target, answer: HttpAnswer | HttpFailure, latencyMs: number): Probe {
  if (answer.kind === 'failed') return { ok: false, httpStatus: null, latencyMs, error: answer.reason };
  const { httpStatus } = answer;
  const ok = target.healthExpect === 'any' || isSuccess(httpStatus);
  return { ok, httpStatus, latencyMs, error: ok ? null : `the health route answered ${httpStatus}` };
}
