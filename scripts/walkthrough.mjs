/**
 * Plays the whole contract against the real, built system on servers of its own, checks every answer, and writes
 * docs/walkthrough.md. Exit code 1 when an answer was not what is promised.
 *
 *   node scripts/walkthrough.mjs            everything, and the page is written
 *   node scripts/walkthrough.mjs callbacks  only the sections whose title has the word; no page is written
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildIfStale, root } from './build.mjs';
import { pageOf } from './walkthrough/page.mjs';
import { freePort, startSystem, temporary } from './walkthrough/programs.mjs';
import { makeStage } from './walkthrough/stage.mjs';
import { sections } from './walkthrough/sections.mjs';

const word = (process.argv[2] ?? '').toLowerCase();
const say = (text) => process.stdout.write(`${text}\n`);

/** Short intervals: most lines wait for what these bring about. */
const settings = {
  HEALTH_INTERVAL_MS: '300',
  HEALTH_TIMEOUT_MS: '1000',
  SWEEP_INTERVAL_MS: '200',
  RECONCILE_INTERVAL_MS: '300',
  RECONCILE_SILENCE_MS: '1500',
  GIVE_UP_AFTER_MS: '5000',
  DISPATCH_BACKOFF_BASE_MS: '100',
  DISPATCH_BACKOFF_MAX_MS: '800',
  BACKEND_DENY_CIDRS: '127.0.0.66/32',
};

/** Plays lines side by side, for most of them wait; they keep their order on the page. */
async function playAll(lines, stage, width) {
  const played = Array.from({ length: lines.length });
  let next = 0;
  const work = async () => {
    while (next < lines.length) {
      const index = next++;
      const [title, play] = lines[index];
      const startedMs = performance.now();
      played[index] = await stage.line(title, play);
      const { record } = played[index];
      const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
      say(`${record.faults.length === 0 ? '  ✔' : '  ✖'} ${title} (${seconds} s)`);
      for (const fault of record.faults) say(`      ${fault}`);
    }
  };
  await Promise.all(Array.from({ length: width }, work));
  return played;
}

buildIfStale();
const dataDir = temporary();
const startedMs = performance.now();
const system = await startSystem({ ...settings, DATA_DIR: dataDir, PORT: String(await freePort()) });
say(`the system listens at ${system.url} after ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
const stage = makeStage(system);
const done = [];
try {
  for (const { title, lines, width = 5 } of sections) {
    if (!title.toLowerCase().includes(word)) continue;
    say(title);
    done.push({ title, lines: await playAll(lines, stage, width) });
  }
} finally {
  await stage.close();
  system.kill('SIGTERM');
  await system.within(30_000);
  rmSync(dataDir, { recursive: true, force: true });
}
if (word === '') {
  mkdirSync(join(root, 'docs'), { recursive: true });
  writeFileSync(join(root, 'docs', 'walkthrough.md'), pageOf(done));
}
const all = done.flatMap(({ lines }) => lines);
const wrong = all.filter(({ record }) => record.faults.length > 0);
for (const { record } of wrong)
  say(`✖ ${record.title}\n${record.faults.map((fault) => `    ${fault}`).join('\n')}`);
say(`${all.length} lines shown, ${wrong.length} wrong`);
process.exit(wrong.length === 0 ? 0 : 1);
