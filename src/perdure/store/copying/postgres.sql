-- :name settings
SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '0', true),
  set_config('idle_in_transaction_session_timeout', '0', true)

-- Every transaction of perdure changes its writer's row, so none goes on beside a copy.
-- :name hold
LOCK TABLE perdure.writer IN SHARE MODE

-- :name columns
SELECT pg_class.relname, pg_attribute.attname, coalesce(array_position(pg_index.indkey::int2[], attnum), -1)
FROM pg_class
JOIN pg_attribute ON pg_attribute.attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_index ON pg_index.indrelid = pg_class.oid AND pg_index.indisprimary
WHERE relnamespace = 'perdure'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
ORDER BY pg_class.relname, attname COLLATE "C"

-- :name put_pause_names
INSERT INTO perdure.pause_name (name)
SELECT DISTINCT name FROM perdure.pause WHERE kind IN ('event', 'cancel')
ON CONFLICT DO NOTHING
