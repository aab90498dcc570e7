/** What holds for every answer, whatever was asked; and how an answer is shown. */
import { parse } from './http.mjs';
import { pretty } from './page.mjs';

const problemMembers = ['type', 'title', 'status', 'detail', 'code', 'requestId'];
const insides = /node_modules|SELECT |INSERT INTO|^\s+at .*:\d+:\d+/m;

/** @param {any} record @param {{ what: string, path: string, method: string }} asked @param {any} answer */
export function checkAlways(record, { what, path, method }, answer) {
  const { status, headers, text } = answer;
  const isId = /^[A-Za-z0-9_.:-]{1,200}$/.test(headers['x-request-id'] ?? '');
  record.ok(`${what}: X-Request-Id`, isId, headers['x-request-id']);
  record.is(`${what}: X-Content-Type-Options`, headers['x-content-type-options'], 'nosniff');
  record.is(`${what}: X-Powered-By`, headers['x-powered-by'], undefined);
  const cors = Object.keys(headers).filter((name) => name.startsWith('access-control-'));
  record.is(`${what}: CORS`, cors, []);
  if (path.startsWith('/v1')) record.is(`${what}: Cache-Control`, headers['cache-control'], 'no-store');
  if (insides.test(text)) record.fault(`${what}: the answer shows our insides`);
  const isPage = path === '/readyz' || path.startsWith('/admin');
  if (status < 400 || method === 'HEAD' || isPage) return;
  checkProblem(record, what, answer);
}

function checkProblem(record, what, { status, headers, json }) {
  const type = String(headers['content-type']).split(';')[0];
  record.is(`${what}: Content-Type of a problem`, type, 'application/problem+json');
  const missing = problemMembers.filter((name) => json?.[name] === undefined);
  record.is(`${what}: members of a problem`, missing, []);
  record.is(`${what}: status in the problem`, json?.status, status);
  record.is(`${what}: requestId in the problem`, json?.requestId, headers['x-request-id']);
  const wanted = { 405: 'allow', 503: 'retry-after' }[status];
  if (wanted !== undefined) record.ok(`${what}: ${wanted}`, headers[wanted], headers[wanted]);
  if (status === 401) {
    const [scheme] = String(headers['www-authenticate']).split(' ');
    record.is(`${what}: WWW-Authenticate`, scheme, 'Bearer');
  }
  if (status !== 422 || json?.code === 'idempotency_key_reused') return;
  record.ok(`${what}: errors of a 422`, json?.errors?.length > 0, json);
  for (const { pointer, detail } of json?.errors ?? []) {
    record.is(`${what}: a fault's members`, [typeof pointer, typeof detail], ['string', 'string']);
  }
}

/** @param {any} answer @param {string[] | 'all' | undefined} pick the members to show @param {string[]} heads */
export function shownAnswer({ status, headers, text }, pick, heads) {
  const telling = { 401: ['www-authenticate'], 405: ['allow'], 503: ['retry-after'] }[status] ?? [];
  const names = [...telling, ...heads].filter((name) => headers[name] !== undefined);
  const lines = [`HTTP/1.1 ${status}`, ...names.map((name) => `${name}: ${headers[name]}`)];
  if (text === '') return lines.join('\n');
  const value = parse(text);
  return [...lines, '', value === undefined ? text.slice(0, 400) : pretty(picked(value, pick))].join('\n');
}

const taskMembers = [
  ...['id', 'type', 'state', 'attempt', 'backendId', 'externalId', 'progress', 'result', 'error'],
  ...['waiting', 'retryOf', 'cancelRequestedAt', 'finishedAt'],
];

function picked(value, pick) {
  if (pick === 'all' || typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  if (pick === undefined) {
    if (!String(value.id).startsWith('task_')) return value;
    const told = taskMembers.filter((name) => value[name] !== null && value[name] !== undefined);
    return picked(value, told);
  }
  if (Array.isArray(value.data)) return { ...value, data: value.data.map((item) => picked(item, pick)) };
  return Object.fromEntries(pick.map((name) => [name, value[name]]));
}
