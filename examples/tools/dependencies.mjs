// node dependencies.mjs: the packages this project names, and at which version.
import { readFileSync } from 'node:fs';
import { printTable } from './files.mjs';

const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
const kinds = ['dependencies', 'optionalDependencies', 'devDependencies'];
printTable(
  ['package', 'version', 'kind'],
  kinds.flatMap((kind) =>
    Object.entries(manifest[kind] ?? {}).map(([name, version]) => [name, version, kind]),
  ),
);
