-- What operators ordered in bulk, and what programs noted about their runs.

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
