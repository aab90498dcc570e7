import type { BackendSettings } from '../db/backends.js';
import type { BackendLoad } from '../domain/backend.js';
import type { BackendChange, BackendInput } from './schema-backend.js';

/** How a backend looks from outside: everything that may go out is listed here; a secret never is. */
export function backendJson(backend: BackendLoad): string {
  const { health } = backend;
  return JSON.stringify({
    id: backend.id,
    name: backend.name,
    protocol: backend.protocol,
    url: backend.url,
    auth: { type: backend.authType },
    health: {
      path: backend.healthPath,
      expect: backend.healthExpect,
      status: health.status,
      reason: health.reason,
      checkedAt: health.checkedAt,
      latencyMs: health.latencyMs,
      consecutiveFailures: health.consecutiveFailures,
      lastError: health.lastError,
    },
    labels: backend.labels,
    weight: backend.weight,
    maxConcurrency: backend.maxConcurrency,
    maxDispatchesPerMinute: backend.maxDispatchesPerMinute,
    mode: backend.mode,
    inFlight: backend.inFlight,
    createdAt: backend.createdAt,
    updatedAt: backend.updatedAt,
  });
}

/** @param sealedSecret of the auth that was given, or null */
export function newSettings(input: BackendInput, sealedSecret: string | null): BackendSettings {
  return {
    name: input.name,
    protocol: input.protocol,
    url: input.url,
    authType: input.auth?.type ?? 'none',
    sealedSecret,
    healthPath: input.health?.path ?? '/health',
    healthExpect: input.health?.expect ?? '2xx',
    labels: input.labels ?? {},
    weight: input.weight ?? 1,
    maxConcurrency: input.maxConcurrency ?? null,
    maxDispatchesPerMinute: input.maxDispatchesPerMinute ?? null,
    mode: input.mode ?? 'active',
  };
}

/** What was not mentioned stays as it is. */
export function changedSettings(
  now: BackendSettings,
  change: BackendChange,
  sealedSecret: string | null,
): BackendSettings {
  const { auth, health, ...plain } = change;
  const authType = auth?.type ?? now.authType;
  const mentioned = Object.fromEntries(
    Object.entries(plain).filter(([, value]) => value !== undefined),
  ) as Partial<BackendSettings>;
  return {
    name: now.name,
    protocol: now.protocol,
    url: now.url,
    labels: now.labels,
    weight: now.weight,
    maxConcurrency: now.maxConcurrency,
    maxDispatchesPerMinute: now.maxDispatchesPerMinute,
    mode: now.mode,
    ...mentioned,
    authType,
    sealedSecret: authType === 'none' ? null : (sealedSecret ?? now.sealedSecret),
    healthPath: health?.path ?? now.healthPath,
    healthExpect: health?.expect ?? now.healthExpect,
  };
}

/** What we know of its health says nothing of this place. */
export function isOtherPlace(before: BackendSettings, after: BackendSettings): boolean {
  const names = ['url', 'protocol', 'authType', 'sealedSecret', 'healthPath', 'healthExpect'] as const;
  return names.some((name) => before[name] !== after[name]);
}
