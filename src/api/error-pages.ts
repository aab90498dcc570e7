import { failureCodes } from '../domain/errors.js';
import type { Exchange, Route } from './exchange.js';
import { failureTexts, problemTexts } from './error-texts.js';
import { escapeHtml, sendPage } from './html.js';
import { problemTable, refusal, type ProblemCode } from './problems.js';

/** The page behind a problem's `type`, and behind the `error.code` of a FAILED task. */
export const errorPageRoutes: readonly Route[] = [
  { method: 'GET', path: '/errors/:code', scope: 'anyone', handle: showPage },
];

function showPage({ params, res }: Exchange): void {
  const name = (params['code'] ?? '').replaceAll('-', '_').toLowerCase();
  const failure = failureCodes.find((code) => code.toLowerCase() === name);
  if (failure !== undefined) {
    const [happened, agent, cure] = failureTexts[failure];
    const rows = { 'What happened': happened, 'May the agent still run?': agent, 'What to do': cure };
    sendPage(res, 200, `A task failed with ${failure}`, list(rows));
    return;
  }
  if (!Object.hasOwn(problemTable, name)) throw refusal('not_found', 'there is no error with this code');
  const code = name as ProblemCode;
  const { status, title } = problemTable[code];
  const [why, cure] = problemTexts[code];
  sendPage(
    res,
    200,
    title,
    list({ Code: code, 'HTTP status': String(status), 'What happened': why, 'What to do': cure }),
  );
}

function list(rows: Readonly<Record<string, string>>): string {
  const items = Object.entries(rows).map(
    ([name, text]) => `<dt>${escapeHtml(name)}</dt><dd>${escapeHtml(text)}</dd>`,
  );
  return `<dl>${items.join('')}</dl>`;
}
