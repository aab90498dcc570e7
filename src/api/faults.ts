import type { z } from 'zod';
import { invalid, type Fault } from './problems.js';

/** Checks an input against its schema, or throws all its faults at once with pointers and suggestions. */
export function check<S extends z.ZodType>(schema: S, input: unknown): z.output<S> {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  throw invalid(faultsOf(result.error.issues, schema));
}

export function faultsOf(issues: readonly z.core.$ZodIssue[], schema: z.ZodType): Fault[] {
  return issues.flatMap((issue): Fault[] => {
    const { path } = issue;
    if (issue.code === 'unrecognized_keys') {
      const known = namesAt(schema, path);
      return issue.keys.map((key) => ({
        pointer: pointerOf([...path, key]),
        detail: `${JSON.stringify(key)} is not known${suggestion(key, known)}`,
      }));
    }
    return [{ pointer: pointerOf(path), detail: detailOf(issue) }];
  });
}

/** RFC 6901. */
export function pointerOf(path: readonly PropertyKey[]): string {
  return path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

function detailOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type') {
    return issue.message.endsWith('received undefined')
      ? 'is required'
      : `must be ${article(issue.expected)}`;
  }
  if (issue.code === 'invalid_value') return `must be one of ${issue.values.map(String).join(', ')}`;
  if (issue.code === 'too_small') return `must be at least ${issue.minimum}${unitOf(issue.origin)}`;
  if (issue.code === 'too_big') return `must be at most ${issue.maximum}${unitOf(issue.origin)}`;
  return issue.message;
}

const articles: Readonly<Record<string, string>> = {
  int: 'an integer',
  object: 'an object',
  array: 'an array',
};
const article = (type: string): string => articles[type] ?? `a ${type}`;

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters long';
  return origin === 'array' ? ' items long' : '';
}

/** The member names that an object at this path may have. */
function namesAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  let at: z.core.$ZodType | undefined = schema;
  for (const part of path) {
    const def: SchemaDef = bare(at)._zod.def;
    at = def.type === 'array' ? def.element : def.shape?.[String(part)];
    if (at === undefined) return [];
  }
  return Object.keys((bare(at)._zod.def as SchemaDef).shape ?? {});
}

type SchemaDef = {
  readonly type: string;
  readonly innerType?: z.core.$ZodType;
  readonly in?: z.core.$ZodType;
  readonly element?: z.core.$ZodType;
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
};

/** Optional, nullable and transformed schemas are about the same object. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  let at = schema;
  for (;;) {
    const def: SchemaDef = at._zod.def;
    const inner = def.innerType ?? def.in;
    if (inner === undefined) return at;
    at = inner;
  }
}

/** `; did you mean "priority"?` where a known name is near enough, else nothing. */
export function suggestion(name: string, known: readonly string[]): string {
  if (name.length > 64) return '';
  const limit = Math.max(1, Math.floor(name.length / 3));
  const [best] = known
    .map((candidate) => ({ candidate, distance: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .filter((one) => one.distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return best === undefined ? '' : `; did you mean ${JSON.stringify(best.candidate)}?`;
}

/** Edits that make one text of the other; two neighbours swapped are one edit. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let edits = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        edits = Math.min(edits, (before[j - 2] ?? 0) + 1);
      }
      row.push(edits);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
}
