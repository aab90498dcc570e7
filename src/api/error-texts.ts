import type { FailureCode } from '../domain/errors.js';
import type { ProblemCode } from './problems.js';

/** What a page of a problem says: why it came, and what to do. A code without a text does not compile. */
export const problemTexts: Readonly<Record<ProblemCode, readonly [why: string, cure: string]>> = {
  malformed_json: [
    'The body is not well-formed JSON in UTF-8, or one of our own objects names a member twice.',
    'Mend the text at the place that the detail names.',
  ],
  json_too_deep: [
    'The body is nested more than 32 levels deep, counted from its outermost brace; in a batch, from the item’s.',
    'Send deep structures as text inside the payload.',
  ],
  malformed_request: [
    'The request itself is malformed: its framing, a header, its path or its query.',
    'See the detail; most HTTP clients never send this.',
  ],
  idempotency_key_malformed: [
    'An Idempotency-Key has 1 to 255 printable ASCII characters.',
    'Use a shorter or plainer key, such as a UUID.',
  ],
  unauthenticated: [
    'The request has no API key, or one that is not known or has expired.',
    'Send Authorization: Bearer with a key made by POST /v1/api-keys.',
  ],
  key_revoked: ['This API key was revoked.', 'Use another key; an admin can make one.'],
  key_is_a_webhook_secret: [
    'A secret that begins with whsec_ verifies webhooks. It is not an API key.',
    'Use a key that begins with mdk_.',
  ],
  callback_token_invalid: [
    'The callback token is missing, malformed, or belongs to another attempt.',
    'Send the callback_token of the very spawn request that named this URL, as Authorization: Bearer.',
  ],
  scope_missing: [
    'The API key does not have the scope that this route needs. No scope implies another, but admin has all.',
    'Use a key with the scope that the detail names.',
  ],
  workspace_forbidden: [
    'The API key belongs to one workspace and may make tasks of that one only.',
    'Leave workspaceId out, or use another key.',
  ],
  not_found: [
    'There is no object with this id, or it belongs to another workspace.',
    'Check the id and the key.',
  ],
  route_not_found: ['There is no such route.', 'See the API description; every route begins with /v1.'],
  method_not_allowed: ['The route exists, but not with this method.', 'The Allow header lists its methods.'],
  request_timeout: [
    'The headers took longer than 10 s or the whole request longer than 30 s.',
    'Send it again over a faster connection, or in smaller parts.',
  ],
  task_already_ended: [
    'The task has ended; an end never changes.',
    'Read the task; POST /v1/tasks/{id}/retry makes a FAILED or CANCELLED one anew.',
  ],
  task_already_sent: [
    'A task can be changed only while nothing of it was sent or is being sent: every send has the same bytes.',
    'Cancel it and create another.',
  ],
  task_not_ended: [
    'Only a FAILED or CANCELLED task can be tried again.',
    'Wait for its end, or cancel it first.',
  ],
  task_not_cancelling: [
    'Only the kill of a task that is being cancelled can be given up.',
    'Cancel it first.',
  ],
  retry_not_ended: [
    'An earlier retry of this task has not ended.',
    'Follow that one: its id is in the answer.',
  ],
  backend_in_use: [
    'Attempts whose agent may live are on this backend.',
    'Drain it and wait, or delete it with ?force=true, which kills them.',
  ],
  backend_name_taken: ['Another backend has this name.', 'Choose another name, or change the other one.'],
  payload_too_large: [
    'The body, or a part of it, is over the limit that the detail names: 1 MiB, a batch 16 MiB, a callback 2 MiB.',
    'Store large data elsewhere and send a reference.',
  ],
  uri_too_long: [
    'The path has more than 2,048 characters; no id is that long.',
    'Check how the address is put together.',
  ],
  unsupported_media_type: [
    'Bodies are JSON in UTF-8, without a content encoding.',
    'Send Content-Type: application/json.',
  ],
  validation_failed: [
    'The input is well-formed but not valid. Every fault is listed, with a pointer to its place.',
    'Mend all of them and send it again; nothing was stored.',
  ],
  malformed_cursor: [
    'The cursor is not one that this list gave.',
    'Use nextCursor unchanged, with the same filters, or begin anew without one.',
  ],
  idempotency_key_reused: [
    'This Idempotency-Key came before with a different body.',
    'Use a new key for a new task; repeat a request only with the same body.',
  ],
  unknown_backend: [
    'The task names a backend that does not exist.',
    'GET /v1/backends lists them; labels may match one that is added later.',
  ],
  callback_status_unknown: [
    'A callback’s status is running, progress, completed, failed or killed, in any case.',
    'Map your own states to these.',
  ],
  rate_limited: ['Too many requests came from this caller.', 'Wait for Retry-After seconds.'],
  headers_too_large: [
    'The request line and headers have more than 16 KiB.',
    'Send fewer or shorter headers.',
  ],
  internal: [
    'A fault of ours; it was recorded.',
    'Repeat the request with the same Idempotency-Key; report the request id.',
  ],
  overloaded: [
    'More is waiting to be written than this process will hold.',
    'Wait for Retry-After seconds and repeat.',
  ],
  busy: ['Others are changing this object at the moment.', 'Repeat the request.'],
  commit_unknown: [
    'The connection to the database was lost during the commit: the change was stored or it was not.',
    'Repeat the request with the same Idempotency-Key: it makes at most one task.',
  ],
  database_unavailable: [
    'The database is out of reach. Nothing was promised.',
    'Wait for Retry-After seconds and repeat, with the same Idempotency-Key.',
  ],
  queues_unavailable: [
    'The queues cannot be shown now. Accepted tasks wait in the database and are not lost.',
    'Look again when Valkey is back.',
  ],
  draining: ['This process is shutting down.', 'Repeat the request: another process answers it.'],
};

/** What a page of a failed task's code says: what happened, whether its agent may still run, what to do. */
export const failureTexts: Readonly<
  Record<FailureCode, readonly [happened: string, agent: string, cure: string]>
> = {
  BACKEND_REJECTED: [
    'The backend refused the task as invalid (400, 413, 415 or 422).',
    'No agent was started.',
    'Mend the task’s type or context and create it anew.',
  ],
  ATTEMPTS_EXHAUSTED: [
    'Every attempt that the task allows was used up, and no agent gave an error of its own.',
    'No: each attempt has ended, or is being killed.',
    'See its attempts for what each backend said; then retry it.',
  ],
  DISPATCH_OUTCOME_UNKNOWN: [
    'The request was sent but no clear answer came, however often it was repeated or asked about.',
    'It may: we do not know. The backend is asked on, and what is found is killed.',
    'Check the backend before you retry; onUnknownOutcome: failover chooses another backend instead.',
  ],
  DEADLINE_EXCEEDED: [
    'The task’s deadlineAt passed before it ended.',
    'It may for a short while: the backend was told to kill it, and is told again until it confirms.',
    'Give it more time, or find out what it waited for on its timeline.',
  ],
  START_TIMEOUT: [
    'A backend accepted the task, but no agent began to run within timeouts.startMs.',
    'It may for a short while: it is being killed.',
    'Look at the backend’s own queue; raise startMs if it is long.',
  ],
  HEARTBEAT_TIMEOUT: [
    'A running agent sent no callback for longer than timeouts.heartbeatMs.',
    'It may for a short while: it is being killed.',
    'Let the agent report progress more often, or raise heartbeatMs.',
  ],
  RUN_TIMEOUT: [
    'The agent ran longer than timeouts.runMs.',
    'It may for a short while: it is being killed.',
    'Raise runMs or split the task.',
  ],
  LOST_BY_BACKEND: [
    'The backend no longer knows the agent, and no attempts are left.',
    'Hardly: the backend says that it has no such agent.',
    'See why the backend lost it (a restart, for instance); then retry.',
  ],
  KILL_UNCONFIRMED: [
    'The task was cancelled, but nobody confirmed that its agent has ended.',
    'Yes, it may still run.',
    'Check on the backend and end the agent by hand.',
  ],
  QUARANTINED: [
    'The task was taken up five times without any outcome and was set aside, so that it stops no other.',
    'It may, if one of those times got as far as a send; such an agent is being killed.',
    'Look into the logs for its id; report it before you retry.',
  ],
};
