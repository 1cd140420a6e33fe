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
