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
