-- Everything is in the schema "perdure", and named with it: no statement depends on the session's search path.
-- Times are milliseconds since the epoch. Payload columns (bytea) hold JSON, or a reference to a blob (see blobs.py).
-- Text sorts by its bytes: ids are ranges (a run's jobs begin with the run's id), and order must not depend on a locale.

CREATE TABLE perdure.event (
  internal_id text COLLATE "C" PRIMARY KEY,
  name text COLLATE "C" NOT NULL,
  received_at bigint NOT NULL,
  internal integer NOT NULL,
  body bytea NOT NULL
);
CREATE INDEX event_by_name ON perdure.event (name, internal_id);

CREATE TABLE perdure.run (
  id text COLLATE "C" PRIMARY KEY,
  function_id text COLLATE "C" NOT NULL,
  function_version integer NOT NULL,
  app_id text COLLATE "C" NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  batch_id text COLLATE "C",
  cron text COLLATE "C",
  original_run_id text COLLATE "C",
  parent text COLLATE "C",
  status integer NOT NULL,
  created_at bigint NOT NULL,
  started_at bigint,
  ended_at bigint,
  output bytea,
  request_version integer
) WITH (fillfactor = 80);
CREATE INDEX run_by_event ON perdure.run (event_id);

-- The events of a batch run after its first.
CREATE TABLE perdure.run_event (
  run_id text COLLATE "C" NOT NULL,
  position integer NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (run_id, position)
);
CREATE INDEX run_event_by_event ON perdure.run_event (event_id);

CREATE TABLE perdure.step (
  run_id text COLLATE "C" NOT NULL,
  id text COLLATE "C" NOT NULL,
  op text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  status integer NOT NULL,
  seq integer NOT NULL,
  attempt integer NOT NULL,
  queued_at bigint NOT NULL,
  started_at bigint NOT NULL,
  ended_at bigint,
  data bytea,
  opts bytea,
  PRIMARY KEY (run_id, id)
);

-- Failed attempts of steps, and of handlers (step_id empty), whose count begins anew when the run gets on.
CREATE TABLE perdure.attempt (
  run_id text COLLATE "C" NOT NULL,
  step_id text COLLATE "C" NOT NULL,
  attempt integer NOT NULL,
  started_at bigint NOT NULL,
  ended_at bigint NOT NULL,
  error bytea NOT NULL,
  PRIMARY KEY (run_id, step_id, started_at, attempt)
);

-- state: 0 scheduled, 1 ready, 2 leased, 3 blocked, 4 parked. Rows come and go: they are vacuumed early.
CREATE TABLE perdure.job (
  id text COLLATE "C" PRIMARY KEY,
  kind text COLLATE "C" NOT NULL,
  state integer NOT NULL,
  run_id text COLLATE "C",
  function_id text COLLATE "C",
  due_at bigint NOT NULL,
  rank bigint NOT NULL,
  node text COLLATE "C",
  token bigint NOT NULL,
  attempt integer NOT NULL,
  woken integer NOT NULL,
  blocked_on text COLLATE "C",
  keys bytea,
  data bytea
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX job_due ON perdure.job (due_at) WHERE state = 0;
CREATE INDEX job_ready ON perdure.job (rank, id) WHERE state = 1;
CREATE INDEX job_leased ON perdure.job (node) WHERE state = 2;
CREATE INDEX job_blocked ON perdure.job (blocked_on, rank, id) WHERE state = 3;

CREATE TABLE perdure.pause (
  id text COLLATE "C" PRIMARY KEY,
  run_id text COLLATE "C" NOT NULL,
  step_id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  path text COLLATE "C",
  value text COLLATE "C",
  expression text COLLATE "C",
  created_at bigint NOT NULL,
  expires_at bigint
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
-- By the hash of the value: a row of a btree has at most 2.7 kB.
CREATE INDEX pause_by_match ON perdure.pause (name, path, md5(value)) WHERE kind IN ('event', 'cancel');
CREATE INDEX pause_by_signal ON perdure.pause (name) WHERE kind = 'signal';

-- The event names that pauses wait for, or have waited for. Under the lock of enter_1, `seq` is in order of commits, so
-- a node that knows the names up to a number learns of the others by it.
CREATE TABLE perdure.pause_name (
  name text COLLATE "C" PRIMARY KEY,
  seq bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX pause_name_by_seq ON perdure.pause_name (seq);

CREATE TABLE perdure.slot (
  key text COLLATE "C" NOT NULL,
  owner text COLLATE "C" NOT NULL,
  PRIMARY KEY (key, owner)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE TABLE perdure.bucket (
  key text COLLATE "C" PRIMARY KEY,
  arrival double precision NOT NULL,
  expires_at bigint NOT NULL
);

CREATE TABLE perdure.hit (
  key text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  id text COLLATE "C" NOT NULL,
  expires_at bigint NOT NULL,
  PRIMARY KEY (key, at, id)
);

CREATE TABLE perdure.idempotency (
  key text COLLATE "C" PRIMARY KEY,
  event_id text COLLATE "C" NOT NULL,
  expires_at bigint NOT NULL
);

CREATE TABLE perdure.batch_item (
  job_id text COLLATE "C" NOT NULL,
  event_id text COLLATE "C" NOT NULL,
  position integer NOT NULL,
  size bigint NOT NULL,
  PRIMARY KEY (job_id, position)
);

CREATE TABLE perdure.function (
  id text COLLATE "C" PRIMARY KEY,
  app_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  version integer NOT NULL,
  config bytea NOT NULL,
  created_at bigint NOT NULL,
  archived_at bigint,
  paused_at bigint
);

CREATE TABLE perdure.cancellation (
  id text COLLATE "C" PRIMARY KEY,
  function_id text COLLATE "C" NOT NULL,
  started_after bigint,
  started_before bigint NOT NULL,
  condition text,
  created_at bigint NOT NULL,
  cancelled bigint NOT NULL
);

CREATE TABLE perdure.replay (
  id text COLLATE "C" PRIMARY KEY,
  function_id text COLLATE "C" NOT NULL,
  statuses text NOT NULL,
  queued_from bigint,
  queued_until bigint,
  bound text COLLATE "C" NOT NULL,
  cursor text COLLATE "C" NOT NULL,
  started bigint NOT NULL,
  skipped bigint NOT NULL,
  created_at bigint NOT NULL,
  ended_at bigint
);

-- The target is a step's hash, a span's id, or empty for the run.
CREATE TABLE perdure.run_metadata (
  run_id text COLLATE "C" NOT NULL,
  target text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  entries bytea NOT NULL,
  updated_at bigint NOT NULL,
  PRIMARY KEY (run_id, target, scope, kind)
);

-- What runs say while they go on: where each log stands (open and undone as JSON), and its events in batches.
CREATE TABLE perdure.stream (
  run_id text COLLATE "C" PRIMARY KEY,
  last bigint NOT NULL,
  size bigint NOT NULL,
  ended integer NOT NULL,
  open bytea NOT NULL,
  undone bytea NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE perdure.chunk (
  run_id text COLLATE "C" NOT NULL,
  first bigint NOT NULL,
  count integer NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (run_id, first)
);

-- Apps on other servers. What they did not say of themselves is empty; error is that of the last sync.
CREATE TABLE perdure.app (
  id text COLLATE "C" PRIMARY KEY,
  method text NOT NULL,
  url text NOT NULL,
  sdk text NOT NULL,
  framework text NOT NULL,
  version text NOT NULL,
  checksum text NOT NULL,
  sync_id text NOT NULL,
  created_at bigint NOT NULL,
  synced_at bigint NOT NULL,
  error text,
  message text
);

CREATE TABLE perdure.node (
  id text COLLATE "C" PRIMARY KEY,
  alive_until bigint NOT NULL
);

-- What this installation signs with.
CREATE TABLE perdure.secret (
  name text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL
);

CREATE TABLE perdure.blob (
  hash bytea PRIMARY KEY,
  data bytea NOT NULL
);

CREATE TABLE perdure.blob_use (
  owner text COLLATE "C" NOT NULL,
  hash bytea NOT NULL,
  PRIMARY KEY (owner, hash)
);
CREATE INDEX blob_use_by_hash ON perdure.blob_use (hash);

-- The connections that write: `seq` counts their transactions, so that one whose commit was not answered can be asked
-- for, and `fence` their lives, so that a transaction that is still under way somewhere then cannot take effect later.
CREATE TABLE perdure.writer (
  id text COLLATE "C" PRIMARY KEY,
  seq bigint NOT NULL,
  fence bigint NOT NULL,
  schema integer NOT NULL,
  at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One transaction after the other, over all nodes: a decision changes what it has seen. The statements that follow the
-- lock have snapshots of their own, taken after it. Who holds it and is paused, or cut off, loses its session.
CREATE FUNCTION perdure.lock_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('lock_timeout', '10s', true);
  PERFORM pg_advisory_xact_lock(1885696612);
END
$$;

-- Milliseconds since the epoch by the clock that all nodes share.
CREATE FUNCTION perdure.now_1() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;

-- Tells the other nodes, if there are any, what may concern them; they hear it once it is committed.
CREATE FUNCTION perdure.tell_1(p_news text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(*) FROM perdure.node) > 1 THEN
    PERFORM pg_notify('perdure', p_news);
  END IF;
END
$$;

-- A writer comes (back): how many of its transactions there were, and its new fence.
CREATE FUNCTION perdure.join_1(p_writer text, p_schema integer, OUT seq bigint, OUT fence bigint)
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM perdure.lock_1();
  INSERT INTO perdure.writer AS known VALUES (p_writer, 0, 1, p_schema, clock_timestamp())
  ON CONFLICT (id) DO UPDATE SET fence = known.fence + 1, at = excluded.at
  RETURNING known.seq, known.fence INTO seq, fence;
END
$$;

-- Begins the work of a transaction: the names that pauses wait for and the writer does not know yet.
CREATE FUNCTION perdure.enter_1(p_writer text, p_seq bigint, p_fence bigint, p_known bigint)
RETURNS TABLE (seq bigint, name text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM perdure.lock_1();
  UPDATE perdure.writer AS known SET seq = p_seq + 1, at = clock_timestamp()
  WHERE id = p_writer AND known.seq = p_seq AND fence = p_fence;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'perdure: the writer % was fenced off', p_writer USING ERRCODE = 'PD002';
  END IF;
  RETURN QUERY SELECT known.seq, known.name FROM perdure.pause_name AS known WHERE known.seq > p_known;
END
$$;

-- A transaction of nothing but the commonest writes, in one go: it holds no lock while messages travel. What was
-- decided rests on the leases, and on no other names being waited for; where that is not so, nothing is changed.
CREATE FUNCTION perdure.commit_plain_1(
  p_writer text, p_seq bigint, p_fence bigint, p_known bigint,
  e_internal_id text[], e_name text[], e_received_at bigint[], e_internal bigint[], e_body bytea[],
  r_id text[], r_function_id text[], r_function_version bigint[], r_app_id text[], r_event_id text[], r_batch_id text[],
  r_cron text[], r_original_run_id text[], r_parent text[], r_status bigint[], r_created_at bigint[],
  r_started_at bigint[], r_ended_at bigint[], r_output bytea[], r_request_version bigint[],
  j_id text[], j_kind text[], j_state bigint[], j_run_id text[], j_function_id text[], j_due_at bigint[],
  j_rank bigint[], j_node text[], j_token bigint[], j_attempt bigint[], j_woken bigint[], j_blocked_on text[],
  j_keys bytea[], j_data bytea[],
  s_run_id text[], s_id text[], s_name text[], s_seq bigint[], s_attempt bigint[], s_started_at bigint[],
  s_ended_at bigint[], s_data bytea[], s_opts bytea[], s_node text[], s_token bigint[],
  d_status bigint[], d_ended_at bigint[], d_output bytea[], d_id text[], d_node text[], d_token bigint[],
  x_id text[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
  changed bigint;
BEGIN
  PERFORM FROM perdure.enter_1(p_writer, p_seq, p_fence, p_known);
  IF FOUND THEN
    RAISE EXCEPTION 'perdure: other names are waited for' USING ERRCODE = 'PD001';
  END IF;
  IF cardinality(e_internal_id) > 0 THEN
    INSERT INTO perdure.event (internal_id, name, received_at, internal, body)
    SELECT * FROM unnest(e_internal_id, e_name, e_received_at, e_internal, e_body);
  END IF;
  IF cardinality(r_id) > 0 THEN
    INSERT INTO perdure.run (id, function_id, function_version, app_id, event_id, batch_id, cron, original_run_id,
      parent, status, created_at, started_at, ended_at, output, request_version)
    SELECT * FROM unnest(r_id, r_function_id, r_function_version, r_app_id, r_event_id, r_batch_id, r_cron,
      r_original_run_id, r_parent, r_status, r_created_at, r_started_at, r_ended_at, r_output, r_request_version);
  END IF;
  IF cardinality(j_id) > 0 THEN
    INSERT INTO perdure.job (id, kind, state, run_id, function_id, due_at, rank, node, token, attempt, woken,
      blocked_on, keys, data)
    SELECT * FROM unnest(j_id, j_kind, j_state, j_run_id, j_function_id, j_due_at, j_rank, j_node, j_token, j_attempt,
      j_woken, j_blocked_on, j_keys, j_data);
  END IF;
  IF cardinality(s_id) > 0 THEN
    INSERT INTO perdure.step (run_id, id, op, name, status, seq, attempt, queued_at, started_at, ended_at, data, opts)
    SELECT given.run_id, given.id, 'StepRun', given.name, 0, given.seq, given.attempt, given.started_at,
      given.started_at, given.ended_at, given.data, given.opts
    FROM unnest(s_run_id, s_id, s_name, s_seq, s_attempt, s_started_at, s_ended_at, s_data, s_opts, s_node, s_token)
      AS given (run_id, id, name, seq, attempt, started_at, ended_at, data, opts, node, token)
    JOIN perdure.job ON job.id = given.run_id AND job.node = given.node AND job.token = given.token
    ON CONFLICT (run_id, id) DO UPDATE SET
      status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
      ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, step.opts);
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(s_id) THEN
      RAISE EXCEPTION 'perdure: a lease was given up' USING ERRCODE = 'PD001';
    END IF;
  END IF;
  IF cardinality(d_id) > 0 THEN
    UPDATE perdure.run SET status = given.status, ended_at = given.ended_at, output = given.output
    FROM unnest(d_status, d_ended_at, d_output, d_id, d_node, d_token)
      AS given (status, ended_at, output, id, node, token)
    JOIN perdure.job ON job.id = given.id AND job.node = given.node AND job.token = given.token
    WHERE run.id = given.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(d_id) THEN
      RAISE EXCEPTION 'perdure: a lease was given up' USING ERRCODE = 'PD001';
    END IF;
    IF (SELECT count(*) FROM perdure.node) > 1 THEN
      PERFORM pg_notify('perdure', 'ended ' || ended) FROM unnest(d_id) AS ended;
    END IF;
  END IF;
  IF cardinality(x_id) > 0 THEN
    DELETE FROM perdure.job WHERE id = ANY (x_id);
  END IF;
END
$$;
