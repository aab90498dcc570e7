import { randomBytes } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import express, { type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { makeId } from '../domain/ids.js';
import type { Logger } from '../logger.js';
import { nobody, requireScope, type Authenticator, type Caller } from './auth.js';
import { sendNothing, type Exchange, type Route } from './exchange.js';
import { refusal, sendProblem } from './problems.js';

export type AppDeps = {
  readonly routes: readonly Route[];
  readonly auth: Authenticator;
  readonly logger: Logger;
  /** Mounted as they are: they know their own callers. */
  readonly mounts?: readonly { readonly path: string; readonly handler: RequestHandler }[];
  /** While true, answers ask the client to open another connection, elsewhere. */
  readonly isDraining: () => boolean;
  readonly trustProxy?: boolean | number | string | undefined;
};

/**
 * The order in which a request is looked at, on one screen. The hot routes take the same steps before the
 * framework: its routing costs more than their own work.
 */
export function makeApp(deps: AppDeps): RequestListener {
  const app = express();
  app.disable('x-powered-by').disable('etag');
  app.enable('strict routing').enable('case sensitive routing');
  app.set('query parser', 'simple').set('trust proxy', deps.trustProxy ?? false);

  app.use((req, res, next) => {
    prepare(deps, req, res, () => (req.route as { path?: string } | undefined)?.path ?? null);
    next();
  });
  for (const { path, handler } of deps.mounts ?? []) app.use(path, handler);
  for (const [path, routes] of byPath(deps.routes)) {
    const answer = answerRoutes(deps, routes);
    app.all(path, (req, res) => answer(req, res, req.params as Record<string, string>));
  }
  app.use(() => {
    throw refusal('route_not_found', 'there is no such route');
  });
  app.use((error: unknown, _req: Request, res: Response, _next: NextFunction) =>
    fail(deps, res, asMalformed(error)),
  );

  const hot = deps.routes.flatMap((route) =>
    route.hot === undefined ? [] : [{ route, pattern: route.hot, answer: answerRoutes(deps, [route]) }],
  );
  return (req, res) => {
    for (const { route, pattern, answer } of hot) {
      const match = req.method === route.method ? pattern.exec(req.url ?? '') : null;
      if (match === null) continue;
      try {
        prepare(deps, req, res, () => route.path);
      } catch (error) {
        fail(deps, res, error);
        return;
      }
      void answer(req, res, { ...match.groups });
      return;
    }
    app(req, res);
  };
}

const maxPathChars = 2048;
/** What tracing systems make of ids, and nothing that could break a log line or a page. */
const saneRequestId = /^[A-Za-z0-9_.:-]{1,128}$/;

/** A request id, the headers that every answer has, one log line an answer. */
function prepare(
  deps: AppDeps,
  req: IncomingMessage,
  res: ServerResponse,
  routeOf: () => string | null,
): void {
  const given = req.headers['x-request-id'];
  const requestId =
    typeof given === 'string' && saneRequestId.test(given)
      ? given
      : makeId('req', Date.now(), randomBytes(10));
  res.setHeader('X-Request-Id', requestId);
  res.setHeader('X-Content-Type-Options', 'nosniff');
  res.setHeader('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
  const path = pathOf(req.url ?? '');
  if (path.startsWith('/v1')) res.setHeader('Cache-Control', 'no-store');
  if (deps.isDraining()) res.setHeader('Connection', 'close');
  logAnswer(deps.logger, req, res, requestId, routeOf);
  refuseDoubledHeaders(req);
  if (path.length > maxPathChars)
    throw refusal('uri_too_long', `a path may have ${maxPathChars} characters at most`);
}

/** A request may also name its target in full (`GET http://host/path`). */
function pathOf(url: string): string {
  return url.replace(/^https?:\/\/[^/?]*/i, '').replace(/[?#].*$/s, '');
}

function logAnswer(
  logger: Logger,
  { method }: IncomingMessage,
  res: ServerResponse,
  requestId: string,
  routeOf: () => string | null,
): void {
  const startedAt = performance.now();
  res.once('close', () => {
    const ms = Math.round((performance.now() - startedAt) * 10) / 10;
    const { statusCode: status } = res;
    const line = { requestId, method, route: routeOf(), status, ms, cut: !res.writableFinished };
    if (status >= 500) logger.warn('request.answered', line);
    else logger.debug('request.answered', line);
  });
}

const singleHeaders = new Set(['host', 'authorization', 'content-type', 'content-length', 'idempotency-key']);

/** Two of these would let two programs read one request differently. Node keeps the first without a word. */
function refuseDoubledHeaders({ rawHeaders, httpVersion, headers }: IncomingMessage): void {
  const seen = new Set<string>();
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = (rawHeaders[index] ?? '').toLowerCase();
    if (!singleHeaders.has(name)) continue;
    if (seen.has(name)) throw refusal('malformed_request', `the header ${name} stands twice`);
    seen.add(name);
  }
  if (httpVersion === '1.1' && headers.host === undefined)
    throw refusal('malformed_request', 'the header host is missing');
}

function byPath(routes: readonly Route[]): ReadonlyMap<string, readonly Route[]> {
  const paths = new Map<string, Route[]>();
  for (const route of routes) {
    const list = paths.get(route.path);
    if (list === undefined) paths.set(route.path, [route]);
    else list.push(route);
  }
  return paths;
}

const methodOrder = ['GET', 'HEAD', 'POST', 'PATCH', 'DELETE'];

/** Who asks comes before what is asked: without a key nothing can be learnt, not even the methods. */
function answerRoutes(
  deps: AppDeps,
  routes: readonly Route[],
): (req: IncomingMessage, res: ServerResponse, params: Readonly<Record<string, string>>) => Promise<void> {
  const isOpen = routes.every(({ scope }) => scope === 'anyone');
  const methods = new Set<string>(routes.map(({ method }) => method));
  if (methods.has('GET')) methods.add('HEAD');
  const allow = [...methodOrder.filter((method) => methods.has(method)), 'OPTIONS'];
  return async (req, res, params) => {
    try {
      const caller: Caller = isOpen ? nobody : await deps.auth.authenticate(req.headers.authorization);
      const method = req.method === 'HEAD' ? 'GET' : req.method;
      const route = routes.find((one) => one.method === method);
      if (route === undefined) {
        if (method !== 'OPTIONS')
          throw refusal('method_not_allowed', `allowed are ${allow.join(', ')}`, { allow });
        res.setHeader('Allow', allow.join(', '));
        sendNothing(res);
        return;
      }
      if (route.scope !== 'anyone') requireScope(caller, route.scope);
      const requestId = String(res.getHeader('X-Request-Id'));
      await route.handle({ req, res, requestId, params, caller } satisfies Exchange);
    } catch (error) {
      fail(deps, res, error);
    }
  };
}

function fail(deps: AppDeps, res: ServerResponse, error: unknown): void {
  const requestId = String(res.getHeader('X-Request-Id') ?? '');
  const { known } = sendProblem(res, error, requestId);
  if (!known) deps.logger.error('request.failed', { requestId, error });
}

/** Express's own refusals (a path whose percent-encoding is broken) are the client's fault. */
function asMalformed(error: unknown): unknown {
  const status = typeof error === 'object' && error !== null && 'status' in error ? error.status : undefined;
  return status === 400 ? refusal('malformed_request', 'the path is not well-formed') : error;
}
