// node check-json.mjs: reads every JSON and JSON-lines file; exits with 1 and names the faults if there are any.
import { readFileSync } from 'node:fs';
import { filesIn, printTable } from './files.mjs';

const rows = [];
for (const path of filesIn('.', '.json', '.jsonl')) {
  const text = readFileSync(path, 'utf8');
  const documents = path.endsWith('.jsonl') ? text.split('\n').filter((line) => line !== '') : [text];
  try {
    for (const document of documents) JSON.parse(document);
    rows.push([path, documents.length]);
  } catch (error) {
    process.stderr.write(`${path}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
printTable(['file', 'documents'], rows);
