import type { Knex } from 'knex';

/**
 * The whole ground in one migration. What must stay true of it:
 * - `tasks` is the row of truth and stays narrow: payloads and results live in tables of their own, written
 *   once, so that no update and no list ever touches them.
 * - A PENDING row with `due_at <= now()` and no living lease is the dispatch outbox; a callback with
 *   `applied_at IS NULL` is the transition outbox; an attempt with `kill_due_at` is the kill outbox.
 * - No foreign keys between hot tables: they would lock the parent row on each insert.
 */
export async function up(knex: Knex): Promise<void> {
  await knex.raw(tables);
  await knex.raw(indexes);
  await knex.raw(guard);
}

const tables = `
CREATE TABLE tasks (
  id text PRIMARY KEY,
  type text NOT NULL,
  title text,
  reference text,
  workspace_id text,
  priority smallint NOT NULL,
  tags text[] NOT NULL DEFAULT '{}',
  wish json NOT NULL,
  timeouts json NOT NULL,
  retry json NOT NULL,
  notify_url text,
  retry_of text,
  created_by text,
  idem_scope text,
  idem_key text,
  idem_hash text,
  scheduled_for timestamptz(3),
  deadline_at timestamptz(3),
  created_at timestamptz(3) NOT NULL DEFAULT now(),

  state text NOT NULL DEFAULT 'PENDING'
    CHECK (state IN ('PENDING', 'DISPATCHED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  version integer NOT NULL DEFAULT 0,
  seq integer NOT NULL DEFAULT 1,
  due_at timestamptz(3),
  leased_by text,
  claims smallint NOT NULL DEFAULT 0,
  attempt integer NOT NULL DEFAULT 0,
  spent integer NOT NULL DEFAULT 0,
  failures integer NOT NULL DEFAULT 0,
  backend_id text,
  external_id text,
  avoid text[] NOT NULL DEFAULT '{}',
  waiting_reason text,
  waiting_detail text,
  waiting_until timestamptz(3),
  lane text,
  order_at timestamptz(3) NOT NULL,
  clock_at timestamptz(3),
  last_heard_at timestamptz(3),
  progress_percent real,
  progress_message text,
  progress_sequence bigint,
  error_code text,
  error_message text,
  error_retryable boolean,
  cancel_requested_at timestamptz(3),
  cancel_reason text,
  dispatched_at timestamptz(3),
  started_at timestamptz(3),
  finished_at timestamptz(3),
  updated_at timestamptz(3) NOT NULL DEFAULT now(),
  CHECK ((finished_at IS NOT NULL) = (state IN ('COMPLETED', 'FAILED', 'CANCELLED')))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

CREATE TABLE task_payloads (
  task_id text PRIMARY KEY,
  context text NOT NULL,
  metadata text
);

CREATE TABLE task_results (
  task_id text PRIMARY KEY,
  result text NOT NULL
);

CREATE TABLE task_events (
  task_id text NOT NULL,
  seq integer NOT NULL,
  type text NOT NULL,
  from_state text,
  to_state text NOT NULL,
  at timestamptz(3) NOT NULL,
  attempt integer,
  backend_id text,
  actor text NOT NULL,
  detail json,
  PRIMARY KEY (task_id, seq)
);

CREATE TABLE attempts (
  task_id text NOT NULL,
  number integer NOT NULL,
  backend_id text NOT NULL,
  idempotency_key text NOT NULL UNIQUE,
  callback_url text NOT NULL,
  signing_key_id text NOT NULL,
  traceparent text NOT NULL,
  external_id text,
  sends integer NOT NULL DEFAULT 1,
  unknown_sends integer NOT NULL DEFAULT 0,
  outcome text,
  http_status smallint,
  error text,
  reusable boolean NOT NULL DEFAULT true,
  started_at timestamptz(3) NOT NULL DEFAULT now(),
  ended_at timestamptz(3),
  away_since timestamptz(3),
  missing smallint NOT NULL DEFAULT 0,
  ask_at timestamptz(3),
  kill_due_at timestamptz(3),
  kill_since timestamptz(3),
  kill_tries integer NOT NULL DEFAULT 0,
  kill_reason text,
  PRIMARY KEY (task_id, number)
) WITH (fillfactor = 70);

CREATE TABLE callbacks (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id text NOT NULL,
  attempt integer NOT NULL,
  dedupe_key text NOT NULL,
  status text NOT NULL,
  event_id text,
  session_id text,
  sequence bigint,
  occurred_at timestamptz(3),
  progress_percent real,
  progress_message text,
  error_code text,
  error_message text,
  error_retryable boolean,
  result text,
  received_at timestamptz(3) NOT NULL DEFAULT now(),
  repeats integer NOT NULL DEFAULT 0,
  verdict text,
  tries smallint NOT NULL DEFAULT 0,
  applied_at timestamptz(3),
  UNIQUE (task_id, attempt, dedupe_key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE backends (
  id text PRIMARY KEY,
  name text NOT NULL,
  protocol text NOT NULL,
  url text NOT NULL,
  auth_type text NOT NULL DEFAULT 'none',
  auth_secret text,
  health_path text NOT NULL DEFAULT '/health',
  health_expect text NOT NULL DEFAULT '2xx',
  labels json NOT NULL DEFAULT '{}',
  weight real NOT NULL DEFAULT 1,
  max_concurrency integer,
  max_dispatches_per_minute integer,
  mode text NOT NULL DEFAULT 'active' CHECK (mode IN ('active', 'draining', 'disabled')),
  config_version integer NOT NULL DEFAULT 1,
  health_status text NOT NULL DEFAULT 'unknown' CHECK (health_status IN ('up', 'down', 'unknown')),
  health_reason text,
  checked_at timestamptz(3),
  latency_ms real,
  consecutive_failures integer NOT NULL DEFAULT 0,
  consecutive_successes integer NOT NULL DEFAULT 0,
  last_error text,
  refused_sends integer NOT NULL DEFAULT 0,
  blocked_until timestamptz(3),
  next_send_at timestamptz,
  trial_at timestamptz(3),
  trial_failures integer NOT NULL DEFAULT 0,
  deleted_at timestamptz(3),
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  updated_at timestamptz(3) NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE TABLE backend_health (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  backend_id text NOT NULL,
  at timestamptz(3) NOT NULL DEFAULT now(),
  ok boolean NOT NULL,
  status text NOT NULL,
  latency_ms real,
  error text
);

CREATE TABLE processes (
  id text PRIMARY KEY,
  name text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  started_at timestamptz(3) NOT NULL DEFAULT now(),
  lease_until timestamptz(3) NOT NULL,
  fence_seen bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

/* One row: until when a callback door was known to be open, and when it last opened again after a gap. */
CREATE TABLE intake (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  open_until timestamptz(3) NOT NULL,
  resumed_at timestamptz(3)
);
INSERT INTO intake (open_until) VALUES (now() + interval '1 minute');

CREATE TABLE fences (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  workspace_id text,
  at timestamptz(3) NOT NULL DEFAULT now(),
  actor text NOT NULL,
  reason text NOT NULL,
  matched integer NOT NULL DEFAULT 0,
  finished_at timestamptz(3)
);

CREATE TABLE api_keys (
  id text PRIMARY KEY,
  name text NOT NULL,
  hash text NOT NULL UNIQUE,
  scopes text[] NOT NULL,
  workspace_id text,
  expires_at timestamptz(3),
  revoked_at timestamptz(3),
  created_at timestamptz(3) NOT NULL DEFAULT now()
);

CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz(3) NOT NULL DEFAULT now(),
  actor text NOT NULL,
  action text NOT NULL,
  target text NOT NULL,
  workspace_id text,
  reason text,
  detail json
);
`;

const indexes = `
CREATE UNIQUE INDEX tasks_idempotency ON tasks (idem_scope, idem_key) WHERE idem_key IS NOT NULL;
CREATE INDEX tasks_due ON tasks (due_at) WHERE state = 'PENDING' AND due_at IS NOT NULL;
CREATE INDEX tasks_held ON tasks (lane, (coalesce(workspace_id, '')), order_at) WHERE state = 'PENDING' AND lane IS NOT NULL;
CREATE INDEX tasks_clock ON tasks (clock_at) WHERE clock_at IS NOT NULL;
CREATE INDEX tasks_newest ON tasks (created_at, id);
CREATE INDEX tasks_by_state ON tasks (state, created_at, id) WHERE state IN ('PENDING', 'DISPATCHED', 'RUNNING', 'FAILED', 'CANCELLED');
CREATE INDEX tasks_by_type ON tasks (type, created_at, id);
CREATE INDEX tasks_by_workspace ON tasks (workspace_id, created_at, id) WHERE workspace_id IS NOT NULL;
CREATE INDEX tasks_by_reference ON tasks (reference, created_at, id) WHERE reference IS NOT NULL;
CREATE INDEX tasks_by_backend ON tasks (backend_id, created_at, id) WHERE backend_id IS NOT NULL;
CREATE INDEX tasks_by_tag ON tasks USING gin (tags) WHERE tags <> '{}';
CREATE INDEX tasks_cancelling ON tasks (created_at, id) WHERE cancel_requested_at IS NOT NULL AND finished_at IS NULL;
CREATE INDEX tasks_retries ON tasks (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX attempts_open ON attempts (backend_id) WHERE ended_at IS NULL;
CREATE INDEX attempts_kill ON attempts (kill_due_at) WHERE kill_due_at IS NOT NULL;
CREATE INDEX attempts_ask ON attempts (ask_at) WHERE ask_at IS NOT NULL;

CREATE INDEX callbacks_unapplied ON callbacks (task_id, id) WHERE applied_at IS NULL;
CREATE INDEX callbacks_unapplied_age ON callbacks (received_at) WHERE applied_at IS NULL;

CREATE UNIQUE INDEX backends_name ON backends (name) WHERE deleted_at IS NULL;
CREATE INDEX backend_health_of ON backend_health (backend_id, id);
CREATE INDEX fences_open ON fences (id) WHERE finished_at IS NULL;
CREATE INDEX audit_newest ON audit_log (id);
`;

/**
 * The table of legal moves, enforced whoever asks (I2). A test compares it with `legalMoves` of the domain.
 * It fires only where it can matter: when the state changes, or when the row had already ended.
 */
const guard = `
CREATE FUNCTION guard_task_birth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'task % cannot be born %', NEW.id, NEW.state USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER tasks_birth BEFORE INSERT ON tasks FOR EACH ROW
  WHEN (NEW.state <> 'PENDING') EXECUTE FUNCTION guard_task_birth();

CREATE FUNCTION guard_task_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.state IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN
    IF (NEW.state, NEW.error_code, NEW.error_message, NEW.error_retryable, NEW.dispatched_at, NEW.started_at, NEW.finished_at)
       IS DISTINCT FROM
       (OLD.state, OLD.error_code, OLD.error_message, OLD.error_retryable, OLD.dispatched_at, OLD.started_at, OLD.finished_at)
    THEN
      RAISE EXCEPTION 'task % has ended as % and stays so', OLD.id, OLD.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
  END IF;
  IF NOT ((OLD.state = 'PENDING' AND NEW.state IN ('DISPATCHED', 'FAILED', 'CANCELLED'))
       OR (OLD.state = 'DISPATCHED' AND NEW.state IN ('RUNNING', 'PENDING', 'FAILED', 'CANCELLED'))
       OR (OLD.state = 'RUNNING' AND NEW.state IN ('COMPLETED', 'PENDING', 'FAILED', 'CANCELLED')))
  THEN
    RAISE EXCEPTION 'task % cannot go from % to %', OLD.id, OLD.state, NEW.state USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER tasks_move BEFORE UPDATE ON tasks FOR EACH ROW
  WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.finished_at IS NOT NULL) EXECUTE FUNCTION guard_task_move();

CREATE FUNCTION guard_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is written once', TG_TABLE_NAME USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER task_events_append_only BEFORE UPDATE ON task_events FOR EACH ROW EXECUTE FUNCTION guard_written_once();
CREATE TRIGGER task_results_once BEFORE UPDATE ON task_results FOR EACH ROW EXECUTE FUNCTION guard_written_once();
`;
