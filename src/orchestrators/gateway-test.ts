import type { Probe, Target, TestReport, TestStep } from './client.js';
import type { Http, HttpAnswer, HttpFailure } from './http.js';

type Finding = { readonly ok: boolean; readonly detail: string };
type Questions = {
  readonly health: (timeoutMs: number) => Promise<Probe>;
  readonly auth: (timeoutMs: number) => Promise<HttpAnswer | HttpFailure>;
};

/**
 * Tries a backend step by step: resolve, connect, health, auth. Each failed step says what to do about it; once the
 * backend cannot be reached, the later steps are listed as not tried. A bad health route does not hide a bad credential.
 * @param timeoutMs bound for all steps together
 */
export async function testGateway(
  http: Http,
  target: Target,
  timeoutMs: number,
  signal: AbortSignal,
  ask: Questions,
): Promise<TestReport> {
  const startedAt = performance.now();
  const leftMs = () => Math.max(1, timeoutMs - (performance.now() - startedAt));
  const steps: TestStep[] = [];
  let reachable = true;

  const step = async (name: TestStep['name'], run: () => Promise<Finding>): Promise<Finding> => {
    const stepAt = performance.now();
    const finding = reachable ? await run() : { ok: false, detail: 'not tried: an earlier step failed' };
    steps.push({ name, ms: Math.round(performance.now() - stepAt), ...finding });
    return finding;
  };

  const url = URL.canParse(target.url) ? new URL(target.url) : null;
  const noUrl = { ok: false, detail: 'the url is none; give one like https://orchestrator.example.com' };
  const resolved = await step('resolve', async () => {
    const found = url === null ? noUrl : await http.resolve(url, leftMs(), signal);
    return withCure(found, 'check the host name in the url');
  });
  reachable = resolved.ok;
  const connected = await step('connect', async () => {
    const found = url === null ? noUrl : await http.connect(url, leftMs(), signal);
    return withCure(
      found,
      'check the port and the scheme, and that the Orchestrator runs and is let through',
    );
  });
  reachable = reachable && connected.ok;
  await step('health', async () => healthFinding(target, await ask.health(leftMs())));
  await step('auth', async () => authFinding(target, await ask.auth(leftMs())));

  const latencyMs = Math.round(performance.now() - startedAt);
  return { ok: steps.every(({ ok }) => ok), latencyMs, steps };
}

/** The guard's own sentences already name the setting that opens an address. */
function withCure(finding: Finding, cure: string): Finding {
  if (finding.ok || finding.detail.includes('BACKEND_')) return finding;
  return { ok: false, detail: `${finding.detail}; ${cure}` };
}

function healthFinding(target: Target, probe: Probe): Finding {
  if (probe.ok) return { ok: true, detail: `${target.healthPath} answered ${probe.httpStatus ?? 'nothing'}` };
  const cure = 'set health.path to a route that answers 2xx, or health.expect to "any"';
  return { ok: false, detail: `${probe.error ?? 'no answer'}; ${cure}` };
}

function authFinding(target: Target, answer: HttpAnswer | HttpFailure): Finding {
  if (answer.kind === 'failed') return { ok: false, detail: `${answer.reason}; try again when it answers` };
  const { httpStatus } = answer;
  if (httpStatus === 401 || httpStatus === 403) {
    const cure =
      target.authType === 'none'
        ? 'it wants a credential: set auth.type and auth.secret'
        : `it refuses the credential sent as ${headerName(target)}: check auth.type and auth.secret`;
    return { ok: false, detail: `answered ${httpStatus}; ${cure}` };
  }
  if (httpStatus >= 300 && httpStatus < 400) {
    return {
      ok: false,
      detail: `answered ${httpStatus}; redirects are not followed: use the final address as url`,
    };
  }
  if (httpStatus >= 500 && httpStatus !== 501) {
    return { ok: false, detail: `answered ${httpStatus}; look into the Orchestrator's own log` };
  }
  const listing =
    httpStatus < 300 ? 'sessions can be listed' : `no list of sessions (${httpStatus}), which is no fault`;
  return { ok: true, detail: `the credential is accepted; ${listing}` };
}

function headerName(target: Target): string {
  return target.authType === 'bearer' ? 'Authorization: Bearer' : 'X-API-Key';
}
