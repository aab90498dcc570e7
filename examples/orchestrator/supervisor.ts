import { randomUUID } from 'node:crypto';
import type { Agent, AgentReport, StartAgent } from './agent.js';
import type { CallbackSender } from './callbacks.js';
import type { Job } from './context.js';
import { hasEnded, type Session, type SessionError, type SessionTable } from './sessions.js';

export type SpawnRequest = Pick<
  Session,
  'idempotencyKey' | 'bodyHash' | 'taskId' | 'attempt' | 'callbackUrl' | 'callbackToken' | 'traceparent'
> & { readonly job: Job; readonly title: string };

export type Supervisor = {
  /** Starts an agent, unless as many as may are at work. The session survives a crash before this returns. */
  spawn(request: SpawnRequest): Session | 'full';
  /** Resolves when the agent's process is gone, with what became of the session; an ended one stays as it was. */
  kill(id: string): Promise<Session | null>;
  atWork(): number;
  /** Ends every agent; their tasks are told that another attempt may follow. */
  close(): Promise<void>;
};

export type SupervisorOptions = {
  readonly sessions: SessionTable;
  readonly callbacks: CallbackSender;
  readonly startAgent: StartAgent;
  readonly maxAgents: number;
};

type AtWork = { readonly agent: Agent; readonly settled: Promise<void> };
type LastWords = Extract<AgentReport, { kind: 'completed' | 'failed' }>;

/** Ties the parts together: a session's changes are saved first, and told after that. */
export function openSupervisor({
  sessions,
  callbacks,
  startAgent,
  maxAgents,
}: SupervisorOptions): Supervisor {
  const agents = new Map<string, AtWork>();
  const killed = new Set<string>();
  let isClosing = false;

  function change(session: Session, what: Partial<Session>): void {
    Object.assign(session, what, { sequence: session.sequence + 1 });
    if (hasEnded(session)) session.endedAt = new Date().toISOString();
    sessions.save(session);
    callbacks.tell(session);
  }

  /** An agent's end is told when its process is gone, not when it says so: "ended" must mean that nothing runs. */
  function settle(session: Session, words: LastWords | null): void {
    agents.delete(session.id);
    const wasKilled = killed.delete(session.id);
    if (words?.kind === 'completed') {
      change(session, {
        status: 'completed',
        result: words.result,
        progress: { percent: 100, message: 'done' },
      });
    } else if (words?.kind === 'failed') {
      change(session, { status: 'failed', error: words.error, result: words.result });
    } else if (wasKilled) {
      change(session, { status: 'killed' });
    } else {
      change(session, { status: 'failed', error: isClosing ? stopped : died });
    }
  }

  // Agents do not outlive the Orchestrator: whatever was at work when it was last seen is not any more.
  for (const session of sessions.list(null)) {
    if (!hasEnded(session)) change(session, { status: 'failed', error: lost });
    else if (!session.told) callbacks.tell(session);
  }

  return {
    spawn: ({ job, title, ...request }) => {
      if (isClosing || agents.size >= maxAgents) return 'full';
      const session = newSession(request);
      sessions.save(session);
      let lastWords: LastWords | null = null;
      const { taskId, attempt } = request;
      const agent = startAgent(session.id, { job, taskId, attempt, title }, (report) => {
        if (report.kind === 'completed' || report.kind === 'failed') lastWords = report;
        else if (report.kind === 'running') change(session, { status: 'running' });
        else change(session, { progress: { percent: report.percent, message: report.message } });
      });
      agents.set(session.id, { agent, settled: agent.gone.then(() => settle(session, lastWords)) });
      return session;
    },
    kill: async (id) => {
      const atWork = agents.get(id);
      if (atWork !== undefined) {
        killed.add(id);
        await atWork.agent.kill();
        await atWork.settled;
      }
      return sessions.find(id);
    },
    atWork: () => agents.size,
    close: async () => {
      isClosing = true;
      await Promise.all([...agents.values()].map(({ agent, settled }) => agent.kill().then(() => settled)));
    },
  };
}

function newSession(request: Omit<SpawnRequest, 'job' | 'title'>): Session {
  return {
    ...request,
    id: `sess_${randomUUID().replaceAll('-', '')}`,
    startedAt: new Date().toISOString(),
    status: 'spawning',
    progress: null,
    result: null,
    error: null,
    sequence: 0,
    endedAt: null,
    told: false,
  };
}

const stopped: SessionError = {
  code: 'ORCHESTRATOR_STOPPED',
  message: 'the Orchestrator was stopped',
  retryable: true,
};
const lost: SessionError = { code: 'AGENT_LOST', message: 'the Orchestrator was restarted', retryable: true };
const died: SessionError = {
  code: 'AGENT_DIED',
  message: "the agent's process ended without a word",
  retryable: true,
};
