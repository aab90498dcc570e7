// node exports.mjs <folder>: what each file of it offers to others.
import { readFileSync } from 'node:fs';
import { filesIn, printTable } from './files.mjs';

const pattern = /^export (?:async )?(function|const|type|class|interface) (\w+)/gm;
const rows = filesIn(process.argv[2] ?? '.', '.ts').flatMap((path) =>
  [...readFileSync(path, 'utf8').matchAll(pattern)].map(([, kind, name]) => [name, kind, path]),
);
printTable(['name', 'kind', 'file'], rows);
