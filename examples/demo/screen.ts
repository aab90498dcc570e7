import type { TaskView } from './api.js';
import { isOver } from './follow.js';
import type { Verdict } from './verdict.js';

export type Screen = {
  say(text: string): void;
  show(views: readonly TaskView[]): void;
  table(verdicts: readonly Verdict[]): void;
  sum(summary: Summary): void;
};

export type Summary = {
  readonly ok: boolean;
  readonly tasks: number;
  readonly faults: number;
  /** Where to go on from here; `key` names the place of the admin key, never the key. */
  readonly look: Readonly<Record<'api' | 'bullBoard' | 'key' | 'commits' | 'logs', string>>;
};

type Terminal = { readonly columns: number; readonly rows: number };
type Write = (text: string) => void;

/** Bars that are redrawn in place: for a terminal. */
export function makeLiveScreen(write: Write, size: () => Terminal): Screen {
  let drawn = 0;
  const draw = (lines: readonly string[]): void => {
    // Up to where the last picture began, and away with what is below.
    write(`${drawn > 0 ? `\u001b[${drawn}A` : ''}\u001b[J${lines.join('\n')}\n`);
    drawn = lines.length;
  };
  return {
    say: (text) => {
      write(`${text}\n`);
      drawn = 0;
    },
    show: (views) => {
      const { columns, rows } = size();
      // A picture higher than the terminal cannot be redrawn: what has ended makes room first.
      const room = Math.max(3, rows - 3);
      const shown = views.length <= room ? views : views.filter((view) => !isOver(view)).slice(0, room);
      draw([...shown.map((view) => bar(view, columns)), summary(views)]);
    },
    table: (verdicts) => write(table(verdicts)),
    sum: (summary) => write(closing(summary)),
  };
}

/** A line for every change: for pipes, logs and people who want no colour. */
export function makePlainScreen(write: Write): Screen {
  const last = new Map<string, string>();
  return {
    say: (text) => write(`${text}\n`),
    show: (views) => {
      for (const view of views) {
        const line = `${view.state.padEnd(10)} ${percentOf(view)}  ${view.title}${detail(view)}`;
        if (last.get(view.id) !== line) write(`${line}\n`);
        last.set(view.id, line);
      }
    },
    table: (verdicts) => write(table(verdicts)),
    sum: (summary) => write(closing(summary)),
  };
}

/** One JSON object a line: for programs. */
export function makeJsonScreen(write: Write): Screen {
  const last = new Map<string, string>();
  const line = (value: unknown): void => write(`${JSON.stringify(value)}\n`);
  return {
    say: (text) => line({ event: 'note', text: text.trim() }),
    show: (views) => {
      for (const { id, title, state, attempt, progress, waiting, error } of views) {
        const text = JSON.stringify({ event: 'task', id, title, state, attempt, progress, waiting, error });
        if (last.get(id) !== text) write(`${text}\n`);
        last.set(id, text);
      }
    },
    table: (verdicts) => {
      for (const verdict of verdicts) line({ event: 'end', ...verdict });
    },
    sum: (summary) => line({ event: 'summary', ...summary }),
  };
}

const barWidth = 16;
function bar(view: TaskView, columns: number): string {
  const share = isOver(view) && view.state === 'COMPLETED' ? 100 : (view.progress?.percent ?? 0);
  const full = Math.round((share / 100) * barWidth);
  const line = `${'█'.repeat(full)}${'░'.repeat(barWidth - full)} ${percentOf(view)} ${view.state.padEnd(10)} ${view.title}${detail(view)}`;
  // A line that wraps would make the picture higher than was counted.
  return line.slice(0, Math.max(20, columns - 1));
}

function percentOf(view: TaskView): string {
  const percent = view.state === 'COMPLETED' ? 100 : view.progress?.percent;
  return percent === undefined ? '    ' : `${String(Math.round(percent)).padStart(3)}%`;
}

function detail(view: TaskView): string {
  if (view.state === 'RUNNING' && view.progress?.message) return ` · ${view.progress.message}`;
  if (view.state === 'PENDING' && view.waiting !== null) return ` · ${view.waiting.reason}`;
  return view.error === null ? '' : ` · ${view.error.code}`;
}

function summary(views: readonly TaskView[]): string {
  const count = (state: TaskView['state']): string =>
    `${views.filter((view) => view.state === state).length}`;
  const over = views.filter(isOver).length;
  return `${over} of ${views.length} have ended · ${count('RUNNING')} running · ${count('PENDING')} waiting`;
}

function table(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map((one) => [
    one.fault === null ? '✔' : '✖',
    one.title,
    one.state,
    `${one.attempts}`,
    one.seconds.toFixed(1),
    one.fault ?? one.commit?.slice(0, 10) ?? one.error ?? '',
  ]);
  const all = [['', 'TASK', 'STATE', 'ATTEMPTS', 'SECONDS', 'COMMIT OR ERROR'], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  return `\n${all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')}\n`;
}

function closing({ ok, tasks, faults, look }: Summary): string {
  const ends = ok ? `All ${tasks} ended as expected` : `${faults} of ${tasks} did not end as expected`;
  return [
    `\n${ends}; one was meant to fail, and one to be cancelled while it ran.\n`,
    `  Tasks       ${look.api}   (Authorization: Bearer …)`,
    `  Bull Board  ${look.bullBoard}   (asks for the key)`,
    `  Admin key   ${look.key}`,
    `  Commits     ${look.commits}`,
    `  Logs        ${look.logs}\n`,
  ].join('\n');
}
