-- What agents keep: conversations, runs as their callers know them, questions to people, signals, background tasks.
CREATE TABLE perdure.thread (
  id text COLLATE "C" PRIMARY KEY,
  resource_id text COLLATE "C" NOT NULL,
  title text COLLATE "C" NOT NULL,
  metadata text COLLATE "C",
  working_memory text COLLATE "C",
  last_seq bigint NOT NULL,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL
);
CREATE INDEX thread_by_resource ON perdure.thread (resource_id, updated_at);

CREATE TABLE perdure.message (
  id text COLLATE "C" PRIMARY KEY,
  thread_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  role text COLLATE "C" NOT NULL,
  type text COLLATE "C",
  created_at bigint NOT NULL,
  body bytea NOT NULL
);
CREATE UNIQUE INDEX message_by_place ON perdure.message (thread_id, seq);

CREATE TABLE perdure.resource (
  id text COLLATE "C" PRIMARY KEY,
  working_memory text COLLATE "C",
  metadata text COLLATE "C",
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL
);

-- The vectors of messages, piece by piece: float32 values of length 1.
CREATE TABLE perdure.embedding (
  message_id text COLLATE "C" NOT NULL,
  position integer NOT NULL,
  thread_id text COLLATE "C" NOT NULL,
  resource_id text COLLATE "C" NOT NULL,
  space text COLLATE "C" NOT NULL,
  vector bytea NOT NULL,
  PRIMARY KEY (message_id, position)
);
CREATE INDEX embedding_by_thread ON perdure.embedding (thread_id);
CREATE INDEX embedding_by_resource ON perdure.embedding (resource_id);

CREATE TABLE perdure.agent_run (
  run_id text COLLATE "C" PRIMARY KEY,
  engine_run_id text COLLATE "C",
  agent_id text COLLATE "C" NOT NULL,
  agent_version text COLLATE "C" NOT NULL,
  input_hash text COLLATE "C" NOT NULL,
  thread_id text COLLATE "C",
  resource_id text COLLATE "C",
  parent_run_id text COLLATE "C",
  status text COLLATE "C" NOT NULL,
  finish_reason text COLLATE "C",
  inbox_closed integer NOT NULL,
  detail bytea NOT NULL,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL,
  ended_at bigint,
  expires_at bigint
);
CREATE INDEX agent_run_by_engine ON perdure.agent_run (engine_run_id);
CREATE INDEX agent_run_by_thread ON perdure.agent_run (thread_id, created_at);
CREATE INDEX agent_run_active ON perdure.agent_run (status, created_at) WHERE status IN ('running', 'suspended');
CREATE INDEX agent_run_expired ON perdure.agent_run (expires_at) WHERE expires_at IS NOT NULL;

-- What people are asked, and what they decided.
CREATE TABLE perdure.approval (
  run_id text COLLATE "C" NOT NULL,
  tool_call_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  agent_version text COLLATE "C" NOT NULL,
  thread_id text COLLATE "C",
  resource_id text COLLATE "C",
  kind text COLLATE "C" NOT NULL,
  tool_name text COLLATE "C" NOT NULL,
  args bytea NOT NULL,
  args_hash text COLLATE "C" NOT NULL,
  payload bytea,
  resume_schema bytea,
  status text COLLATE "C" NOT NULL,
  asked_at bigint NOT NULL,
  expires_at bigint,
  decided_at bigint,
  decided_by text COLLATE "C",
  decision bytea,
  PRIMARY KEY (run_id, tool_call_id)
);
CREATE INDEX approval_pending ON perdure.approval (asked_at) WHERE status = 'pending';

-- Signals: queued for a run, claimed by one of its steps, or persisted in a thread while no run was active there.
CREATE TABLE perdure.inbox (
  seq bigint PRIMARY KEY,
  id text COLLATE "C" NOT NULL,
  run_id text COLLATE "C" NOT NULL,
  thread_id text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  step_id text COLLATE "C",
  body bytea NOT NULL,
  created_at bigint NOT NULL
);
CREATE UNIQUE INDEX inbox_by_id ON perdure.inbox (run_id, id);
CREATE INDEX inbox_by_thread ON perdure.inbox (thread_id, seq);
CREATE INDEX inbox_queued ON perdure.inbox (run_id, seq) WHERE state = 'queued';

-- How often steps were begun that must not be done twice.
CREATE TABLE perdure.begun (
  run_id text COLLATE "C" NOT NULL,
  step_id text COLLATE "C" NOT NULL,
  times integer NOT NULL,
  PRIMARY KEY (run_id, step_id)
);

-- Calls of tools that go on beside their runs.
CREATE TABLE perdure.task (
  id text COLLATE "C" PRIMARY KEY,
  run_id text COLLATE "C" NOT NULL,
  agent_id text COLLATE "C" NOT NULL,
  thread_id text COLLATE "C",
  resource_id text COLLATE "C",
  tool_name text COLLATE "C" NOT NULL,
  tool_call_id text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL,
  args bytea NOT NULL,
  outcome bytea,
  retry_count integer NOT NULL,
  max_retries integer NOT NULL,
  timeout_ms bigint NOT NULL,
  created_at bigint NOT NULL,
  started_at bigint,
  suspended_at bigint,
  completed_at bigint
);
CREATE INDEX task_by_run ON perdure.task (run_id);
