import { readdirSync } from 'node:fs';
import { join } from 'node:path';

const skipped = new Set(['node_modules', '.git', 'dist', '.data']);

/** Every file below `folder` whose name ends with one of `endings`, sorted, as paths relative to where we stand. */
export function filesIn(folder, ...endings) {
  const entries = readdirSync(folder, { withFileTypes: true }).filter(({ name }) => !skipped.has(name));
  return entries
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return filesIn(path, ...endings);
      return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : [];
    })
    .toSorted((a, b) => (a < b ? -1 : 1));
}

/** A Markdown table on stdout. */
export function printTable(head, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |\n`;
  process.stdout.write(line(head) + line(head.map(() => '---')) + rows.map(line).join(''));
}
