-- Times are milliseconds since the epoch. Payload columns hold JSON, or a reference to a blob (see blobs.py).

CREATE TABLE event (
  internal_id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  received_at INTEGER NOT NULL,
  internal INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX event_by_name ON event (name, internal_id);

CREATE TABLE run (
  id TEXT PRIMARY KEY,
  function_id TEXT NOT NULL,
  function_version INTEGER NOT NULL,
  app_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  batch_id TEXT,
  cron TEXT,
  original_run_id TEXT,
  parent TEXT,
  status INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  ended_at INTEGER,
  output BLOB,
  request_version INTEGER
) STRICT;
CREATE INDEX run_by_event ON run (event_id);
CREATE INDEX run_by_function ON run (function_id, id);
-- Few runs end so, and a list of them must not walk over all others.
CREATE INDEX run_ended_badly ON run (status, id) WHERE status >= 3;

-- The events of a batch run after its first.
CREATE TABLE run_event (
  run_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_event_by_event ON run_event (event_id);

CREATE TABLE step (
  run_id TEXT NOT NULL,
  id TEXT NOT NULL,
  op TEXT NOT NULL,
  name TEXT NOT NULL,
  status INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  queued_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  data BLOB,
  opts BLOB,
  PRIMARY KEY (run_id, id)
) STRICT, WITHOUT ROWID;

-- Failed attempts of steps, and of handlers (step_id empty), whose count begins anew when the run gets on.
CREATE TABLE attempt (
  run_id TEXT NOT NULL,
  step_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  error BLOB NOT NULL,
  PRIMARY KEY (run_id, step_id, started_at, attempt)
) STRICT, WITHOUT ROWID;

-- state: 0 scheduled, 1 ready, 2 leased, 3 blocked, 4 parked.
CREATE TABLE job (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  state INTEGER NOT NULL,
  run_id TEXT,
  function_id TEXT,
  due_at INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  node TEXT,
  token INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  woken INTEGER NOT NULL,
  blocked_on TEXT,
  keys BLOB,
  data BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX job_due ON job (due_at) WHERE state = 0;
CREATE INDEX job_ready ON job (rank, id) WHERE state = 1;
CREATE INDEX job_blocked ON job (blocked_on, rank, id) WHERE state = 3;

CREATE TABLE pause (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL,
  step_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  path TEXT,
  value TEXT,
  expression TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX pause_by_match ON pause (name, path, value) WHERE kind IN ('event', 'cancel');
CREATE INDEX pause_by_signal ON pause (name) WHERE kind = 'signal';

CREATE TABLE slot (
  key TEXT NOT NULL,
  owner TEXT NOT NULL,
  PRIMARY KEY (key, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE bucket (
  key TEXT PRIMARY KEY,
  arrival REAL NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE hit (
  key TEXT NOT NULL,
  at INTEGER NOT NULL,
  id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (key, at, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
  key TEXT PRIMARY KEY,
  event_id TEXT NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE batch_item (
  job_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY (job_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE function (
  id TEXT PRIMARY KEY,
  app_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  config BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  archived_at INTEGER,
  paused_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE cancellation (
  id TEXT PRIMARY KEY,
  function_id TEXT NOT NULL,
  started_after INTEGER,
  started_before INTEGER NOT NULL,
  condition TEXT,
  created_at INTEGER NOT NULL,
  cancelled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE replay (
  id TEXT PRIMARY KEY,
  function_id TEXT NOT NULL,
  statuses TEXT NOT NULL,
  queued_from INTEGER,
  queued_until INTEGER,
  bound TEXT NOT NULL,
  cursor TEXT NOT NULL,
  started INTEGER NOT NULL,
  skipped INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT, WITHOUT ROWID;

-- The target is a step's hash, a span's id, or empty for the run.
CREATE TABLE run_metadata (
  run_id TEXT NOT NULL,
  target TEXT NOT NULL,
  scope TEXT NOT NULL,
  kind TEXT NOT NULL,
  entries BLOB NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (run_id, target, scope, kind)
) STRICT, WITHOUT ROWID;

-- What runs say while they go on: where each log stands (open and undone as JSON), and its events in batches.
CREATE TABLE stream (
  run_id TEXT PRIMARY KEY,
  last INTEGER NOT NULL,
  size INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  open BLOB NOT NULL,
  undone BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE chunk (
  run_id TEXT NOT NULL,
  first INTEGER NOT NULL,
  count INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (run_id, first)
) STRICT;

-- Apps on other servers. What they did not say of themselves is empty; error is that of the last sync.
CREATE TABLE app (
  id TEXT PRIMARY KEY,
  method TEXT NOT NULL,
  url TEXT NOT NULL,
  sdk TEXT NOT NULL,
  framework TEXT NOT NULL,
  version TEXT NOT NULL,
  checksum TEXT NOT NULL,
  sync_id TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  synced_at INTEGER NOT NULL,
  error TEXT,
  message TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE node (
  id TEXT PRIMARY KEY,
  alive_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What this installation signs with.
CREATE TABLE secret (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blob (
  hash BLOB PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE blob_use (
  owner TEXT NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (owner, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_use_by_hash ON blob_use (hash);

-- What agents keep (see engine.agents.records): conversations, runs as their callers know them, questions to people,
-- signals, background tasks.
CREATE TABLE thread (
  id TEXT PRIMARY KEY,
  resource_id TEXT NOT NULL,
  title TEXT NOT NULL,
  metadata TEXT,
  working_memory TEXT,
  last_seq INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_by_resource ON thread (resource_id, updated_at);

CREATE TABLE message (
  id TEXT PRIMARY KEY,
  thread_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  seq INTEGER NOT NULL,
  role TEXT NOT NULL,
  type TEXT,
  created_at INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX message_by_place ON message (thread_id, seq);

CREATE TABLE resource (
  id TEXT PRIMARY KEY,
  working_memory TEXT,
  metadata TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The vectors of messages, piece by piece: float32 values of length 1.
CREATE TABLE embedding (
  message_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  thread_id TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  space TEXT NOT NULL,
  vector BLOB NOT NULL,
  PRIMARY KEY (message_id, position)
) STRICT;
CREATE INDEX embedding_by_thread ON embedding (thread_id);
CREATE INDEX embedding_by_resource ON embedding (resource_id);

CREATE TABLE agent_run (
  run_id TEXT PRIMARY KEY,
  engine_run_id TEXT,
  agent_id TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  input_hash TEXT NOT NULL,
  thread_id TEXT,
  resource_id TEXT,
  parent_run_id TEXT,
  status TEXT NOT NULL,
  finish_reason TEXT,
  inbox_closed INTEGER NOT NULL,
  detail BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER,
  expires_at INTEGER
) STRICT;
CREATE INDEX agent_run_by_engine ON agent_run (engine_run_id);
CREATE INDEX agent_run_by_parent ON agent_run (parent_run_id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX agent_run_by_thread ON agent_run (thread_id, created_at);
CREATE INDEX agent_run_active ON agent_run (status, created_at) WHERE status IN ('running', 'suspended');
CREATE INDEX agent_run_expired ON agent_run (expires_at) WHERE expires_at IS NOT NULL;

-- What people are asked, and what they decided.
CREATE TABLE approval (
  run_id TEXT NOT NULL,
  tool_call_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  agent_version TEXT NOT NULL,
  thread_id TEXT,
  resource_id TEXT,
  kind TEXT NOT NULL,
  tool_name TEXT NOT NULL,
  args BLOB NOT NULL,
  args_hash TEXT NOT NULL,
  payload BLOB,
  resume_schema BLOB,
  status TEXT NOT NULL,
  asked_at INTEGER NOT NULL,
  expires_at INTEGER,
  decided_at INTEGER,
  decided_by TEXT,
  decision BLOB,
  PRIMARY KEY (run_id, tool_call_id)
) STRICT;
CREATE INDEX approval_pending ON approval (asked_at) WHERE status = 'pending';

-- Signals: queued for a run, claimed by one of its steps, or persisted in a thread while no run was active there.
CREATE TABLE inbox (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  thread_id TEXT NOT NULL,
  state TEXT NOT NULL,
  step_id TEXT,
  body BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbox_by_id ON inbox (run_id, id);
CREATE INDEX inbox_by_thread ON inbox (thread_id, seq);
CREATE INDEX inbox_queued ON inbox (run_id, seq) WHERE state = 'queued';

-- How often steps were begun that must not be done twice.
CREATE TABLE begun (
  run_id TEXT NOT NULL,
  step_id TEXT NOT NULL,
  times INTEGER NOT NULL,
  PRIMARY KEY (run_id, step_id)
) STRICT, WITHOUT ROWID;

-- Calls of tools that go on beside their runs.
CREATE TABLE task (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  thread_id TEXT,
  resource_id TEXT,
  tool_name TEXT NOT NULL,
  tool_call_id TEXT NOT NULL,
  status TEXT NOT NULL,
  args BLOB NOT NULL,
  outcome BLOB,
  retry_count INTEGER NOT NULL,
  max_retries INTEGER NOT NULL,
  timeout_ms INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  suspended_at INTEGER,
  completed_at INTEGER
) STRICT;
CREATE INDEX task_by_run ON task (run_id);

-- Agents whose configuration is data, its versions, and which models answer for an agent instead of its own.
CREATE TABLE stored_agent (
  id TEXT PRIMARY KEY,
  app_id TEXT NOT NULL,
  status TEXT NOT NULL,
  active_version_id TEXT,
  author_id TEXT,
  visibility TEXT NOT NULL,
  metadata TEXT,
  last_number INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_version (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  config BLOB NOT NULL,
  changed TEXT NOT NULL,
  message TEXT,
  created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX agent_version_by_number ON agent_version (agent_id, number);

CREATE TABLE agent_model (
  agent_id TEXT PRIMARY KEY,
  choice BLOB NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

-- The branch environments beside this one; what they hold is in databases of their own.
CREATE TABLE environment (
  name TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL,
  archived_at INTEGER
) STRICT, WITHOUT ROWID;
