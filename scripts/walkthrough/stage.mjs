/** What a line of the contract is played with: shown requests, Orchestrators of its own, tasks, patience. */
import { makeAsking } from './asking.mjs';
import { readStream, send } from './http.mjs';
import { openOrchestrator, pause } from './orchestrator.mjs';
import { makeRecord, withPlaceholders } from './page.mjs';

/** @param {any} system as `startSystem` gives it */
export function makeStage(system) {
  const orchestrators = [];
  let places = 0;
  const nextName = () => `place-${(places += 1)}`;
  const admin = makeAdmin(system);

  /** @param {string} title @param {(t: any) => Promise<void>} play */
  const line = async (title, play) => {
    const record = makeRecord(title);
    const removals = [];
    const deps = { system, admin, record, removals, orchestrators, nextName };
    try {
      await play({ ...record, ...makeAsking(deps), ...makeReading(deps), ...makePlaces(deps) });
    } catch (error) {
      const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
      record.fault(`it could not be played to its end: ${why}`);
    }
    for (const remove of removals.toReversed()) await remove().catch(() => undefined);
    return { record, text: textOf(record, system) };
  };
  return { line, close: () => Promise.all(orchestrators.map((one) => one.stop())) };
}

/** Requests that are neither shown nor checked. */
function makeAdmin(system) {
  return (method, path, body, headers = {}) =>
    send(`${system.url}${path}`, {
      method,
      headers: {
        Authorization: `Bearer ${system.adminKey}`,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
    });
}

function textOf(record, system) {
  const verdict =
    record.faults.length === 0
      ? `Checked: ${record.checks()} facts, all hold.`
      : `**WRONG:**\n\n${record.faults.map((fault) => `- ${fault.split('\n')[0]}`).join('\n')}`;
  const text = [`### ${record.title}`, ...record.shown, verdict].join('\n\n');
  const names = [
    [system.url, '$URL'],
    [system.adminKey, '$KEY'],
    [system.dataDir, '$DATA_DIR'],
  ];
  return `${withPlaceholders(text, names)}\n`;
}

async function until(what, look, timeoutMs = 15_000) {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > endMs) throw new Error(`waited ${timeoutMs} ms in vain until ${what}`);
    await pause(40);
  }
}

function makeReading({ system, admin }) {
  const read = async (id) => (await admin('GET', `/v1/tasks/${id}`)).json;
  const when = (what, id, fits, timeoutMs = 15_000) =>
    until(
      `${id} ${what}`,
      async () => {
        const task = await read(id);
        return fits(task) ? task : null;
      },
      timeoutMs,
    );
  return {
    admin,
    until,
    pause,
    read,
    system,
    inState: (id, ...states) => when(`is ${states.join(' or ')}`, id, ({ state }) => states.includes(state)),
    waiting: (id, reason, timeoutMs) =>
      when(`waits as ${reason}`, id, ({ waiting }) => waiting?.reason === reason, timeoutMs),
    ended: async (id) => (await admin('GET', `/v1/tasks/${id}?wait=30`)).json,
    events: async (id) => (await admin('GET', `/v1/tasks/${id}/events?limit=200`)).json.data,
    attempts: async (id) => (await admin('GET', `/v1/tasks/${id}/attempts?limit=200`)).json.data,
    stream: (path, { key = system.adminKey, headers = {}, ...options } = {}) =>
      readStream(`${system.url}${path}`, { Authorization: `Bearer ${key}`, ...headers }, options),
  };
}

function makePlaces({ admin, removals, orchestrators, nextName }) {
  const orchestrator = async (options) => {
    const one = await openOrchestrator(options);
    orchestrators.push(one);
    return one;
  };
  const made = (what, answer) => {
    if (answer.status !== 201) throw new Error(`${what} was refused: ${answer.status} ${answer.text}`);
    return answer.json;
  };
  return {
    orchestrator,
    after: (remove) => void removals.push(remove),
    key: async (body) => made('a key', await admin('POST', '/v1/api-keys', { name: 'walk', ...body })),
    /** One that names no backend goes nowhere, for other lines have Orchestrators too. */
    async task(body, headers) {
      const whole = { type: 'demo', context: {}, backend: { labels: { nowhere: 'at-all' } }, ...body };
      return made('a task', await admin('POST', '/v1/tasks', whole, headers));
    },
    /** An Orchestrator, and a backend for it that is up; the backend is gone after the line. */
    async place({ backend = {}, ...options } = {}) {
      const one = await orchestrator(options);
      const name = nextName();
      const body = { name, protocol: 'gateway', url: one.url, ...backend };
      const { id } = made('a backend', await admin('POST', '/v1/backends', body));
      removals.push(() => admin('DELETE', `/v1/backends/${id}?force=true`));
      const read = async () => (await admin('GET', `/v1/backends/${id}`)).json;
      await until(`${name} is up`, async () => (await read()).health.status === 'up');
      const { spawns } = one;
      return {
        orchestrator: one,
        id,
        name,
        read,
        change: (change) => admin('PATCH', `/v1/backends/${id}`, change),
        spawned: (count = 1) =>
          until(`${count} spawn requests`, () => (spawns.length >= count ? spawns[count - 1] : null)),
      };
    },
  };
}
