-- Agents whose configuration is data, its versions, and which models answer for an agent instead of its own.
CREATE TABLE perdure.stored_agent (
  id text COLLATE "C" PRIMARY KEY,
  app_id text COLLATE "C" NOT NULL,
  status text COLLATE "C" NOT NULL,
  active_version_id text COLLATE "C",
  author_id text COLLATE "C",
  visibility text COLLATE "C" NOT NULL,
  metadata text COLLATE "C",
  last_number bigint NOT NULL,
  created_at bigint NOT NULL,
  updated_at bigint NOT NULL
);

CREATE TABLE perdure.agent_version (
  id text COLLATE "C" PRIMARY KEY,
  agent_id text COLLATE "C" NOT NULL,
  number bigint NOT NULL,
  config bytea NOT NULL,
  changed text COLLATE "C" NOT NULL,
  message text COLLATE "C",
  created_at bigint NOT NULL
);
CREATE UNIQUE INDEX agent_version_by_number ON perdure.agent_version (agent_id, number);

CREATE TABLE perdure.agent_model (
  agent_id text COLLATE "C" PRIMARY KEY,
  choice bytea NOT NULL,
  updated_at bigint NOT NULL
);
