/** Requests that are shown on the page and checked. */
import { checkAlways, shownAnswer } from './answers.mjs';
import { send } from './http.mjs';
import { curlOf, fence } from './page.mjs';

/** @param {{ system: any, record: any }} deps */
export function makeAsking({ system, record }) {
  const show = (request, answer, pick, heads) => {
    record.show(fence('sh', curlOf(request)));
    record.show(fence('http', shownAnswer(answer, pick, heads)));
  };

  /**
   * `expect` is the status; `key` a secret (null: none), `keyName` how it is shown; `pick` the members of the answer
   * to show, `heads` its headers; `raw` a body that is no JSON of ours; `quiet` checks and shows nothing.
   */
  const ask = async (method, path, options = {}) => {
    const { key = system.adminKey, keyName = 'KEY', url = system.url } = options;
    const body = bodyOf(options);
    const headers = headersOf(key, body, options.headers);
    const answer = await send(`${url}${path}`, { method, headers, body });
    const text = body === null ? null : String(body);
    if (!options.quiet) {
      const request = { method, path, headers, body: text, keyName: key === null ? null : keyName };
      show(request, answer, options.pick, options.heads ?? []);
    }
    if (options.expect !== undefined) {
      record.is(`status of ${method} ${path.slice(0, 80)}`, answer.status, options.expect);
    }
    checkAlways(record, { what: `${method} ${path.slice(0, 60)}`, path, method }, answer);
    return answer;
  };

  /** A refusal; `pointers` are those of all its faults. */
  const refuse = async (method, path, status, code, options = {}) => {
    const answer = await ask(method, path, { ...options, expect: status });
    if (code !== null) record.is(`code of ${method} ${path.slice(0, 60)}`, answer.json?.code, code);
    if (options.pointers !== undefined) {
      const pointers = (answer.json?.errors ?? []).map(({ pointer }) => String(pointer));
      record.is('pointers of the faults', sorted(pointers), sorted(options.pointers));
    }
    return answer;
  };

  /** Lets an Orchestrator call back in the name of a spawn's agent. */
  const callBack = async (place, spawn, callback, options = {}) => {
    const { headers = {}, raw = null, expect = 202 } = options;
    const answer = await place.orchestrator.call(spawn, callback, headers, raw);
    const path = new URL(spawn.body.callback_url).pathname;
    const body = raw ?? JSON.stringify(callback);
    if (!options.quiet) {
      const sent = {
        Authorization: 'Bearer $CALLBACK_TOKEN',
        'Content-Type': 'application/json',
        ...headers,
      };
      show({ method: 'POST', path, headers: sent, body, keyName: null }, answer, undefined, []);
    }
    record.is(`status of the callback ${body.slice(0, 60)}`, answer.status, expect);
    if (answer.status === 202) record.is('body of the callback answer', answer.json, { accepted: true });
    if (options.code !== undefined) record.is('code of the callback answer', answer.json?.code, options.code);
    checkAlways(record, { what: 'the callback', path, method: 'POST' }, answer);
    return answer;
  };

  return { ask, refuse, callBack };
}

const sorted = (texts) => texts.toSorted((a, b) => (a < b ? -1 : 1));

function bodyOf({ raw, body }) {
  return raw ?? (body === undefined ? null : JSON.stringify(body));
}

/** A header that is null is left out. */
function headersOf(key, body, given = {}) {
  const headers = {
    ...(key === null ? {} : { Authorization: `Bearer ${key}` }),
    ...(body === null ? {} : { 'Content-Type': 'application/json' }),
    ...given,
  };
  return Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== null));
}
