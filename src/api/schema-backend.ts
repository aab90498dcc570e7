import { z } from 'zod';
import { backendModes, protocols } from '../domain/backend.js';
import { instant, lineOfText, urlFault, workspaceId } from './schema-parts.js';

/** The input rules of backends and API keys; the only source of them. */
const secret = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, {
    error: 'must be printable ASCII, as it goes into a header',
  });

const authType = z.enum(['bearer', 'apiKey', 'none']);

const backendUrl = z.string().superRefine((value, context) => {
  const fault = urlFault(value) ?? (value.includes('?') ? 'must not have a query' : null);
  if (fault !== null) context.addIssue({ code: 'custom', message: fault });
});

const healthPath = z
  .string()
  .max(1024)
  .regex(/^\/[\x21-\x7e]*$/, { error: 'must begin with / and be printable ASCII' })
  .refine((value) => !value.includes('#'), { error: 'must not have a fragment' });

const settings = {
  name: lineOfText(128),
  protocol: z.enum(protocols),
  url: backendUrl,
  health: z.strictObject({ path: healthPath.optional(), expect: z.enum(['2xx', 'any']).optional() }),
  labels: z
    .record(lineOfText(128), lineOfText(256))
    .refine((value) => Object.keys(value).length <= 50, { error: 'must have at most 50 members' }),
  weight: z.number().gt(0, { error: 'must be more than 0' }).max(1000),
  maxConcurrency: z.int().min(1).max(1_000_000).nullable(),
  maxDispatchesPerMinute: z.int().min(1).max(1_000_000).nullable(),
  mode: z.enum(backendModes),
};

const createAuth = z
  .strictObject({ type: authType, secret: secret.optional() })
  .refine((auth) => auth.type === 'none' || auth.secret !== undefined, {
    error: 'is required for this type',
    path: ['secret'],
  })
  .refine((auth) => auth.type !== 'none' || auth.secret === undefined, {
    error: 'must be left out for the type none',
    path: ['secret'],
  });

const optional = {
  health: settings.health.optional(),
  labels: settings.labels.optional(),
  weight: settings.weight.optional(),
  maxConcurrency: settings.maxConcurrency.optional(),
  maxDispatchesPerMinute: settings.maxDispatchesPerMinute.optional(),
  mode: settings.mode.optional(),
};

export const backendInput = z.strictObject({
  name: settings.name,
  protocol: settings.protocol,
  url: settings.url,
  auth: createAuth.optional(),
  ...optional,
});
export type BackendInput = z.output<typeof backendInput>;

/** A backend that is tried before it is saved may still lack a name. */
export const backendTrial = backendInput.extend({ name: settings.name.optional() });

export const backendChange = z.strictObject({
  name: settings.name.optional(),
  protocol: settings.protocol.optional(),
  url: settings.url.optional(),
  auth: z.strictObject({ type: authType.optional(), secret: secret.optional() }).optional(),
  ...optional,
});
export type BackendChange = z.output<typeof backendChange>;

export const scopes = [
  'tasks:read',
  'tasks:write',
  'backends:read',
  'backends:write',
  'metrics:read',
  'admin',
] as const;
export type Scope = (typeof scopes)[number];

export const apiKeyInput = z
  .strictObject({
    name: lineOfText(128),
    scopes: z.array(z.enum(scopes)).min(1),
    workspaceId: workspaceId.optional(),
    expiresAt: instant.optional(),
  })
  .refine((key) => key.workspaceId === undefined || !key.scopes.includes('admin'), {
    // It could make itself a key without a workspace: the bound would mean nothing.
    error: 'admin cannot be bound to a workspace',
    path: ['scopes'],
  });
