-- Every statement of the SQLite store. Mutations take the fields of the Struct of their name, in order;
-- reads answer columns in the order of their record. "payload" marks reads whose rows may refer to blobs.

-- :name put_event
INSERT INTO event VALUES (?, ?, ?, ?, ?)

-- :name put_run
INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name put_run_event
INSERT INTO run_event VALUES (?, ?, ?)

-- :name start_run
UPDATE run SET status = 1, started_at = ? WHERE id = ? AND started_at IS NULL

-- :name choose_version
UPDATE run SET request_version = ? WHERE id = ? AND request_version IS NULL

-- :name end_run
UPDATE run SET status = ?, ended_at = ?, output = ? WHERE id = ?

-- :name end_leased_run
UPDATE run SET status = given.status, ended_at = given.ended_at, output = given.output
FROM (
  WITH given (status, ended_at, output, id, node, token) AS (VALUES (?, ?, ?, ?, ?, ?))
  SELECT given.* FROM given CROSS JOIN job ON job.id = given.id AND job.node = given.node AND job.token = given.token
) AS given
WHERE run.id = given.id

-- :name put_step
INSERT INTO step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, id) DO UPDATE SET
  status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
  ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, opts)

-- :name record_step
INSERT INTO step
WITH given (run_id, id, name, seq, attempt, started_at, ended_at, data, opts, node, token) AS (
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
)
SELECT given.run_id, given.id, 'StepRun', name, 0, seq, given.attempt, started_at, started_at, ended_at,
  given.data, opts
FROM given CROSS JOIN job ON job.id = given.run_id AND job.node = given.node AND job.token = given.token
WHERE true
ON CONFLICT (run_id, id) DO UPDATE SET
  status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
  ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, opts)

-- :name decide_step
UPDATE step SET status = ?, ended_at = ?, data = ? WHERE run_id = ? AND id = ? AND status > 1

-- :name due_step
UPDATE step SET status = 4, attempt = ? WHERE run_id = ? AND id = ? AND status > 1

-- :name put_attempt
INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?)

-- :name put_job
INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name lease_job
UPDATE job SET state = 2, node = ?, token = ?, woken = 0, blocked_on = NULL WHERE id = ?

-- :name ready_job
UPDATE job SET state = 1, node = NULL, woken = 0, blocked_on = NULL WHERE id = ?

-- :name park_job
UPDATE job SET state = 4, node = NULL, blocked_on = NULL, attempt = 0 WHERE id = ?

-- :name block_job
UPDATE job SET state = 3, node = NULL, blocked_on = ? WHERE id = ?

-- :name wake_job
UPDATE job SET woken = 1 WHERE id = ?

-- :name clear_woken
UPDATE job SET woken = 0 WHERE id = ?

-- :name retry_job
UPDATE job SET state = 0, node = NULL, woken = 0, blocked_on = NULL, due_at = ?, attempt = ? WHERE id = ?

-- :name reset_attempt
UPDATE job SET attempt = 0 WHERE id = ? AND attempt > 0

-- :name delete_job
DELETE FROM job WHERE id = ?

-- :name delete_driver
DELETE FROM job WHERE id IN (VALUES (?))

-- :name delete_run_jobs
DELETE FROM job WHERE id >= ? AND id < ?

-- :name put_pause
INSERT OR REPLACE INTO pause VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name delete_pause
DELETE FROM pause WHERE id = ?

-- :name delete_run_pauses
DELETE FROM pause WHERE id >= ? AND id < ?

-- :name put_slot
INSERT OR IGNORE INTO slot VALUES (?, ?)

-- :name delete_slots
DELETE FROM slot WHERE key = ? AND owner >= ? AND owner < ?

-- :name delete_place
DELETE FROM slot WHERE key = ?1 AND owner = (
  SELECT owner FROM slot WHERE key = ?1 AND owner >= ?2 AND owner < ?3 ORDER BY owner LIMIT 1
)

-- :name put_bucket
INSERT OR REPLACE INTO bucket VALUES (?, ?, ?)

-- :name put_hit
INSERT INTO hit VALUES (?, ?, ?, ?)

-- :name put_idempotency
INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?)

-- :name put_batch_item
INSERT INTO batch_item (job_id, event_id, position, size) VALUES (?, ?, ?, ?)

-- :name delete_batch_items
DELETE FROM batch_item WHERE job_id = ?

-- :name put_function
INSERT OR REPLACE INTO function VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- :name unblock_function
UPDATE job SET state = 1, blocked_on = NULL WHERE state = 3 AND function_id = ? AND blocked_on <> '@defect'

-- :name put_app
INSERT OR REPLACE INTO app VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name delete_app
DELETE FROM app WHERE id = ?

-- :name put_environment
INSERT INTO environment VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET archived_at = excluded.archived_at

-- :name put_secret
INSERT INTO secret VALUES (?, ?) ON CONFLICT DO NOTHING

-- :name put_node
INSERT OR REPLACE INTO node VALUES (?1, ?2 + ?3)

-- :name delete_node
DELETE FROM node WHERE id = ?

-- :name release_leases
UPDATE job SET state = 1, node = NULL, woken = 0 WHERE state = 2 AND node = ?

-- :name release_dead_leases
UPDATE job SET state = 1, node = NULL, woken = 0
WHERE state = 2 AND node IS NOT NULL AND node NOT IN (SELECT id FROM node WHERE alive_until > ?)

-- :name delete_run
DELETE FROM run WHERE id = ?

-- :name delete_run_steps
DELETE FROM step WHERE run_id = ?

-- :name delete_run_attempts
DELETE FROM attempt WHERE run_id = ?

-- :name delete_run_events
DELETE FROM run_event WHERE run_id = ?

-- :name delete_event
DELETE FROM event WHERE internal_id = ?

-- :name delete_blob_uses
DELETE FROM blob_use WHERE owner = ?

-- :name delete_unused_blobs
DELETE FROM blob WHERE hash NOT IN (SELECT hash FROM blob_use)

-- :name delete_expired_idempotency
DELETE FROM idempotency WHERE expires_at <= ?

-- :name delete_expired_buckets
DELETE FROM bucket WHERE expires_at <= ?

-- :name delete_expired_hits
DELETE FROM hit WHERE expires_at <= ?

-- :name put_cancellation
INSERT OR REPLACE INTO cancellation VALUES (?, ?, ?, ?, ?, ?, ?)

-- :name delete_cancellation
DELETE FROM cancellation WHERE id = ?

-- :name put_replay
INSERT OR REPLACE INTO replay VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- :name put_run_metadata
INSERT OR REPLACE INTO run_metadata VALUES (?, ?, ?, ?, ?, ?)

-- :name delete_run_metadata
DELETE FROM run_metadata WHERE run_id = ?

-- :name put_stream
INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?)

-- :name put_chunk
INSERT INTO chunk VALUES (?, ?, ?, ?)

-- :name delete_run_stream
DELETE FROM stream WHERE run_id = ?

-- :name delete_run_chunks
DELETE FROM chunk WHERE run_id = ?

-- :name delete_old_cancellations
DELETE FROM cancellation WHERE created_at < ?

-- :name delete_old_replays
DELETE FROM replay WHERE created_at < ?

-- :name job_lease
SELECT node, token FROM job WHERE id = ?

-- :name job_by_id
SELECT * FROM job WHERE id = ?

-- :name due_jobs
SELECT * FROM job WHERE state = 0 AND due_at <= ? ORDER BY due_at LIMIT ?

-- :name next_due
SELECT due_at FROM job WHERE state = 0 ORDER BY due_at LIMIT 1

-- :name next_due_besides_cron
SELECT due_at FROM job WHERE state = 0 AND kind <> 'cron' ORDER BY due_at LIMIT 1

-- :name ready_jobs
SELECT * FROM job WHERE state = 1 ORDER BY rank, id LIMIT ?

-- :name blocked_jobs
SELECT id FROM job WHERE state = 3 AND blocked_on = ? ORDER BY rank, id LIMIT ?

-- :name jobs_of_run
SELECT * FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?

-- :name cron_jobs
SELECT * FROM job WHERE id >= 'cron:' || ?1 || ':' AND id < 'cron:' || ?1 || ';'

-- :name windows
SELECT * FROM job WHERE id >= 'batch:' || ?1 || ':' AND id < 'batch:' || ?1 || ';'
UNION ALL
SELECT * FROM job WHERE id >= 'debounce:' || ?1 || ':' AND id < 'debounce:' || ?1 || ';'

-- :name run_by_id payload
SELECT * FROM run WHERE id = ?

-- A run that has not ended has its driver job, so the jobs, which are few, say which runs are active.
-- :name active_runs payload
SELECT run.* FROM job CROSS JOIN run ON run.id = job.id
WHERE job.kind = 'run' AND job.function_id = ? AND job.id > ? ORDER BY job.id LIMIT ?

-- :name event_by_id payload
SELECT * FROM event WHERE internal_id = ?

-- :name batch_events payload
SELECT event.* FROM run_event JOIN event ON internal_id = event_id WHERE run_id = ? ORDER BY position

-- :name steps_of payload
SELECT * FROM step WHERE run_id = ? ORDER BY seq

-- :name step_by_id payload
SELECT * FROM step WHERE run_id = ? AND id = ?

-- :name defers_of payload
SELECT * FROM step WHERE run_id = ? AND id >= 'defer/' AND id < 'defer0'

-- :name attempts_of payload
SELECT * FROM attempt WHERE run_id = ? ORDER BY step_id, started_at, attempt

-- :name pause_paths
SELECT DISTINCT name, path FROM pause WHERE kind IN ('event', 'cancel') AND name IN (?, ?, ?)

-- :name pauses_unindexed
SELECT * FROM pause WHERE kind IN ('event', 'cancel') AND name = ? AND path IS NULL ORDER BY id

-- :name pauses_indexed
SELECT * FROM pause WHERE kind IN ('event', 'cancel') AND name = ? AND path = ? AND value = ? ORDER BY id

-- :name pause_by_id
SELECT * FROM pause WHERE id = ?

-- :name pauses_of_run
SELECT * FROM pause WHERE id >= ? AND id < ?

-- :name signal_pause
SELECT * FROM pause WHERE kind = 'signal' AND name = ?

-- Who has a slot keeps it when the limit is lowered: two runs that each waited for the other would wait for ever.
-- :name slots_taken
SELECT count(*) FROM slot WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM slot WHERE key = ?1 AND owner = ?2)

-- :name slot_owner
SELECT owner FROM slot WHERE key = ? LIMIT 1

-- :name bucket
SELECT arrival FROM bucket WHERE key = ?

-- :name hits_since
SELECT count(*) FROM hit WHERE key = ? AND at > ?

-- :name idempotent_event
SELECT event_id FROM idempotency WHERE key = ? AND expires_at > ?

-- :name batch_items
SELECT event_id, size FROM batch_item WHERE job_id = ? ORDER BY position

-- :name apps
SELECT * FROM app ORDER BY id

-- :name app_by_id
SELECT * FROM app WHERE id = ?

-- :name functions
SELECT * FROM function ORDER BY id

-- :name list_events payload
SELECT * FROM event
WHERE internal_id < ?1 AND internal <= ?2 AND (?3 IS NULL OR name = ?3)
  AND (?4 IS NULL OR received_at > ?4) AND (?5 IS NULL OR received_at < ?5)
ORDER BY internal_id DESC LIMIT ?6

-- :name list_runs payload
SELECT * FROM run
WHERE id < ?1 AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR function_id IN (SELECT value FROM json_each(?3)))
  AND (?4 IS NULL OR app_id IN (SELECT value FROM json_each(?4)))
  AND (?6 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?6)
  AND (?7 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?7)
  AND (?8 IS NULL OR ?8 = EXISTS (
    SELECT 1 FROM event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT ?9

-- The same for those that an index leads to: the runs of a function; those of a status that few runs end with
-- (`run_ended_badly`); those that have not ended, by their drivers.
-- :name list_runs_of_function payload
SELECT * FROM run
WHERE function_id = ?10 AND id < ?1 AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR function_id IN (SELECT value FROM json_each(?3)))
  AND (?4 IS NULL OR app_id IN (SELECT value FROM json_each(?4)))
  AND (?6 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?6)
  AND (?7 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?7)
  AND (?8 IS NULL OR ?8 = EXISTS (
    SELECT 1 FROM event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT ?9

-- :name list_runs_ended_badly payload
SELECT * FROM run
WHERE status = ?10 AND status >= 3 AND id < ?1 AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR function_id IN (SELECT value FROM json_each(?3)))
  AND (?4 IS NULL OR app_id IN (SELECT value FROM json_each(?4)))
  AND (?6 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?6)
  AND (?7 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?7)
  AND (?8 IS NULL OR ?8 = EXISTS (
    SELECT 1 FROM event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT ?9

-- :name list_open_runs payload
SELECT run.* FROM job CROSS JOIN run ON run.id = job.id
WHERE job.kind = 'run' AND job.id < ?1 AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR run.function_id IN (SELECT value FROM json_each(?3)))
  AND (?4 IS NULL OR app_id IN (SELECT value FROM json_each(?4)))
  AND (?6 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?6)
  AND (?7 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?7)
  AND (?8 IS NULL OR ?8 = EXISTS (
    SELECT 1 FROM event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY job.id DESC LIMIT ?9

-- :name list_runs_oldest_first payload
SELECT * FROM run
WHERE id > ?1 AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR function_id IN (SELECT value FROM json_each(?3)))
  AND (?4 IS NULL OR app_id IN (SELECT value FROM json_each(?4)))
  AND (?6 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?6)
  AND (?7 IS NULL OR CASE ?5 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?7)
  AND (?8 IS NULL OR ?8 = EXISTS (
    SELECT 1 FROM event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id LIMIT ?9

-- :name count_listed_runs
SELECT count(*) FROM (SELECT 1 FROM run
WHERE (?1 IS NULL OR status IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR function_id IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR app_id IN (SELECT value FROM json_each(?3)))
  AND (?5 IS NULL OR CASE ?4 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= ?5)
  AND (?6 IS NULL OR CASE ?4 WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= ?6)
LIMIT ?7)

-- :name count_listed_events
SELECT count(*) FROM (SELECT 1 FROM event
WHERE internal <= ?1 AND (?2 IS NULL OR name IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR received_at > ?3) AND (?4 IS NULL OR received_at < ?4)
LIMIT ?5)

-- :name invoked_run payload
SELECT * FROM run WHERE id > ?1 AND id < ?2 AND parent = ?3 LIMIT 1

-- :name runs_of_event payload
SELECT * FROM run WHERE event_id = ?1
UNION ALL
SELECT run.* FROM run_event JOIN run ON run.id = run_id WHERE run_event.event_id = ?1
ORDER BY 1

-- :name batch_event_ids
SELECT event_id FROM run_event WHERE run_id = ? ORDER BY position

-- :name expired_runs
SELECT id FROM run WHERE id > ? AND id < ? AND ended_at IS NOT NULL AND ended_at < ? AND status IN (SELECT value FROM json_each(?))
ORDER BY id LIMIT ?

-- :name expired_events
SELECT internal_id FROM event
WHERE internal_id > ? AND internal_id < ?
  AND NOT EXISTS (SELECT 1 FROM run WHERE run.event_id = internal_id)
  AND NOT EXISTS (SELECT 1 FROM run_event WHERE run_event.event_id = internal_id)
  AND NOT EXISTS (SELECT 1 FROM batch_item WHERE batch_item.event_id = internal_id)
  AND NOT EXISTS (
    SELECT 1 FROM job WHERE job.id >= 'debounce:' AND job.id < 'debounce;' AND job.data ->> 'event_id' = internal_id
  )
ORDER BY internal_id LIMIT ?

-- What the page shows of the flow control of a function, of its runs over time, and of the whole.
-- :name slots_between
SELECT key, owner FROM slot WHERE key >= ? AND key < ? ORDER BY key, owner LIMIT ?

-- :name blocked_counts
SELECT blocked_on, count(*) FROM job WHERE state = 3 AND function_id = ? GROUP BY blocked_on ORDER BY 2 DESC, 1 LIMIT ?

-- :name run_series_of_function
SELECT created_at / ?3, status, count(*), avg(started_at - created_at), avg(ended_at - started_at), max(ended_at - started_at)
FROM run WHERE function_id = ?1 AND id > ?2 GROUP BY 1, 2 ORDER BY 1, 2

-- :name run_series
SELECT created_at / ?2, status, count(*), avg(started_at - created_at), avg(ended_at - started_at), max(ended_at - started_at)
FROM run WHERE id > ?1 GROUP BY 1, 2 ORDER BY 1, 2

-- :name oldest_ready
SELECT min(due_at) FROM job WHERE state = 1

-- :name nodes
SELECT id, alive_until FROM node ORDER BY id LIMIT ?

-- :name store_size
SELECT page_count * page_size FROM pragma_page_count, pragma_page_size

-- :name count_runs
SELECT status, count(*) FROM run GROUP BY status

-- :name count_jobs
SELECT state, count(*) FROM job GROUP BY state

-- :name leases_by_node
SELECT node, count(*) FROM job WHERE state = 2 AND node IS NOT NULL GROUP BY node

-- :name queued_by_function
SELECT function_id, state, count(*), min(due_at) FROM job WHERE state = 1 AND kind = 'run' GROUP BY function_id, state
UNION ALL
SELECT function_id, state, count(*), min(due_at) FROM job WHERE state = 2 AND kind = 'run' GROUP BY function_id, state
UNION ALL
SELECT function_id, state, count(*), min(due_at) FROM job WHERE state = 3 AND kind = 'run' GROUP BY function_id, state

-- :name orphan_runs
SELECT run.id, run.function_id FROM run
LEFT JOIN job ON job.id = run.id
WHERE run.status < 2 AND (job.id IS NULL OR (job.state = 4
  AND NOT EXISTS (SELECT 1 FROM pause WHERE pause.id >= run.id AND pause.id < run.id || '/' AND pause.kind <> 'cancel')
  AND NOT EXISTS (SELECT 1 FROM job t WHERE t.id > run.id AND t.id < run.id || '/' AND t.kind IN ('sleep', 'timeout', 'retry'))))
LIMIT ?

-- :name leaked_slots
SELECT key, owner FROM slot WHERE substr(owner, 1, 26) NOT IN (SELECT id FROM job) LIMIT ?

-- :name unregistered_runs
SELECT function_id, count(*) FROM run
WHERE status < 2 AND function_id NOT IN (SELECT id FROM function WHERE archived_at IS NULL) GROUP BY function_id

-- :name cancellations
SELECT * FROM cancellation WHERE id < ? ORDER BY id DESC LIMIT ?

-- :name cancellation_by_id
SELECT * FROM cancellation WHERE id = ?

-- :name replay_by_id
SELECT * FROM replay WHERE id = ?

-- :name metadata_of_run
SELECT * FROM run_metadata WHERE run_id = ? ORDER BY target, scope, kind

-- :name environments
SELECT * FROM environment ORDER BY name

-- :name secret
SELECT * FROM secret WHERE name = ?

-- :name run_status
SELECT status FROM run WHERE id = ?

-- :name stream_by_run
SELECT * FROM stream WHERE run_id = ?

-- :name chunks_after
SELECT first, count, body FROM chunk
WHERE run_id = ?1 AND first >= coalesce((SELECT max(first) FROM chunk WHERE run_id = ?1 AND first <= ?2), 0)
ORDER BY first LIMIT ?3
