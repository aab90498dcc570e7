/** What the host of the embedded servers is asked for, and what it says back, over the fork's IPC channel. */
export type HostRequest = {
  readonly dataDir: string;
  /** Path of a server binary to use instead of searching; null searches. */
  readonly valkeyServer: string | null;
  /** Where a fetched server is kept; null keeps it in `dataDir`. */
  readonly packageDir: string | null;
  readonly want: { readonly postgres: boolean; readonly valkey: boolean };
};

export type EmbeddedServers = {
  /** Null where Postgres was not wanted. */
  readonly databaseUrl: string | null;
  readonly valkeyUrl: string | null;
  readonly versions: { readonly postgres: string | null; readonly valkey: string | null };
};

export type HostMessage =
  | { readonly type: 'progress'; readonly text: string }
  | { readonly type: 'ready'; readonly servers: EmbeddedServers }
  | { readonly type: 'failed'; readonly message: string };

/** What the parent sends after the request: stop both servers, then exit. */
export type HostCommand =
  { readonly type: 'start'; readonly request: HostRequest } | { readonly type: 'stop' };
