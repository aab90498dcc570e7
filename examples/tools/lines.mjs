// node lines.mjs <folder>: how many files and lines each folder below it has.
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { filesIn, printTable } from './files.mjs';

const folders = new Map();
for (const path of filesIn(process.argv[2] ?? '.', '.ts', '.mjs', '.md')) {
  const lines = readFileSync(path, 'utf8').split('\n').length - 1;
  const sum = folders.get(dirname(path)) ?? { files: 0, lines: 0 };
  folders.set(dirname(path), { files: sum.files + 1, lines: sum.lines + lines });
}
printTable(
  ['folder', 'files', 'lines'],
  [...folders].map(([folder, { files, lines }]) => [folder, files, lines]),
);
