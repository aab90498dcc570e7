import { change } from './changing.js';
import { openDraft, type Move, type Refusal } from './draft.js';
import type { TaskEvent } from './event.js';
import { repeat, report } from './reporting.js';
import type { Rules } from './rules.js';
import { accept, giveUpOutcome, hold, postpone, reject, returnUnsent, stayUnknown } from './sending.js';
import { miss, sight } from './sightings.js';
import { giveUpKill, quarantine, requestCancel, runOut, takeKillAnswer } from './stopping.js';
import type { Task } from './task.js';

/**
 * The one place that decides about a task (I2): what an event makes of it, or why it changes nothing.
 * Pure; the caller saves the move by compare-and-set and calls again on a lost one.
 */
export function advance(task: Task, event: TaskEvent, rules: Rules): Move | Refusal {
  const draft = openDraft(task, rules.now);
  return decide(draft, event, rules) ?? draft.close();
}

// Each rule writes into the draft, or returns why it refuses.
function decide(draft: ReturnType<typeof openDraft>, event: TaskEvent, rules: Rules): Refusal | undefined {
  switch (event.type) {
    case 'accepted':
      return accept(draft, event, rules);
    case 'notSent':
      return returnUnsent(draft, event);
    case 'postponed':
      return postpone(draft, event);
    case 'rejected':
      return reject(draft, event);
    case 'outcomeUnknown':
      return stayUnknown(draft, event);
    case 'outcomeGivenUp':
      return giveUpOutcome(draft, event);
    case 'held':
      return hold(draft, event);
    case 'reported':
      return report(draft, event, rules);
    case 'repeated':
      return repeat(draft, event);
    case 'sighted':
      return sight(draft, event, rules);
    case 'missing':
      return miss(draft, event, rules);
    case 'clockRanOut':
      return runOut(draft, event);
    case 'cancelRequested':
      return requestCancel(draft, event);
    case 'killAnswered':
      return takeKillAnswer(draft, event, rules);
    case 'gaveUp':
      return giveUpKill(draft, event);
    case 'changed':
      return change(draft, event);
    case 'quarantined':
      return quarantine(draft, event);
  }
}
