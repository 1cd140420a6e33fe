-- Every statement of the PostgreSQL store. Mutations take arrays, one for each field of the Struct of their name, in
-- order: ":given" are their rows (as "given"), ":fields" the names of the fields, ":replace" sets the fields that are
-- not in "by". Reads answer columns in the order of their record: ":columns(run)" are those of a table.
-- "payload" marks reads whose rows may refer to blobs; "by" says what tells the rows of a mutation apart: two that
-- differ in it may be one statement.

-- :name put_event by internal_id
INSERT INTO perdure.event (:fields) SELECT :fields FROM :given

-- :name put_run by id
INSERT INTO perdure.run (:fields) SELECT :fields FROM :given

-- :name put_run_event by run_id position
INSERT INTO perdure.run_event (:fields) SELECT :fields FROM :given

-- :name start_run by id
UPDATE perdure.run SET status = 1, started_at = given.started_at FROM :given
WHERE run.id = given.id AND run.started_at IS NULL

-- :name choose_version by id
UPDATE perdure.run SET request_version = given.request_version FROM :given
WHERE run.id = given.id AND run.request_version IS NULL

-- :name end_run by id
UPDATE perdure.run SET status = given.status, ended_at = given.ended_at, output = given.output FROM :given
WHERE run.id = given.id
RETURNING perdure.tell_2('ended ' || run.id)

-- :name end_leased_run by id
UPDATE perdure.run SET status = given.status, ended_at = given.ended_at, output = given.output
FROM :given
JOIN perdure.job ON job.id = given.id AND job.node = given.node AND job.token = given.token
WHERE run.id = given.id
RETURNING run.id, perdure.tell_2('ended ' || run.id)

-- :name put_step by run_id id
INSERT INTO perdure.step (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id, id) DO UPDATE SET
  status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
  ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, step.opts)

-- :name record_step by run_id id
INSERT INTO perdure.step (run_id, id, op, name, status, seq, attempt, queued_at, started_at, ended_at, data, opts)
SELECT given.run_id, given.id, 'StepRun', given.name, 0, given.seq, given.attempt, given.started_at,
  given.started_at, given.ended_at, given.data, given.opts
FROM :given
JOIN perdure.job ON job.id = given.run_id AND job.node = given.node AND job.token = given.token
ON CONFLICT (run_id, id) DO UPDATE SET
  status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
  ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, step.opts)
RETURNING run_id, id

-- :name decide_step by run_id id
UPDATE perdure.step SET status = given.status, ended_at = given.ended_at, data = given.data FROM :given
WHERE step.run_id = given.run_id AND step.id = given.id AND step.status > 1

-- :name due_step by run_id id
UPDATE perdure.step SET status = 4, attempt = given.attempt FROM :given
WHERE step.run_id = given.run_id AND step.id = given.id AND step.status > 1

-- :name put_attempt by run_id step_id started_at attempt
INSERT INTO perdure.attempt (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id, step_id, started_at, attempt) DO UPDATE SET :replace

-- :name put_job by id
INSERT INTO perdure.job (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace

-- :name lease_job by id
UPDATE perdure.job SET state = 2, node = given.node, token = given.token, woken = 0, blocked_on = NULL FROM :given
WHERE job.id = given.id

-- :name ready_job by id
UPDATE perdure.job SET state = 1, node = NULL, woken = 0, blocked_on = NULL FROM :given WHERE job.id = given.id
RETURNING perdure.tell_2('ready')

-- :name park_job by id
UPDATE perdure.job SET state = 4, node = NULL, blocked_on = NULL, attempt = 0 FROM :given WHERE job.id = given.id

-- :name block_job by id
UPDATE perdure.job SET state = 3, node = NULL, blocked_on = given.blocked_on FROM :given WHERE job.id = given.id
RETURNING CASE WHEN job.blocked_on LIKE '@function:%' THEN perdure.tell_2('blocked ' || job.blocked_on) END

-- :name wake_job by id
UPDATE perdure.job SET woken = 1 FROM :given WHERE job.id = given.id
RETURNING perdure.tell_2('woken ' || job.node || ' ' || job.id)

-- :name clear_woken by id
UPDATE perdure.job SET woken = 0 FROM :given WHERE job.id = given.id

-- :name retry_job by id
UPDATE perdure.job SET
  state = 0, node = NULL, woken = 0, blocked_on = NULL, due_at = given.due_at, attempt = given.attempt
FROM :given WHERE job.id = given.id

-- :name reset_attempt by id
UPDATE perdure.job SET attempt = 0 FROM :given WHERE job.id = given.id AND job.attempt > 0

-- :name delete_job by id
DELETE FROM perdure.job USING :given WHERE job.id = given.id

-- :name delete_driver by id
DELETE FROM perdure.job USING :given WHERE job.id = given.id

-- :name delete_run_jobs by first
DELETE FROM perdure.job USING :given WHERE job.id >= given.first AND job.id < given.last

-- :name put_pause by id
WITH named AS (
  INSERT INTO perdure.pause_name (name)
  SELECT DISTINCT name FROM :given WHERE kind IN ('event', 'cancel')
  ON CONFLICT DO NOTHING
)
INSERT INTO perdure.pause (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace

-- :name delete_pause by id
DELETE FROM perdure.pause USING :given WHERE pause.id = given.id

-- :name delete_run_pauses by first
DELETE FROM perdure.pause USING :given WHERE pause.id >= given.first AND pause.id < given.last

-- :name put_slot by key owner
INSERT INTO perdure.slot (:fields) SELECT :fields FROM :given ON CONFLICT DO NOTHING

-- :name delete_slots by key first
DELETE FROM perdure.slot USING :given
WHERE slot.key = given.key AND slot.owner >= given.first AND slot.owner < given.last

-- :name delete_place by key first
DELETE FROM perdure.slot USING (
  SELECT given.key, (
    SELECT owner FROM perdure.slot
    WHERE slot.key = given.key AND slot.owner >= given.first AND slot.owner < given.last ORDER BY owner LIMIT 1
  ) AS owner FROM :given
) AS found
WHERE slot.key = found.key AND slot.owner = found.owner

-- :name put_bucket by key
INSERT INTO perdure.bucket (:fields) SELECT :fields FROM :given
ON CONFLICT (key) DO UPDATE SET :replace

-- :name put_hit by key at id
INSERT INTO perdure.hit (:fields) SELECT :fields FROM :given

-- :name put_idempotency by key
INSERT INTO perdure.idempotency (:fields) SELECT :fields FROM :given
ON CONFLICT (key) DO UPDATE SET :replace

-- :name put_batch_item by job_id position
INSERT INTO perdure.batch_item (:fields) SELECT :fields FROM :given

-- :name delete_batch_items by job_id
DELETE FROM perdure.batch_item USING :given WHERE batch_item.job_id = given.job_id

-- :name put_function by id
INSERT INTO perdure.function (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace
RETURNING perdure.tell_2('apps')

-- :name unblock_function by function_id
UPDATE perdure.job SET state = 1, blocked_on = NULL FROM :given
WHERE job.state = 3 AND job.function_id = given.function_id AND job.blocked_on <> '@defect'
RETURNING perdure.tell_2('ready')

-- :name put_app by id
INSERT INTO perdure.app (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace
RETURNING perdure.tell_2('apps')

-- :name delete_app by id
DELETE FROM perdure.app USING :given WHERE app.id = given.id
RETURNING perdure.tell_2('apps')

-- :name put_environment by name
INSERT INTO perdure.environment (:fields) SELECT :fields FROM :given
ON CONFLICT (name) DO UPDATE SET archived_at = excluded.archived_at

-- :name put_secret by name
INSERT INTO perdure.secret (:fields) SELECT :fields FROM :given ON CONFLICT DO NOTHING

-- The server's clock counts, for those of nodes may differ.
-- :name put_node by id
INSERT INTO perdure.node (id, alive_until) SELECT given.id, perdure.now_1() + given.lifetime FROM :given
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until

-- :name delete_node by id
DELETE FROM perdure.node USING :given WHERE node.id = given.id

-- :name release_leases by node
UPDATE perdure.job SET state = 1, node = NULL, woken = 0 FROM :given WHERE job.state = 2 AND job.node = given.node
RETURNING perdure.tell_2('ready')

-- :name release_dead_leases by now
UPDATE perdure.job SET state = 1, node = NULL, woken = 0 FROM :given
WHERE given.now IS NOT NULL AND job.state = 2 AND job.node IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM perdure.node WHERE node.id = job.node AND node.alive_until > perdure.now_1())
RETURNING perdure.tell_2('ready')

-- :name delete_run by id
DELETE FROM perdure.run USING :given WHERE run.id = given.id

-- :name delete_run_steps by run_id
DELETE FROM perdure.step USING :given WHERE step.run_id = given.run_id

-- :name delete_run_attempts by run_id
DELETE FROM perdure.attempt USING :given WHERE attempt.run_id = given.run_id

-- :name delete_run_events by run_id
DELETE FROM perdure.run_event USING :given WHERE run_event.run_id = given.run_id

-- :name delete_event by internal_id
DELETE FROM perdure.event USING :given WHERE event.internal_id = given.internal_id

-- :name delete_blob_uses by owner
DELETE FROM perdure.blob_use USING :given WHERE blob_use.owner = given.owner

-- :name delete_unused_blobs
DELETE FROM perdure.blob WHERE NOT EXISTS (SELECT 1 FROM perdure.blob_use WHERE blob_use.hash = blob.hash)

-- :name delete_expired_idempotency by now
DELETE FROM perdure.idempotency USING :given WHERE expires_at <= given.now

-- :name delete_expired_buckets by now
DELETE FROM perdure.bucket USING :given WHERE expires_at <= given.now

-- :name delete_expired_hits by now
DELETE FROM perdure.hit USING :given WHERE expires_at <= given.now

-- :name put_cancellation by id
INSERT INTO perdure.cancellation (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace

-- :name delete_cancellation by id
DELETE FROM perdure.cancellation USING :given WHERE cancellation.id = given.id

-- :name put_replay by id
INSERT INTO perdure.replay (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET :replace

-- :name put_run_metadata by run_id target scope kind
INSERT INTO perdure.run_metadata (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id, target, scope, kind) DO UPDATE SET :replace

-- :name delete_run_metadata by run_id
DELETE FROM perdure.run_metadata USING :given WHERE run_metadata.run_id = given.run_id

-- :name put_stream by run_id
INSERT INTO perdure.stream (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id) DO UPDATE SET :replace
RETURNING perdure.tell_2('stream ' || stream.run_id)

-- :name put_chunk by run_id first
INSERT INTO perdure.chunk (:fields) SELECT :fields FROM :given

-- :name delete_run_stream by run_id
DELETE FROM perdure.stream USING :given WHERE stream.run_id = given.run_id

-- :name delete_run_chunks by run_id
DELETE FROM perdure.chunk USING :given WHERE chunk.run_id = given.run_id

-- :name delete_old_cancellations by before
DELETE FROM perdure.cancellation USING :given WHERE created_at < given.before

-- :name delete_old_replays by before
DELETE FROM perdure.replay USING :given WHERE created_at < given.before

-- :name job_lease
SELECT node, token FROM perdure.job WHERE id = $1

-- :name job_by_id
SELECT :columns(job) FROM perdure.job WHERE id = $1

-- :name due_jobs
SELECT :columns(job) FROM perdure.job WHERE state = 0 AND due_at <= $1 ORDER BY due_at LIMIT $2

-- :name next_due
SELECT due_at FROM perdure.job WHERE state = 0 ORDER BY due_at LIMIT 1

-- :name next_due_besides_cron
SELECT due_at FROM perdure.job WHERE state = 0 AND kind <> 'cron' ORDER BY due_at LIMIT 1

-- :name ready_jobs
SELECT :columns(job) FROM perdure.job WHERE state = 1 ORDER BY rank, id LIMIT $1

-- No limit is told by a negative one.
-- :name blocked_jobs
SELECT id FROM perdure.job WHERE state = 3 AND blocked_on = $1 ORDER BY rank, id
LIMIT CASE WHEN $2::bigint >= 0 THEN $2::bigint END

-- :name jobs_of_run
SELECT :columns(job) FROM perdure.job WHERE id >= $1 AND id < $2
ORDER BY id LIMIT CASE WHEN $3::bigint >= 0 THEN $3::bigint END

-- :name cron_jobs
SELECT :columns(job) FROM perdure.job WHERE id >= 'cron:' || $1::text || ':' AND id < 'cron:' || $1::text || ';'
ORDER BY id

-- :name windows
SELECT :columns(job) FROM perdure.job WHERE id >= 'batch:' || $1::text || ':' AND id < 'batch:' || $1::text || ';'
UNION ALL
SELECT :columns(job) FROM perdure.job
WHERE id >= 'debounce:' || $1::text || ':' AND id < 'debounce:' || $1::text || ';'
ORDER BY 1

-- :name run_by_id payload
SELECT :columns(run) FROM perdure.run WHERE id = $1

-- A run that has not ended has its driver job, so the jobs, which are few, say which runs are active.
-- :name active_runs payload
SELECT :columns(run) FROM perdure.job JOIN perdure.run ON run.id = job.id
WHERE job.kind = 'run' AND job.function_id = $1 AND job.id > $2 ORDER BY job.id LIMIT $3

-- :name event_by_id payload
SELECT :columns(event) FROM perdure.event WHERE internal_id = $1

-- :name batch_events payload
SELECT :columns(event) FROM perdure.run_event JOIN perdure.event ON internal_id = event_id
WHERE run_id = $1 ORDER BY position

-- :name steps_of payload
SELECT :columns(step) FROM perdure.step WHERE run_id = $1 ORDER BY seq, id

-- :name step_by_id payload
SELECT :columns(step) FROM perdure.step WHERE run_id = $1 AND id = $2

-- :name defers_of payload
SELECT :columns(step) FROM perdure.step WHERE run_id = $1 AND id >= 'defer/' AND id < 'defer0' ORDER BY id

-- :name attempts_of payload
SELECT :columns(attempt) FROM perdure.attempt WHERE run_id = $1 ORDER BY step_id, started_at, attempt

-- :name pause_paths
SELECT DISTINCT name, path FROM perdure.pause WHERE kind IN ('event', 'cancel') AND name IN ($1, $2, $3)

-- :name pauses_unindexed
SELECT :columns(pause) FROM perdure.pause
WHERE kind IN ('event', 'cancel') AND name = $1 AND path IS NULL ORDER BY id

-- :name pauses_indexed
SELECT :columns(pause) FROM perdure.pause
WHERE kind IN ('event', 'cancel') AND name = $1 AND path = $2 AND md5(value) = md5($3::text) AND value = $3
ORDER BY id

-- :name pause_by_id
SELECT :columns(pause) FROM perdure.pause WHERE id = $1

-- :name pauses_of_run
SELECT :columns(pause) FROM perdure.pause WHERE id >= $1 AND id < $2 ORDER BY id

-- :name signal_pause
SELECT :columns(pause) FROM perdure.pause WHERE kind = 'signal' AND name = $1

-- Who has a slot keeps it when the limit is lowered: two runs that each waited for the other would wait for ever.
-- :name slots_taken
SELECT count(*) FROM perdure.slot
WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM perdure.slot WHERE key = $1 AND owner = $2)

-- :name slot_owner
SELECT owner FROM perdure.slot WHERE key = $1 ORDER BY owner LIMIT 1

-- :name bucket
SELECT arrival FROM perdure.bucket WHERE key = $1

-- :name hits_since
SELECT count(*) FROM perdure.hit WHERE key = $1 AND at > $2

-- :name idempotent_event
SELECT event_id FROM perdure.idempotency WHERE key = $1 AND expires_at > $2

-- :name batch_items
SELECT event_id, size FROM perdure.batch_item WHERE job_id = $1 ORDER BY position

-- :name apps
SELECT :columns(app) FROM perdure.app ORDER BY id

-- :name app_by_id
SELECT :columns(app) FROM perdure.app WHERE id = $1

-- :name functions
SELECT :columns(function) FROM perdure.function ORDER BY id

-- :name list_events payload
SELECT :columns(event) FROM perdure.event
WHERE internal_id < $1 AND internal <= $2 AND ($3::text IS NULL OR name = $3)
  AND ($4::bigint IS NULL OR received_at > $4) AND ($5::bigint IS NULL OR received_at < $5)
ORDER BY internal_id DESC LIMIT $6

-- :name list_runs payload
SELECT :columns(run) FROM perdure.run
WHERE id < $1 AND ($2::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($4::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($4::json)))
  AND ($6::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $6)
  AND ($7::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $7)
  AND ($8::integer IS NULL OR ($8 = 1) = EXISTS (
    SELECT 1 FROM perdure.event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT $9

-- The same for those that an index leads to: the runs of a function; those of a status that few runs end with
-- (`run_ended_badly`); those that have not ended, by their drivers.
-- :name list_runs_of_function payload
SELECT :columns(run) FROM perdure.run
WHERE function_id = $10 AND id < $1 AND ($2::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($4::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($4::json)))
  AND ($6::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $6)
  AND ($7::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $7)
  AND ($8::integer IS NULL OR ($8 = 1) = EXISTS (
    SELECT 1 FROM perdure.event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT $9

-- :name list_runs_ended_badly payload
SELECT :columns(run) FROM perdure.run
WHERE status = $10::integer AND status >= 3
  AND id < $1 AND ($2::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($4::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($4::json)))
  AND ($6::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $6)
  AND ($7::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $7)
  AND ($8::integer IS NULL OR ($8 = 1) = EXISTS (
    SELECT 1 FROM perdure.event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT $9

-- :name list_open_runs payload
SELECT :columns(run) FROM perdure.run
WHERE id IN (SELECT id FROM perdure.job WHERE kind = 'run' AND id < $1)
  AND id < $1 AND ($2::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($4::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($4::json)))
  AND ($6::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $6)
  AND ($7::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $7)
  AND ($8::integer IS NULL OR ($8 = 1) = EXISTS (
    SELECT 1 FROM perdure.event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id DESC LIMIT $9

-- :name list_runs_oldest_first payload
SELECT :columns(run) FROM perdure.run
WHERE id > $1 AND ($2::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($4::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($4::json)))
  AND ($6::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $6)
  AND ($7::bigint IS NULL
    OR CASE $5::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $7)
  AND ($8::integer IS NULL OR ($8 = 1) = EXISTS (
    SELECT 1 FROM perdure.event WHERE internal_id = run.event_id AND name = 'inngest/deferred.schedule'
  ))
ORDER BY id LIMIT $9

-- :name count_listed_runs
SELECT count(*) FROM (SELECT 1 FROM perdure.run
WHERE ($1::text IS NULL OR status IN (SELECT value::integer FROM json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR function_id IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR app_id IN (SELECT value FROM json_array_elements_text($3::json)))
  AND ($5::bigint IS NULL
    OR CASE $4::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END >= $5)
  AND ($6::bigint IS NULL
    OR CASE $4::text WHEN 'started' THEN started_at WHEN 'ended' THEN ended_at ELSE created_at END <= $6)
LIMIT $7) AS listed

-- :name count_listed_events
SELECT count(*) FROM (SELECT 1 FROM perdure.event
WHERE internal <= $1 AND ($2::text IS NULL OR name IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::bigint IS NULL OR received_at > $3) AND ($4::bigint IS NULL OR received_at < $4)
LIMIT $5) AS listed

-- :name invoked_run payload
SELECT :columns(run) FROM perdure.run WHERE id > $1 AND id < $2 AND parent = $3 LIMIT 1

-- :name runs_of_event payload
SELECT :columns(run) FROM perdure.run WHERE event_id = $1
UNION ALL
SELECT :columns(run) FROM perdure.run_event JOIN perdure.run ON run.id = run_id WHERE run_event.event_id = $1
ORDER BY 1

-- :name batch_event_ids
SELECT event_id FROM perdure.run_event WHERE run_id = $1 ORDER BY position

-- :name expired_runs
SELECT id FROM perdure.run
WHERE id > $1 AND id < $2 AND ended_at IS NOT NULL AND ended_at < $3
  AND status IN (SELECT value::integer FROM json_array_elements_text($4::json))
ORDER BY id LIMIT $5

-- :name expired_events
SELECT internal_id FROM perdure.event
WHERE internal_id > $1 AND internal_id < $2
  AND NOT EXISTS (SELECT 1 FROM perdure.run WHERE run.event_id = internal_id)
  AND NOT EXISTS (SELECT 1 FROM perdure.run_event WHERE run_event.event_id = internal_id)
  AND NOT EXISTS (SELECT 1 FROM perdure.batch_item WHERE batch_item.event_id = internal_id)
  AND NOT EXISTS (
    SELECT 1 FROM perdure.job WHERE job.id >= 'debounce:' AND job.id < 'debounce;'
      AND convert_from(job.data, 'UTF8')::json ->> 'event_id' = internal_id
  )
ORDER BY internal_id LIMIT $3

-- What the page shows of the flow control of a function, of its runs over time, and of the whole.
-- :name slots_between
SELECT key, owner FROM perdure.slot WHERE key >= $1 AND key < $2 ORDER BY key, owner LIMIT $3

-- :name blocked_counts
SELECT blocked_on, count(*) FROM perdure.job WHERE state = 3 AND function_id = $1
GROUP BY blocked_on ORDER BY 2 DESC, 1 LIMIT $2

-- :name run_series_of_function
SELECT created_at / $3::bigint, status, count(*), avg(started_at - created_at)::double precision,
  avg(ended_at - started_at)::double precision, max(ended_at - started_at)
FROM perdure.run WHERE function_id = $1 AND id > $2 GROUP BY 1, 2 ORDER BY 1, 2

-- :name run_series
SELECT created_at / $2::bigint, status, count(*), avg(started_at - created_at)::double precision,
  avg(ended_at - started_at)::double precision, max(ended_at - started_at)
FROM perdure.run WHERE id > $1 GROUP BY 1, 2 ORDER BY 1, 2

-- :name oldest_ready
SELECT min(due_at) FROM perdure.job WHERE state = 1

-- :name nodes
SELECT id, alive_until FROM perdure.node ORDER BY id LIMIT $1

-- :name store_size
SELECT pg_database_size(current_database())

-- :name count_runs
SELECT status, count(*) FROM perdure.run GROUP BY status

-- :name count_jobs
SELECT state, count(*) FROM perdure.job GROUP BY state

-- :name leases_by_node
SELECT node, count(*) FROM perdure.job WHERE state = 2 AND node IS NOT NULL GROUP BY node

-- :name queued_by_function
SELECT function_id, state, count(*), min(due_at) FROM perdure.job WHERE state = 1 AND kind = 'run' GROUP BY function_id, state
UNION ALL
SELECT function_id, state, count(*), min(due_at) FROM perdure.job WHERE state = 2 AND kind = 'run' GROUP BY function_id, state
UNION ALL
SELECT function_id, state, count(*), min(due_at) FROM perdure.job WHERE state = 3 AND kind = 'run' GROUP BY function_id, state

-- :name orphan_runs
SELECT run.id, run.function_id FROM perdure.run
LEFT JOIN perdure.job ON job.id = run.id
WHERE run.status < 2 AND (job.id IS NULL OR (job.state = 4
  AND NOT EXISTS (
    SELECT 1 FROM perdure.pause WHERE pause.id >= run.id AND pause.id < run.id || '/' AND pause.kind <> 'cancel'
  )
  AND NOT EXISTS (
    SELECT 1 FROM perdure.job AS timer
    WHERE timer.id > run.id AND timer.id < run.id || '/' AND timer.kind IN ('sleep', 'timeout', 'retry')
  )))
LIMIT $1

-- :name leaked_slots
SELECT key, owner FROM perdure.slot WHERE substr(owner, 1, 26) NOT IN (SELECT id FROM perdure.job) LIMIT $1

-- :name unregistered_runs
SELECT function_id, count(*) FROM perdure.run
WHERE status < 2 AND function_id NOT IN (SELECT id FROM perdure.function WHERE archived_at IS NULL)
GROUP BY function_id

-- :name cancellations
SELECT :columns(cancellation) FROM perdure.cancellation WHERE id < $1 ORDER BY id DESC LIMIT $2

-- :name cancellation_by_id
SELECT :columns(cancellation) FROM perdure.cancellation WHERE id = $1

-- :name replay_by_id
SELECT :columns(replay) FROM perdure.replay WHERE id = $1

-- :name metadata_of_run
SELECT :columns(run_metadata) FROM perdure.run_metadata WHERE run_id = $1 ORDER BY target, scope, kind

-- :name environments
SELECT :columns(environment) FROM perdure.environment ORDER BY name

-- :name secret
SELECT name, value FROM perdure.secret WHERE name = $1

-- :name run_status
SELECT status FROM perdure.run WHERE id = $1

-- :name stream_by_run
SELECT run_id, last, size, ended, open, undone FROM perdure.stream WHERE run_id = $1

-- :name chunks_after
SELECT first, count, body FROM perdure.chunk
WHERE run_id = $1
  AND first >= coalesce((SELECT max(earlier.first) FROM perdure.chunk AS earlier
                         WHERE earlier.run_id = $1 AND earlier.first <= $2), 0)
ORDER BY first LIMIT $3

-- The store's own, which no decision asks for.

-- :name put_blobs
INSERT INTO perdure.blob (hash, data) SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING

-- :name put_blob_uses
INSERT INTO perdure.blob_use (owner, hash) SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING

-- :name blobs
SELECT hash, data FROM perdure.blob WHERE hash = ANY ($1::bytea[])

-- Small tables look as if reading them whole were cheap, and plans outlive their smallness.
-- :name begin
BEGIN;
SET LOCAL idle_in_transaction_session_timeout = '5s';
SET LOCAL statement_timeout = '60s';
SET LOCAL enable_seqscan = off;
SET LOCAL jit = off

-- :name begin_view
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- :name join
SELECT seq, fence FROM perdure.join_1($1, $2)

-- :name enter
SELECT seq, name FROM perdure.enter_1($1, $2, $3, $4)

-- :name tell_all
SELECT perdure.tell_2(news) FROM unnest($1::text[]) AS news

-- :name now
SELECT perdure.now_1()

-- No part of a dump, or of a copy; and the standby that becomes the primary has the same.
-- :name identity
SELECT (SELECT oid FROM pg_database WHERE datname = current_database()) || '.' || 'perdure.node'::regclass::oid

-- :name join_bus
UPDATE perdure.node SET bus = $2 WHERE id = $1

-- :name is_shared
SELECT NOT EXISTS (
  SELECT FROM perdure.node WHERE alive_until > perdure.now_1() - 60000 AND bus IS DISTINCT FROM $1
)

-- Names that nothing waits for any more, and nodes that have been gone for long.
-- :name tidy
WITH writers AS (DELETE FROM perdure.writer WHERE at < clock_timestamp() - interval '7 days'),
nodes AS (DELETE FROM perdure.node WHERE alive_until < perdure.now_1() - 604800000)
DELETE FROM perdure.pause_name
WHERE NOT EXISTS (SELECT 1 FROM perdure.pause WHERE pause.name = pause_name.name AND kind IN ('event', 'cancel'))

-- :name lock_versions
SELECT pg_advisory_xact_lock(1885696613)

-- :name create_versions
CREATE SCHEMA IF NOT EXISTS perdure;
CREATE TABLE IF NOT EXISTS perdure.schema_version (
  version integer NOT NULL,
  part text NOT NULL,
  PRIMARY KEY (version, part)
)

-- :name versions
SELECT version, part FROM perdure.schema_version

-- :name put_version
INSERT INTO perdure.schema_version (version, part) VALUES ($1, $2)

-- :name older_alive
SELECT EXISTS (SELECT 1 FROM perdure.writer WHERE schema < $1 AND at > clock_timestamp() - interval '5 min')

-- :name has_versions
SELECT to_regclass('perdure.schema_version')

-- :name known_nodes
SELECT id, alive_until > perdure.now_1(), bus FROM perdure.node ORDER BY id

-- :name has_database
SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)
