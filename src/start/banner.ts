import type { Servers } from './servers.js';

/** What a newcomer needs, and nothing that is not there. The key is shown only by the start that made it. */
export function formatBanner(facts: {
  readonly version: string;
  readonly baseUrl: string;
  readonly servers: Pick<Servers, 'facts' | 'adminApiKey'>;
  readonly processes: readonly string[];
}): string {
  const { baseUrl, servers } = facts;
  const title = `Mosaic task dispatcher ${facts.version}`;
  const lines = [
    '',
    `${title.padEnd(52)}Node ${process.versions.node}`,
    ...servers.facts.map(({ name, kind, place }) => `✔ ${name.padEnd(10)} ${kind.padEnd(16)} ${place}`),
    facts.processes.map((name) => `✔ ${name}`).join('  '),
    `API      ${baseUrl}/v1`,
    `Queues   ${baseUrl}/admin/queues`,
    ...formatKey(baseUrl, servers.adminApiKey),
    '',
  ];
  return lines.map((line) => (line === '' ? '\n' : `  ${line}\n`)).join('');
}

function formatKey(baseUrl: string, key: Servers['adminApiKey']): string[] {
  if (key === null) return ['Key      none: set ADMIN_API_KEY to have one with every scope'];
  const shown = key.file === null ? 'as ADMIN_API_KEY says' : `kept in ${key.file}`;
  const quoted = key.file === null ? '$ADMIN_API_KEY' : `$(cat ${key.file})`;
  return [
    key.made ? `Key      ${key.value}   (shown once; ${shown})` : `Key      ${shown}`,
    `Try      curl -s ${baseUrl}/v1/tasks -H "Authorization: Bearer ${quoted}" \\`,
    `           -H 'Content-Type: application/json' -d '{"type":"demo.echo","context":{"text":"hello"}}'`,
  ];
}
