-- What agents keep: conversations, runs as their callers know them, questions to people, signals, background tasks.
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
