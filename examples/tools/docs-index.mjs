// node docs-index.mjs: every heading of every Markdown file, as one table of contents.
import { readFileSync } from 'node:fs';
import { filesIn } from './files.mjs';

for (const path of filesIn('.', '.md')) {
  process.stdout.write(`- [${path}](${path})\n`);
  // A line that starts with # inside a fenced block is a comment of some program.
  const prose = readFileSync(path, 'utf8').replaceAll(/^```.*?^```/gms, '');
  for (const [, marks, title] of prose.matchAll(/^(#{1,3}) (.+)$/gm)) {
    process.stdout.write(`${'  '.repeat(marks.length)}- ${title}\n`);
  }
}
