import type { Sql } from '../db/pool.js';
import { listEvents, type EventRecord } from '../db/task-reads.js';
import { isTerminal } from '../domain/task.js';
import { sendNothing, type Exchange } from './exchange.js';
import { refusal } from './problems.js';
import type { StreamHub } from './streams.js';
import { eventJson } from './task-json.js';

const heartbeatMs = 15_000;
const retryMs = 2000;
const pageSize = 200;
/** A reader that takes nothing for that much is cut off; it resumes by Last-Event-ID. */
const maxUnsentBytes = 1024 * 1024;

/** A task's timeline as server-sent events: `id` is `seq`, so that a reader resumes with nothing lost or doubled. */
export async function sendEventStream(
  deps: { readonly db: Sql; readonly hub: StreamHub },
  { req, res, caller }: Exchange,
  taskId: string,
): Promise<void> {
  const { db, hub } = deps;
  let sent = lastEventId(req.headers['last-event-id']);
  // Whoever has already had the end is told, in the protocol's own way, not to come again.
  if (sent > 0 && (await isOver(db, taskId, sent))) {
    sendNothing(res);
    return;
  }
  res.statusCode = 200;
  res.setHeader('Content-Type', 'text/event-stream; charset=utf-8');
  res.setHeader('X-Accel-Buffering', 'no');
  if (req.method === 'HEAD') {
    res.end();
    return;
  }
  res.write(`retry: ${retryMs}\n\n`);

  let busy = false;
  let again = false;
  const pump = async (): Promise<void> => {
    again = busy;
    if (busy) return;
    busy = true;
    try {
      do {
        again = false;
        const events = await listEvents(db, taskId, sent, pageSize);
        if (res.writableEnded) return;
        for (const event of events) res.write(frameOf(event));
        const last = events[events.length - 1];
        sent = last?.seq ?? sent;
        again ||= events.length === pageSize;
        if (last !== undefined && isTerminal(last.to) && !again) end();
        if (res.writableLength > maxUnsentBytes) res.destroy();
      } while (again && !res.destroyed);
    } catch {
      end(); // the reader comes again, and goes on where it was
    } finally {
      busy = false;
    }
  };
  // Registered first, read afterwards: what is written between the two is noticed.
  const unwatch = hub.watch(taskId, caller.keyId, (wake) => {
    if (typeof wake === 'string') end();
    else if (wake.seq > sent) void pump();
  });
  const heartbeat = setInterval(() => res.write(': still here\n\n'), heartbeatMs);
  const end = (): void => {
    clearInterval(heartbeat);
    unwatch();
    if (!res.writableEnded) res.end();
  };
  res.once('close', end);
  await pump();
}

function frameOf(event: EventRecord): string {
  return `id: ${event.seq}\nevent: ${event.type}\ndata: ${eventJson(event)}\n\n`;
}

async function isOver(db: Sql, taskId: string, seq: number): Promise<boolean> {
  const [last, next] = await listEvents(db, taskId, seq - 1, 2);
  return last?.seq === seq && isTerminal(last.to) && next === undefined;
}

function lastEventId(header: string | string[] | undefined): number {
  if (header === undefined || header === '') return 0;
  if (typeof header !== 'string' || !/^\d{1,9}$/.test(header)) {
    throw refusal('malformed_request', 'Last-Event-ID must be the id of an event of this stream');
  }
  return Number(header);
}
