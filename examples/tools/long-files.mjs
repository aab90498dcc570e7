// node long-files.mjs <folder> <count>: its longest files.
import { readFileSync } from 'node:fs';
import { filesIn, printTable } from './files.mjs';

const [folder = '.', count = '10'] = process.argv.slice(2);
const rows = filesIn(folder, '.ts')
  .map((path) => [path, readFileSync(path, 'utf8').split('\n').length - 1])
  .toSorted(([, a], [, b]) => b - a);
printTable(['file', 'lines'], rows.slice(0, Number(count)));
