import { setTimeout as sleep } from 'node:timers/promises';
import { closedLoop, closeLoad, openLoop, verify } from './load.js';
import { openBenchSystem } from './system.js';
import { percentile, usageOf, type Usage } from './usage.js';

/** `npm run bench [-- --tasks 5000 --rounds 3]`: the whole way, at full durability, with the stub in its own process. */
const argument = (name: string, otherwise: number): number => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const tasks = argument('tasks', 5000);
const rounds = argument('rounds', 3);
const print = (line: string): void => void process.stdout.write(`${line}\n`);

const system = await openBenchSystem();
const all = (): Record<string, Usage> =>
  Object.fromEntries(Object.entries(system.pids).map(([name, pid]) => [name, usageOf(pid)]));
const used = (before: Record<string, Usage>, after: Record<string, Usage>): [string, number][] =>
  Object.keys(after).map((name) => [name, (after[name]?.cpuSeconds ?? 0) - (before[name]?.cpuSeconds ?? 0)]);

try {
  await sleep(3000);
  const idleFrom = all();
  await sleep(10_000);
  const idle = used(idleFrom, all()).reduce((sum, [, seconds]) => sum + seconds, 0) / 10;
  print(`idle             ${(idle * 100).toFixed(2)} % of one core, the service's processes together`);

  // What follows is about a service that runs, not about one whose code was never called.
  await closedLoop(system, 2000, 16);
  for (const [perSecond, seconds] of [
    [50, 10],
    [200, 5],
  ] as const) {
    const ms = await openLoop(system, perSecond, seconds);
    print(
      `create → send    at ${perSecond}/s: p50 ${percentile(ms, 0.5)} ms, p99 ${percentile(ms, 0.99)} ms`,
    );
  }
  for (let round = 1; round <= rounds; round += 1) {
    const before = all();
    const { seconds } = await closedLoop(system, tasks, 64);
    const cpu = used(before, all()).map(([name, cost]) => `${name} ${Math.round((cost / tasks) * 1e6)}`);
    print(
      `end to end       ${Math.round(tasks / seconds)} tasks/s (${tasks} tasks, 64 in flight); CPU µs a task: ${cpu.join(', ')}`,
    );
  }
  await sleep(500);
  const faults = await verify();
  print(
    `verified         ${faults.length === 0 ? 'every task COMPLETED with result, timeline and callbacks' : faults.join('; ')}`,
  );
  print(
    `peak memory      ${Object.entries(all())
      .map(([name, { peakMb }]) => `${name} ${peakMb.toFixed(0)} MB`)
      .join(', ')}`,
  );
  if (faults.length > 0) process.exitCode = 1;
} finally {
  await closeLoad();
  await system.close();
}
