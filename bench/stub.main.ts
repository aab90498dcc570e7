import { Agent, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * The cheapest honest Orchestrator: answers each spawn with 201 and calls back `running` and `completed`. A process
 * of its own, so that its cost is not counted as the service's; it tells the parent when each task arrived.
 */
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const arrivals: [taskId: string, atMs: number][] = [];
let sessions = 0;

const server = createServer((incoming, answer) => {
  const chunks: Buffer[] = [];
  incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
  incoming.on('end', () => {
    if (incoming.method !== 'POST') return answer.end('{}');
    const body = JSON.parse(Buffer.concat(chunks).toString()) as Spawn;
    arrivals.push([body.task.id, Date.now()]);
    const sessionId = `session-${(sessions += 1)}`;
    answer.writeHead(201, { 'content-type': 'application/json' }).end(JSON.stringify({ sessionId }));
    void callBack(body, { status: 'running' }).then(() =>
      callBack(body, { status: 'completed', result: { ok: true } }),
    );
    return answer;
  });
});

type Spawn = { task: { id: string }; callback_url: string; callback_token: string };

/** Repeats what was not taken: an Orchestrator that gives up loses its own work. */
async function callBack(spawn: Spawn, body: object): Promise<void> {
  while ((await post(spawn, JSON.stringify(body))) !== 202)
    await new Promise((resolve) => setTimeout(resolve, 100));
}

function post(spawn: Spawn, body: string): Promise<number> {
  return new Promise((resolve) => {
    const call = request(spawn.callback_url, {
      method: 'POST',
      agent,
      headers: {
        authorization: `Bearer ${spawn.callback_token}`,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    });
    call.on('response', (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode ?? 0));
    });
    call.on('error', () => resolve(0));
    call.end(body);
  });
}

process.on('message', () => process.send?.(arrivals.splice(0)));
process.on('disconnect', () => process.exit(0));
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
