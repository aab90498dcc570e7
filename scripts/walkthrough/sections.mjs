/** The contract's sections in their order; what stops everything stands last. */
import { backends } from './sections/backends.mjs';
import { calling } from './sections/calling.mjs';
import { cancelling } from './sections/cancelling.mjs';
import { changing } from './sections/changing.mjs';
import { choosing } from './sections/choosing.mjs';
import { configuring } from './sections/configuring.mjs';
import { conventions } from './sections/conventions.mjs';
import { converging } from './sections/converging.mjs';
import { doubting } from './sections/doubting.mjs';
import { ending } from './sections/ending.mjs';
import { example } from './sections/example.mjs';
import { following } from './sections/following.mjs';
import { health } from './sections/health.mjs';
import { input } from './sections/input.mjs';
import { keys } from './sections/keys.mjs';
import { lists } from './sections/lists.mjs';
import { operating } from './sections/operating.mjs';
import { payloads } from './sections/payloads.mjs';
import { refusing } from './sections/refusing.mjs';
import { repeating } from './sections/repeating.mjs';
import { spawning } from './sections/spawning.mjs';
import { starting } from './sections/starting.mjs';
import { stopping } from './sections/stopping.mjs';
import { tasks } from './sections/tasks.mjs';

/** Lines of a section are played side by side, `width` at a time. */
export const sections = [
  { title: '1. Conventions', lines: [...conventions, ...lists] },
  { title: '1. Conventions: what a body may be', lines: [...input, ...payloads] },
  { title: '2. Environment, 3. Starting', lines: configuring, width: 2 },
  { title: '4. Tasks', lines: [...tasks, ...repeating, ...changing, ...following] },
  { title: '4. Tasks: cancel, retry, clocks', lines: [...cancelling, ...ending] },
  { title: '5. Backends', lines: [...backends, ...health, ...choosing] },
  { title: '6. What an Orchestrator is sent', lines: [...spawning, ...refusing, ...doubting, ...example] },
  { title: '7. Callbacks', lines: [...calling, ...converging] },
  { title: '8. Operating', lines: [...keys, ...operating] },
  { title: '4. Tasks: stopping many', lines: stopping, width: 1 },
  { title: '3. Starting: side by side, outages, stopping', lines: starting, width: 1 },
];
