// node imports.mjs <folder>: which of its folders lean on which, and how often.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { filesIn, printTable } from './files.mjs';

const counts = new Map();
for (const path of filesIn(process.argv[2] ?? '.', '.ts')) {
  for (const [, target] of readFileSync(path, 'utf8').matchAll(/from '(\.[^']+)'/g)) {
    const [from, to] = [dirname(path), dirname(join(dirname(path), target))];
    if (from !== to) counts.set(`${from} → ${to}`, (counts.get(`${from} → ${to}`) ?? 0) + 1);
  }
}
printTable(
  ['import', 'times'],
  [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)),
);
