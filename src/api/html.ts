import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';

/** Our own small pages: no script, no asset, nothing from elsewhere. */
const style = `body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color:#1b2230;background:#fff}
code{background:#eef1f5;padding:.1em .3em;border-radius:3px}h1{font-size:1.4rem}dt{font-weight:600;margin-top:1rem}dd{margin:0}
input,button{font:inherit;padding:.5rem .7rem;border:1px solid #8a94a6;border-radius:4px}button{background:#1b4fd8;color:#fff;border-color:#1b4fd8}
label{display:block;margin:1rem 0 .3rem}.fault{color:#a4161a;font-weight:600}`;
const styleHash = createHash('sha256').update(style).digest('base64');
const policy = `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`;

export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** @param body markup whose every foreign text is escaped */
export function sendPage(res: ServerResponse, status: number, title: string, body: string): void {
  const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title><style>${style}</style></head><body>
<h1>${escapeHtml(title)}</h1>
${body}
</body></html>
`;
  const bytes = Buffer.from(page);
  res.statusCode = status;
  res.setHeader('Content-Type', 'text/html; charset=utf-8');
  res.setHeader('Content-Security-Policy', policy);
  res.setHeader('Content-Length', bytes.byteLength);
  res.end(bytes);
}
