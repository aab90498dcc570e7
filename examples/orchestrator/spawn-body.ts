import { isRecord, readContext, type Checked, type Job } from './context.js';

export type SpawnBody = {
  readonly taskId: string;
  readonly attempt: number;
  readonly title: string;
  readonly callbackUrl: string;
  readonly callbackToken: string;
  readonly misbehave: unknown;
  readonly job: Job;
};

/**
 * Reads a spawn request: `{task: {id, attempt, type, title?, metadata?}, context, callback_url, callback_token}`.
 * Fields that are not known are left alone: the sender may be newer.
 */
export function readSpawn(body: unknown): Checked<SpawnBody> {
  if (!isRecord(body)) return { ok: false, faults: ['the body must be an object'] };
  const faults: string[] = [];
  const task = isRecord(body['task']) ? body['task'] : {};
  const { id, attempt = 1, type, title, metadata } = task;
  const { callback_url: callbackUrl, callback_token: callbackToken } = body;
  const must = (isRight: boolean, fault: string): void => {
    if (!isRight) faults.push(fault);
  };
  // The id becomes the name of a branch.
  must(typeof id === 'string' && /^\w{1,128}$/.test(id), 'task.id must be letters, digits and "_"');
  must(Number.isInteger(attempt) && Number(attempt) >= 1, 'task.attempt must be a whole number from 1 on');
  must(
    typeof callbackUrl === 'string' && isHttpUrl(callbackUrl),
    'callback_url must be an http or https URL',
  );
  must(
    typeof callbackToken === 'string' && isPrintable(callbackToken),
    'callback_token must be a printable text',
  );
  const job = readContext(body['context']);
  if (!job.ok || faults.length > 0) return { ok: false, faults: [...faults, ...(job.ok ? [] : job.faults)] };
  return {
    ok: true,
    value: {
      taskId: String(id),
      attempt: Number(attempt),
      title: firstLine(title) ?? firstLine(type) ?? 'A task without a title',
      callbackUrl: String(callbackUrl),
      callbackToken: String(callbackToken),
      misbehave: isRecord(metadata) ? metadata['misbehave'] : undefined,
      job: job.value,
    },
  };
}

function firstLine(text: unknown): string | null {
  if (typeof text !== 'string') return null;
  const line = text.replaceAll('\0', '').trim().split('\n', 1)[0] ?? '';
  return line === '' ? null : line.slice(0, 200);
}

/** It is sent as a header, where anything else would be refused at the time of the first callback. */
function isPrintable(text: string): boolean {
  return /^[\x21-\x7e]+$/.test(text);
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}
