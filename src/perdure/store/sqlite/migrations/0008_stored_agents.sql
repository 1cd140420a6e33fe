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
