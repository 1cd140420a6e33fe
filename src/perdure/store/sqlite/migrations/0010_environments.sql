-- The branch environments beside this one; what they hold is in databases of their own.
CREATE TABLE environment (
  name TEXT PRIMARY KEY,
  created_at INTEGER NOT NULL,
  archived_at INTEGER
) STRICT, WITHOUT ROWID;
