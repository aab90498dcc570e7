import type { IncomingMessage } from 'node:http';
import express, { type Request, type RequestHandler, type Response } from 'express';
import { allows, requireScope, type Authenticator, type Caller } from './auth.js';
import { escapeHtml, sendPage } from './html.js';
import { refusal } from './problems.js';
import { sessionCookie, sessionSeconds, type Sessions } from './sessions.js';

export type DoorDeps = { readonly auth: Authenticator; readonly sessions: Sessions };

/** Pages for operators, to which the log-in leads. */
const destinations = ['/admin/queues', '/console'] as const;

/** Lets an admin in, by Bearer key or by the cookie of the log-in page; a browser without either gets that page. */
export function makeAdminDoor(deps: DoorDeps): RequestHandler {
  return async (req, res, next) => {
    res.setHeader('Cache-Control', 'no-store');
    const caller = await findCaller(deps, req);
    if (caller !== null) {
      requireScope(caller, 'admin');
      next();
      return;
    }
    if (req.method !== 'GET' || !wantsPage(req))
      throw refusal('unauthenticated', 'this needs a key with the scope admin');
    sendLogin(res, destinationOf(req.baseUrl), null);
  };
}

async function findCaller({ auth, sessions }: DoorDeps, req: Request): Promise<Caller | null> {
  const { authorization, cookie } = req.headers;
  if (authorization !== undefined) return auth.authenticate(authorization);
  const keyId = sessions.keyIdOf(cookie);
  if (keyId === null) return null;
  // A cookie comes by itself: what changes something must also come from our own page.
  if (!['GET', 'HEAD'].includes(req.method) && !isSameOrigin(req)) {
    throw refusal('scope_missing', 'changes by cookie must come from this origin');
  }
  const caller = await auth.callerOfKey(keyId);
  return caller !== null && allows(caller, 'admin') ? caller : null;
}

function isSameOrigin({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers;
  return origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
}

const wantsPage = (req: Request): boolean => /\btext\/html\b/.test(req.headers.accept ?? '');

function destinationOf(path: string): string {
  return destinations.find((known) => path === known || path.startsWith(`${known}/`)) ?? destinations[0];
}

/** `POST /admin/login`: turns an admin key into a cookie. A form, so that it works without script. */
export function makeLogin({ auth, sessions }: DoorDeps): RequestHandler {
  const readForm = express.text({ type: 'application/x-www-form-urlencoded', limit: '4kb' });
  const take = async (req: Request, res: Response): Promise<void> => {
    const fields = new URLSearchParams(typeof req.body === 'string' ? req.body : '');
    const next = destinationOf(fields.get('next') ?? '');
    const caller = await auth.authenticate(`Bearer ${fields.get('key') ?? ''}`).catch(onlyRefusals);
    if (caller === null) return sendLogin(res, next, 'This key is not known.');
    if (!allows(caller, 'admin')) return sendLogin(res, next, 'This key does not have the scope admin.');
    const attributes = `HttpOnly; SameSite=Strict; Path=/; Max-Age=${sessionSeconds}${req.secure ? '; Secure' : ''}`;
    res.setHeader('Set-Cookie', `${sessionCookie}=${sessions.issue(caller.keyId)}; ${attributes}`);
    res.setHeader('Location', next);
    res.statusCode = 303;
    res.end();
  };
  return (req, res, next) => {
    res.setHeader('Cache-Control', 'no-store');
    if (req.method === 'GET') return sendLogin(res, destinations[0], null);
    if (req.method !== 'POST') {
      throw refusal('method_not_allowed', 'allowed are GET, POST', { allow: ['GET', 'POST'] });
    }
    readForm(req, res, (error: unknown) => {
      if (error === undefined) take(req, res).catch(next);
      else next(refusal('malformed_request', 'the form could not be read'));
    });
  };
}

function onlyRefusals(error: unknown): null {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : null;
  if (code === 'unauthenticated' || code === 'key_revoked' || code === 'key_is_a_webhook_secret') return null;
  throw error;
}

function sendLogin(res: Response, next: string, fault: string | null): void {
  res.setHeader('WWW-Authenticate', 'Bearer');
  const body = `${fault === null ? '' : `<p class="fault" role="alert">${escapeHtml(fault)}</p>`}
<form method="post" action="/admin/login"><input type="hidden" name="next" value="${escapeHtml(next)}">
<label for="key">API key with the scope <code>admin</code></label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button></form>`;
  sendPage(res, 401, 'Log in', body);
}
