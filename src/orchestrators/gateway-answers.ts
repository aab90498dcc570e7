import { boundedText, objectIn, usableId } from './backend-text.js';
import { sightedStates, type KillAnswer, type SightedState, type Sighting } from './client.js';
import type { HttpAnswer, HttpFailure } from './http.js';
import { rawMember } from './raw-member.js';

/** A backend without the route: its capability is missing, which never fails a task. */
const routeMissing = new Set([404, 405, 501]);

type Seen = Extract<Sighting, { kind: 'seen' }>;
type Fields = Readonly<Record<string, unknown>>;

const idNames = ['sessionId', 'session_id', 'id', 'agentId'] as const;

/** The first of the four names that holds a usable id; a number counts, in the digits that came. */
export function sessionIdOf(text: string): string | null {
  const fields = objectIn(text);
  if (fields === null) return null;
  for (const name of idNames) {
    const value = fields[name];
    const id = typeof value === 'number' ? rawMember(text, name) : value;
    const usable = typeof id === 'string' ? usableId(id) : null;
    if (usable !== null) return usable;
  }
  return null;
}

/** What the status route said of an agent that is known by `externalId`. */
export function sightingOf(answer: HttpAnswer | HttpFailure, externalId: string): Sighting {
  if (answer.kind === 'failed') return { kind: 'tryAgain', reason: answer.reason };
  const { httpStatus } = answer;
  if (httpStatus === 404) return { kind: 'unknownThere' };
  if (routeMissing.has(httpStatus)) return { kind: 'cannotTell', reason: `no status route (${httpStatus})` };
  if (!isSuccess(httpStatus)) return { kind: 'tryAgain', reason: `the status route answered ${httpStatus}` };
  const text = wholeText(answer);
  const fields = text === null ? null : objectIn(text);
  if (text === null || fields === null) {
    return { kind: 'tryAgain', reason: `the status route's answer is ${brokenness(answer)}` };
  }
  return seen(fields, sessionIdOf(text) ?? externalId, rawMember(text, 'result'));
}

/** The sessions of one task. A backend may ignore the filter, so those of other tasks are left out here. */
export function sightingsOf(
  answer: HttpAnswer | HttpFailure,
  taskId: string,
): readonly Sighting[] | { kind: 'cannotTell' | 'tryAgain'; reason: string } {
  if (answer.kind === 'failed') return { kind: 'tryAgain', reason: answer.reason };
  const { httpStatus } = answer;
  if (routeMissing.has(httpStatus)) return { kind: 'cannotTell', reason: `no list route (${httpStatus})` };
  if (!isSuccess(httpStatus)) return { kind: 'tryAgain', reason: `the list route answered ${httpStatus}` };
  const text = wholeText(answer);
  const listed = text === null ? undefined : objectIn(text)?.['sessions'];
  if (!Array.isArray(listed)) {
    return { kind: 'tryAgain', reason: `the list route's answer is ${brokenness(answer)}` };
  }
  return listed
    .filter((one): one is Fields => typeof one === 'object' && one !== null && !Array.isArray(one))
    .filter((one) => one['taskId'] === taskId)
    .map((one) => seen(one, sessionIdOf(JSON.stringify(flat(one))), null));
}

/** What a kill request was answered. Only the word `killed` proves an end; a bare 2xx says that it was told. */
export function killAnswerOf(answer: HttpAnswer | HttpFailure): KillAnswer {
  if (answer.kind === 'failed') return { kind: 'tryAgain', reason: answer.reason };
  const { httpStatus } = answer;
  if (isSuccess(httpStatus)) {
    const status = objectIn(wholeText(answer) ?? '')?.['status'];
    return { kind: typeof status === 'string' && status.toLowerCase() === 'killed' ? 'killed' : 'told' };
  }
  if (httpStatus === 404) return { kind: 'unknownThere' };
  if (httpStatus === 400 || httpStatus === 409) return { kind: 'over' };
  if (routeMissing.has(httpStatus)) return { kind: 'cannotKill', reason: `no kill route (${httpStatus})` };
  return { kind: 'tryAgain', reason: `the kill route answered ${httpStatus}` };
}

export function isSuccess(httpStatus: number): boolean {
  return httpStatus >= 200 && httpStatus < 300;
}

function seen(fields: Fields, externalId: string | null, result: string | null): Sighting {
  const word = fields['status'];
  const state = stateOf(word);
  if (state === null) {
    const shown = boundedText(word, 40);
    return { kind: 'tryAgain', reason: shown === null ? 'it names no status' : `unknown status "${shown}"` };
  }
  const attempt = fields['attempt'];
  return {
    kind: 'seen',
    state,
    externalId,
    attempt: typeof attempt === 'number' && Number.isSafeInteger(attempt) ? attempt : null,
    progress: progressOf(fields['progress']),
    result,
    error: errorOf(fields['error']),
  };
}

function stateOf(word: unknown): SightedState | null {
  const lower = typeof word === 'string' ? word.toLowerCase() : null;
  return sightedStates.find((state) => state === lower) ?? null;
}

function progressOf(value: unknown): Seen['progress'] {
  const fields = typeof value === 'number' ? { percent: value } : value;
  if (typeof fields !== 'object' || fields === null) return null;
  const { percent, message } = fields as Fields;
  if (typeof percent !== 'number' || !(percent >= 0 && percent <= 100)) return null;
  return { percent, message: boundedText(message) };
}

function errorOf(value: unknown): Seen['error'] {
  const fields = typeof value === 'string' ? { message: value } : value;
  if (typeof fields !== 'object' || fields === null) return null;
  const { code, message, retryable } = fields as Fields;
  return {
    code: boundedText(code, 128) ?? 'AGENT_FAILED',
    message: boundedText(message) ?? 'the agent did not say why',
    retryable: retryable === true,
  };
}

/** Only the members that may hold an id: a list's entry may be deeper than JSON.stringify can follow. */
function flat(fields: Fields): Fields {
  return Object.fromEntries(
    idNames.map((name) => [name, fields[name]]).filter(([, value]) => typeof value !== 'object'),
  );
}

function wholeText(answer: HttpAnswer): string | null {
  return answer.truncated || answer.bodyBroken ? null : answer.body.toString('utf8');
}

function brokenness(answer: HttpAnswer): string {
  if (answer.truncated) return 'too large to be read';
  return answer.bodyBroken ? 'cut off' : 'not what was asked for';
}
