-- The branch environments beside this one; what they hold is in databases of their own.
CREATE TABLE perdure.environment (
  name text COLLATE "C" PRIMARY KEY,
  created_at bigint NOT NULL,
  archived_at bigint
);
