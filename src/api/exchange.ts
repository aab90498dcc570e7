import type { IncomingMessage, ServerResponse } from 'node:http';
import type { z } from 'zod';
import type { Caller } from './auth.js';
import { check } from './faults.js';
import { refusal } from './problems.js';
import type { Scope } from './schema-backend.js';

/** One request on its way to its answer. Handlers see node's own objects: a hot route needs no framework. */
export type Exchange = {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly requestId: string;
  readonly params: Readonly<Record<string, string>>;
  readonly caller: Caller;
};

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** One row of the route table. `anyone`: the route has its own way to know who asks, or nothing to hide. */
export type Route = {
  readonly method: Method;
  /** In Express's notation. */
  readonly path: string;
  readonly scope: Scope | 'anyone';
  /** The targets that are answered without the framework, its groups being the parameters. */
  readonly hot?: RegExp;
  readonly handle: (exchange: Exchange) => Promise<void> | void;
};

export function sendJson(
  res: ServerResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  const bytes = Buffer.from(text);
  res.statusCode = status;
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  res.setHeader('Content-Type', 'application/json; charset=utf-8');
  res.setHeader('Content-Length', bytes.byteLength);
  res.end(bytes);
}

export function sendNothing(res: ServerResponse): void {
  res.statusCode = 204;
  res.end();
}

/** The query by the simple rule: names and lists of values, no nesting. Throws every fault at once. */
export function queryOf<S extends z.ZodType>(req: IncomingMessage, schema: S): z.output<S> {
  const url = req.url ?? '';
  const at = url.indexOf('?');
  const values = new Map<string, string[]>();
  for (const [name, value] of new URLSearchParams(at < 0 ? '' : url.slice(at + 1))) {
    const list = values.get(name);
    if (list === undefined) values.set(name, [value]);
    else list.push(value);
    if (values.size > 100) throw refusal('malformed_request', 'the query has too many parameters');
  }
  return check(schema, Object.fromEntries(values));
}

const idShape = /^[A-Za-z0-9_]{1,128}$/;

/** The id in a path; what cannot be an id is one that does not exist. */
export function idOf({ params }: Exchange, name = 'id'): string {
  const id = params[name] ?? '';
  if (!idShape.test(id)) throw refusal('not_found', 'there is no object with this id');
  return id;
}
