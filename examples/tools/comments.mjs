// node comments.mjs <folder>: how much of each file is said in comments.
import { readFileSync } from 'node:fs';
import { filesIn, printTable } from './files.mjs';

const rows = filesIn(process.argv[2] ?? '.', '.ts').map((path) => {
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const comments = lines.filter((line) => /^\s*(\/\/|\/\*|\*)/.test(line)).length;
  return [path, comments, `${Math.round((comments / lines.length) * 100)} %`];
});
printTable(['file', 'lines of comment', 'share'], rows);
