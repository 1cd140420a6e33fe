-- The statements of the agents' tables, as in statements.sql. None of their payloads is kept as a blob.

-- :name put_thread by id
INSERT INTO perdure.thread (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET
  resource_id = excluded.resource_id, title = excluded.title, metadata = excluded.metadata,
  working_memory = excluded.working_memory, last_seq = excluded.last_seq, updated_at = excluded.updated_at

-- :name delete_thread by id
DELETE FROM perdure.thread USING :given WHERE thread.id = given.id

-- :name delete_thread_messages by thread_id
DELETE FROM perdure.message USING :given WHERE message.thread_id = given.thread_id

-- :name delete_thread_embeddings by thread_id
DELETE FROM perdure.embedding USING :given WHERE embedding.thread_id = given.thread_id

-- :name delete_thread_inbox by thread_id
DELETE FROM perdure.inbox USING :given WHERE inbox.thread_id = given.thread_id AND inbox.state = 'persisted'

-- :name move_thread_messages by thread_id
UPDATE perdure.message SET resource_id = given.resource_id FROM :given WHERE message.thread_id = given.thread_id

-- :name move_thread_embeddings by thread_id
UPDATE perdure.embedding SET resource_id = given.resource_id FROM :given WHERE embedding.thread_id = given.thread_id

-- :name put_message by id
INSERT INTO perdure.message (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET role = excluded.role, type = excluded.type, body = excluded.body

-- :name delete_message by id
DELETE FROM perdure.message USING :given WHERE message.id = given.id

-- :name delete_message_embeddings by message_id
DELETE FROM perdure.embedding USING :given WHERE embedding.message_id = given.message_id

-- :name put_resource by id
INSERT INTO perdure.resource (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET
  working_memory = excluded.working_memory, metadata = excluded.metadata, updated_at = excluded.updated_at

-- :name put_embedding by message_id position
INSERT INTO perdure.embedding (:fields) SELECT :fields FROM :given
ON CONFLICT (message_id, position) DO UPDATE SET space = excluded.space, vector = excluded.vector

-- :name put_agent_run by run_id
INSERT INTO perdure.agent_run (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id) DO UPDATE SET
  engine_run_id = excluded.engine_run_id, status = excluded.status, finish_reason = excluded.finish_reason,
  inbox_closed = excluded.inbox_closed, detail = excluded.detail, updated_at = excluded.updated_at,
  ended_at = excluded.ended_at, expires_at = excluded.expires_at

-- :name delete_agent_run by run_id
DELETE FROM perdure.agent_run USING :given WHERE agent_run.run_id = given.run_id

-- :name put_approval by run_id tool_call_id
INSERT INTO perdure.approval (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id, tool_call_id) DO UPDATE SET
  status = excluded.status, decided_at = excluded.decided_at, decided_by = excluded.decided_by,
  decision = excluded.decision

-- :name close_approvals by run_id
UPDATE perdure.approval SET status = given.status, decided_at = given.decided_at FROM :given
WHERE approval.run_id = given.run_id AND approval.status = 'pending'

-- :name delete_run_approvals by run_id
DELETE FROM perdure.approval USING :given WHERE approval.run_id = given.run_id

-- :name put_inbox by seq
INSERT INTO perdure.inbox (:fields) SELECT :fields FROM :given

-- :name claim_inbox by run_id
UPDATE perdure.inbox SET state = 'claimed', step_id = given.step_id FROM :given
WHERE inbox.run_id = given.run_id AND inbox.state = 'queued'

-- :name delete_run_inbox by run_id
DELETE FROM perdure.inbox USING :given WHERE inbox.run_id = given.run_id

-- :name delete_old_inbox by before
DELETE FROM perdure.inbox USING :given WHERE inbox.state = 'persisted' AND inbox.created_at < given.before

-- :name put_begun by run_id step_id
INSERT INTO perdure.begun (:fields) SELECT :fields FROM :given
ON CONFLICT (run_id, step_id) DO UPDATE SET times = excluded.times

-- :name delete_run_begun by run_id
DELETE FROM perdure.begun USING :given WHERE begun.run_id = given.run_id

-- :name put_task by id
INSERT INTO perdure.task (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET
  status = excluded.status, outcome = excluded.outcome, retry_count = excluded.retry_count,
  started_at = excluded.started_at, suspended_at = excluded.suspended_at, completed_at = excluded.completed_at

-- :name delete_task by id
DELETE FROM perdure.task USING :given WHERE task.id = given.id

-- :name delete_run_tasks by run_id
DELETE FROM perdure.task USING :given WHERE task.run_id = given.run_id

-- :name thread_by_id
SELECT :columns(thread) FROM perdure.thread WHERE id = $1

-- Metadata matches where every key that is asked for has the value that is asked for.
-- :name list_threads
SELECT :columns(thread) FROM perdure.thread
WHERE ($1::text IS NULL OR resource_id = $1)
  AND ($2::text IS NULL OR NOT EXISTS (
    SELECT 1 FROM jsonb_each($2::jsonb) AS asked
    WHERE (coalesce(thread.metadata, '{}')::jsonb -> asked.key) IS DISTINCT FROM asked.value
  ))
ORDER BY (CASE $3::text WHEN 'updatedAt' THEN updated_at ELSE created_at END) * $4::bigint, id LIMIT $5 OFFSET $6

-- :name count_threads
SELECT count(*) FROM perdure.thread
WHERE ($1::text IS NULL OR resource_id = $1)
  AND ($2::text IS NULL OR NOT EXISTS (
    SELECT 1 FROM jsonb_each($2::jsonb) AS asked
    WHERE (coalesce(thread.metadata, '{}')::jsonb -> asked.key) IS DISTINCT FROM asked.value
  ))

-- :name expired_threads
SELECT id FROM perdure.thread WHERE id > $1 AND updated_at < $2 ORDER BY id LIMIT $3

-- :name message_by_id
SELECT :columns(message) FROM perdure.message WHERE id = $1

-- :name list_messages
SELECT :columns(message) FROM perdure.message
WHERE thread_id = $1 AND ($2::text IS NULL OR role IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::bigint IS NULL OR created_at >= $3) AND ($4::bigint IS NULL OR created_at <= $4)
ORDER BY seq DESC LIMIT $5 OFFSET $6

-- :name list_messages_oldest_first
SELECT :columns(message) FROM perdure.message
WHERE thread_id = $1 AND ($2::text IS NULL OR role IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::bigint IS NULL OR created_at >= $3) AND ($4::bigint IS NULL OR created_at <= $4)
ORDER BY seq LIMIT $5 OFFSET $6

-- :name count_messages
SELECT count(*) FROM perdure.message
WHERE thread_id = $1 AND ($2::text IS NULL OR role IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::bigint IS NULL OR created_at >= $3) AND ($4::bigint IS NULL OR created_at <= $4)

-- :name latest_messages
SELECT :columns(message) FROM perdure.message WHERE thread_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT $3

-- :name messages_before
SELECT :columns(message) FROM perdure.message WHERE thread_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3

-- :name messages_after
SELECT :columns(message) FROM perdure.message WHERE thread_id = $1 AND seq > $2 ORDER BY seq LIMIT $3

-- :name resource_by_id
SELECT :columns(resource) FROM perdure.resource WHERE id = $1

-- :name embeddings_of_thread
SELECT :columns(embedding) FROM perdure.embedding
WHERE thread_id = $1 AND space = $2 AND (message_id, position) > ($3, $4::integer)
ORDER BY message_id, position LIMIT $5

-- :name embeddings_of_resource
SELECT :columns(embedding) FROM perdure.embedding
WHERE resource_id = $1 AND space = $2 AND (message_id, position) > ($3, $4::integer)
ORDER BY message_id, position LIMIT $5

-- :name agent_run_by_id
SELECT :columns(agent_run) FROM perdure.agent_run WHERE run_id = $1

-- The run that a run of the engine is, and then its child runs.
-- :name agent_runs_by_engine
SELECT :columns(agent_run) FROM perdure.agent_run WHERE engine_run_id = $1
ORDER BY parent_run_id IS NOT NULL, created_at, run_id

-- :name agent_runs_by_parent
SELECT :columns(agent_run) FROM perdure.agent_run WHERE parent_run_id = $1 ORDER BY created_at, run_id

-- :name list_agent_runs
SELECT :columns(agent_run) FROM perdure.agent_run
WHERE ($1::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR agent_id = $2) AND ($3::text IS NULL OR thread_id = $3)
  AND ($4::text IS NULL OR resource_id = $4)
  AND ($5::bigint IS NULL OR created_at >= $5) AND ($6::bigint IS NULL OR created_at <= $6)
ORDER BY created_at DESC, run_id DESC LIMIT $7 OFFSET $8

-- :name count_agent_runs
SELECT count(*) FROM perdure.agent_run
WHERE ($1::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR agent_id = $2) AND ($3::text IS NULL OR thread_id = $3)
  AND ($4::text IS NULL OR resource_id = $4)
  AND ($5::bigint IS NULL OR created_at >= $5) AND ($6::bigint IS NULL OR created_at <= $6)

-- Runs of a thread that are not over, the one that began first (and so has the thread) first.
-- :name active_agent_runs
SELECT :columns(agent_run) FROM perdure.agent_run
WHERE thread_id = $1 AND ($2::text IS NULL OR resource_id = $2) AND status IN ('running', 'suspended')
  AND parent_run_id IS NULL
ORDER BY created_at, run_id

-- :name agent_runs_since
SELECT :columns(agent_run) FROM perdure.agent_run
WHERE thread_id = $1 AND ($2::text IS NULL OR resource_id = $2) AND parent_run_id IS NULL AND created_at >= $3
ORDER BY created_at, run_id LIMIT $4

-- :name expired_agent_runs
SELECT run_id FROM perdure.agent_run WHERE run_id > $1 AND expires_at IS NOT NULL AND expires_at <= $2
ORDER BY run_id LIMIT $3

-- :name approval_by_id
SELECT :columns(approval) FROM perdure.approval WHERE run_id = $1 AND tool_call_id = $2

-- :name list_approvals
SELECT :columns(approval) FROM perdure.approval
WHERE ($1::text IS NULL OR run_id IN (SELECT value FROM json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR agent_id = $3) AND ($4::text IS NULL OR thread_id = $4)
  AND ($5::text IS NULL OR resource_id = $5)
ORDER BY asked_at DESC, run_id DESC, tool_call_id LIMIT $6 OFFSET $7

-- :name count_approvals
SELECT count(*) FROM perdure.approval
WHERE ($1::text IS NULL OR run_id IN (SELECT value FROM json_array_elements_text($1::json)))
  AND ($2::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($2::json)))
  AND ($3::text IS NULL OR agent_id = $3) AND ($4::text IS NULL OR thread_id = $4)
  AND ($5::text IS NULL OR resource_id = $5)

-- :name last_of_inbox
SELECT seq FROM perdure.inbox ORDER BY seq DESC LIMIT 1

-- :name inbox_by_id
SELECT :columns(inbox) FROM perdure.inbox WHERE run_id = $1 AND id = $2

-- :name inbox_of_step
SELECT :columns(inbox) FROM perdure.inbox
WHERE run_id = $1 AND (state = 'queued' OR (state = 'claimed' AND step_id = $2)) ORDER BY seq

-- Signals for runs that were over before they took them in.
-- :name left_signals
SELECT DISTINCT inbox.run_id FROM perdure.inbox JOIN perdure.agent_run ON agent_run.run_id = inbox.run_id
WHERE inbox.state = 'queued' AND agent_run.status NOT IN ('running', 'suspended')
LIMIT $1

-- :name persisted_in_thread
SELECT :columns(inbox) FROM perdure.inbox WHERE thread_id = $1 AND state = 'persisted' AND seq > $2 ORDER BY seq LIMIT $3

-- :name begun_by_id
SELECT :columns(begun) FROM perdure.begun WHERE run_id = $1 AND step_id = $2

-- :name task_by_id
SELECT :columns(task) FROM perdure.task WHERE id = $1

-- :name list_tasks
SELECT :columns(task) FROM perdure.task
WHERE ($1::text IS NULL OR run_id = $1) AND ($2::text IS NULL OR agent_id = $2)
  AND ($3::text IS NULL OR thread_id = $3) AND ($4::text IS NULL OR resource_id = $4)
  AND ($5::text IS NULL OR tool_name = $5)
  AND ($6::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($6::json)))
ORDER BY
  (CASE $7::text WHEN 'startedAt' THEN started_at WHEN 'completedAt' THEN completed_at ELSE created_at END) * $8::bigint
  NULLS FIRST,
  id
LIMIT $9 OFFSET $10

-- :name count_tasks
SELECT count(*) FROM perdure.task
WHERE ($1::text IS NULL OR run_id = $1) AND ($2::text IS NULL OR agent_id = $2)
  AND ($3::text IS NULL OR thread_id = $3) AND ($4::text IS NULL OR resource_id = $4)
  AND ($5::text IS NULL OR tool_name = $5)
  AND ($6::text IS NULL OR status IN (SELECT value FROM json_array_elements_text($6::json)))

-- :name ended_agent_runs
SELECT agent_run.run_id, run.status FROM perdure.agent_run JOIN perdure.run ON run.id = agent_run.engine_run_id
WHERE agent_run.status IN ('running', 'suspended') AND run.status > 1
LIMIT $1

-- :name count_agent_tables
SELECT (SELECT count(*) FROM perdure.thread), (SELECT count(*) FROM perdure.approval WHERE status = 'pending')

-- :name stranded_approvals
SELECT approval.run_id, approval.tool_call_id FROM perdure.approval
LEFT JOIN perdure.agent_run ON agent_run.run_id = approval.run_id
WHERE approval.status = 'pending' AND (agent_run.run_id IS NULL OR agent_run.status NOT IN ('running', 'suspended'))
LIMIT $1
