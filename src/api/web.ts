import type { RequestListener } from 'node:http';
import type { Advanced, AdvanceRequest } from '../db/moves.js';
import type { Db, Sql } from '../db/pool.js';
import type { Protocol } from '../domain/backend.js';
import type { TaskDefaults } from '../domain/new-task.js';
import type { Logger } from '../logger.js';
import type { Clients, Target } from '../orchestrators/client.js';
import { makeApp, type AppDeps } from './app.js';
import type { Authenticator } from './auth.js';
import { backendTestRoutes } from './backend-tests.js';
import { backendRoutes } from './backends.js';
import { callbackRoutes, type CallbackDeps } from './callbacks.js';
import { errorPageRoutes } from './error-pages.js';
import type { Route } from './exchange.js';
import { operatingRoutes } from './operate.js';
import { stopRoutes } from './stops.js';
import type { StreamHub } from './streams.js';
import { taskChangeRoutes } from './task-change.js';
import { taskCreationRoutes } from './task-create.js';
import { makeTaskIntake } from './task-intake.js';
import { taskReadRoutes } from './task-read.js';
import { makeFleetView, makeWaitingOf } from './waiting.js';

export type WebDeps = {
  readonly db: Db;
  readonly callbackDb: Sql;
  readonly logger: Logger;
  readonly auth: Authenticator;
  readonly hub: StreamHub;
  readonly defaults: TaskDefaults;
  readonly clients: Clients;
  readonly verifyToken: CallbackDeps['verifyToken'];
  readonly urlObstacle: (url: string) => string | null;
  readonly seal: (secret: string, backendId: string) => string;
  readonly targetOf: (backendId: string) => Promise<Target | null>;
  readonly ping: (backendId: string) => Promise<void>;
  readonly move: (request: AdvanceRequest) => Promise<Advanced>;
  readonly ring: (queue: 'dispatch' | 'transitions', ids: readonly string[]) => Promise<boolean>;
  readonly testTimeoutMs: number;
  readonly healthRoutes: readonly Route[];
  readonly mounts: NonNullable<AppDeps['mounts']>;
  readonly isDraining: () => boolean;
  readonly trustProxy: AppDeps['trustProxy'];
};

/** Every route of the service, one line a feature. */
export function makeWeb(deps: WebDeps): RequestListener {
  const { db } = deps;
  const fleetView = makeFleetView(db);
  const waitingOf = makeWaitingOf(fleetView);
  const ring = (ids: readonly string[]): Promise<boolean> => deps.ring('dispatch', ids);
  const intake = makeTaskIntake({ ...deps, fleetView, ring });
  const protocols = Object.keys(deps.clients) as Protocol[];
  const routes: readonly Route[] = [
    ...deps.healthRoutes,
    ...errorPageRoutes,
    ...taskCreationRoutes({ intake, waitingOf }),
    ...taskReadRoutes({ db, hub: deps.hub, waitingOf }),
    ...taskChangeRoutes({ ...deps, fleetView, waitingOf, ring }),
    ...stopRoutes({ db }),
    ...callbackRoutes({ ...deps, db: deps.callbackDb, ring: (ids) => deps.ring('transitions', ids) }),
    ...backendTestRoutes({ ...deps, timeoutMs: deps.testTimeoutMs }),
    ...backendRoutes({ ...deps, protocols }),
    ...operatingRoutes({ db }),
  ];
  return makeApp({ ...deps, routes });
}

/** What is answered until the database and its schema are there: that we live, and that we are not ready. */
export function makeStartingWeb(
  deps: Pick<WebDeps, 'healthRoutes' | 'isDraining' | 'trustProxy' | 'logger'> & {
    readonly refuse: () => never;
  },
): RequestListener {
  const auth: Authenticator = { authenticate: () => deps.refuse(), callerOfKey: () => Promise.resolve(null) };
  const mounts = ['/v1', '/admin'].map((path) => ({ path, handler: () => deps.refuse() }));
  return makeApp({ ...deps, auth, mounts, routes: [...deps.healthRoutes, ...errorPageRoutes] });
}
