/** The secret of an Authorization header, or null where it is none of ours. */
export function bearerOf(header: string | undefined): string | null {
  return /^Bearer[ ]+([\x21-\x7e]+)[ ]*$/i.exec(header ?? '')?.[1] ?? null;
}
