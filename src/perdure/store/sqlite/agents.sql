-- The statements of the agents' tables, as in statements.sql. None of their payloads is kept as a blob.

-- :name put_thread
INSERT INTO thread VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  resource_id = excluded.resource_id, title = excluded.title, metadata = excluded.metadata,
  working_memory = excluded.working_memory, last_seq = excluded.last_seq, updated_at = excluded.updated_at

-- :name delete_thread
DELETE FROM thread WHERE id = ?

-- :name delete_thread_messages
DELETE FROM message WHERE thread_id = ?

-- :name delete_thread_embeddings
DELETE FROM embedding WHERE thread_id = ?

-- :name delete_thread_inbox
DELETE FROM inbox WHERE thread_id = ? AND state = 'persisted'

-- :name move_thread_messages
UPDATE message SET resource_id = ? WHERE thread_id = ?

-- :name move_thread_embeddings
UPDATE embedding SET resource_id = ? WHERE thread_id = ?

-- :name put_message
INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET role = excluded.role, type = excluded.type, body = excluded.body

-- :name delete_message
DELETE FROM message WHERE id = ?

-- :name delete_message_embeddings
DELETE FROM embedding WHERE message_id = ?

-- :name put_resource
INSERT INTO resource VALUES (?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  working_memory = excluded.working_memory, metadata = excluded.metadata, updated_at = excluded.updated_at

-- :name put_embedding
INSERT INTO embedding VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (message_id, position) DO UPDATE SET space = excluded.space, vector = excluded.vector

-- :name put_agent_run
INSERT INTO agent_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id) DO UPDATE SET
  engine_run_id = excluded.engine_run_id, status = excluded.status, finish_reason = excluded.finish_reason,
  inbox_closed = excluded.inbox_closed, detail = excluded.detail, updated_at = excluded.updated_at,
  ended_at = excluded.ended_at, expires_at = excluded.expires_at

-- :name delete_agent_run
DELETE FROM agent_run WHERE run_id = ?

-- :name put_approval
INSERT INTO approval VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run_id, tool_call_id) DO UPDATE SET
  status = excluded.status, decided_at = excluded.decided_at, decided_by = excluded.decided_by,
  decision = excluded.decision

-- :name close_approvals
UPDATE approval SET status = ?, decided_at = ? WHERE run_id = ? AND status = 'pending'

-- :name delete_run_approvals
DELETE FROM approval WHERE run_id = ?

-- :name put_inbox
INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- :name claim_inbox
UPDATE inbox SET state = 'claimed', step_id = ? WHERE run_id = ? AND state = 'queued'

-- :name delete_run_inbox
DELETE FROM inbox WHERE run_id = ?

-- :name delete_old_inbox
DELETE FROM inbox WHERE state = 'persisted' AND created_at < ?

-- :name put_begun
INSERT INTO begun VALUES (?, ?, ?) ON CONFLICT (run_id, step_id) DO UPDATE SET times = excluded.times

-- :name delete_run_begun
DELETE FROM begun WHERE run_id = ?

-- :name put_task
INSERT INTO task VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  status = excluded.status, outcome = excluded.outcome, retry_count = excluded.retry_count,
  started_at = excluded.started_at, suspended_at = excluded.suspended_at, completed_at = excluded.completed_at

-- :name delete_task
DELETE FROM task WHERE id = ?

-- :name delete_run_tasks
DELETE FROM task WHERE run_id = ?

-- :name thread_by_id
SELECT * FROM thread WHERE id = ?

-- Metadata matches where every key that is asked for has the value that is asked for.
-- :name list_threads
SELECT * FROM thread
WHERE (?1 IS NULL OR resource_id = ?1)
  AND (?2 IS NULL OR NOT EXISTS (
    SELECT 1 FROM json_each(?2) AS asked WHERE NOT EXISTS (
      SELECT 1 FROM json_each(coalesce(thread.metadata, '{}')) AS kept
      WHERE kept.key = asked.key AND kept.type = asked.type AND kept.value IS asked.value
    )
  ))
ORDER BY (CASE ?3 WHEN 'updatedAt' THEN updated_at ELSE created_at END) * ?4, id LIMIT ?5 OFFSET ?6

-- :name count_threads
SELECT count(*) FROM thread
WHERE (?1 IS NULL OR resource_id = ?1)
  AND (?2 IS NULL OR NOT EXISTS (
    SELECT 1 FROM json_each(?2) AS asked WHERE NOT EXISTS (
      SELECT 1 FROM json_each(coalesce(thread.metadata, '{}')) AS kept
      WHERE kept.key = asked.key AND kept.type = asked.type AND kept.value IS asked.value
    )
  ))

-- :name expired_threads
SELECT id FROM thread WHERE id > ? AND updated_at < ? ORDER BY id LIMIT ?

-- :name message_by_id
SELECT * FROM message WHERE id = ?

-- :name list_messages
SELECT * FROM message
WHERE thread_id = ?1 AND (?2 IS NULL OR role IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR created_at >= ?3) AND (?4 IS NULL OR created_at <= ?4)
ORDER BY seq DESC LIMIT ?5 OFFSET ?6

-- :name list_messages_oldest_first
SELECT * FROM message
WHERE thread_id = ?1 AND (?2 IS NULL OR role IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR created_at >= ?3) AND (?4 IS NULL OR created_at <= ?4)
ORDER BY seq LIMIT ?5 OFFSET ?6

-- :name count_messages
SELECT count(*) FROM message
WHERE thread_id = ?1 AND (?2 IS NULL OR role IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR created_at >= ?3) AND (?4 IS NULL OR created_at <= ?4)

-- :name latest_messages
SELECT * FROM message WHERE thread_id = ? AND seq <= ? ORDER BY seq DESC LIMIT ?

-- :name messages_before
SELECT * FROM message WHERE thread_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?

-- :name messages_after
SELECT * FROM message WHERE thread_id = ? AND seq > ? ORDER BY seq LIMIT ?

-- :name resource_by_id
SELECT * FROM resource WHERE id = ?

-- :name embeddings_of_thread
SELECT * FROM embedding
WHERE thread_id = ?1 AND space = ?2 AND (message_id, position) > (?3, ?4) ORDER BY message_id, position LIMIT ?5

-- :name embeddings_of_resource
SELECT * FROM embedding
WHERE resource_id = ?1 AND space = ?2 AND (message_id, position) > (?3, ?4) ORDER BY message_id, position LIMIT ?5

-- :name agent_run_by_id
SELECT * FROM agent_run WHERE run_id = ?

-- The run that a run of the engine is, and then its child runs.
-- :name agent_runs_by_engine
SELECT * FROM agent_run WHERE engine_run_id = ? ORDER BY parent_run_id IS NOT NULL, created_at, run_id

-- :name agent_runs_by_parent
SELECT * FROM agent_run WHERE parent_run_id = ? ORDER BY created_at, run_id

-- :name list_agent_runs
SELECT * FROM agent_run
WHERE (?1 IS NULL OR status IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR agent_id = ?2) AND (?3 IS NULL OR thread_id = ?3) AND (?4 IS NULL OR resource_id = ?4)
  AND (?5 IS NULL OR created_at >= ?5) AND (?6 IS NULL OR created_at <= ?6)
ORDER BY created_at DESC, run_id DESC LIMIT ?7 OFFSET ?8

-- :name count_agent_runs
SELECT count(*) FROM agent_run
WHERE (?1 IS NULL OR status IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR agent_id = ?2) AND (?3 IS NULL OR thread_id = ?3) AND (?4 IS NULL OR resource_id = ?4)
  AND (?5 IS NULL OR created_at >= ?5) AND (?6 IS NULL OR created_at <= ?6)

-- Runs of a thread that are not over, the one that began first (and so has the thread) first.
-- :name active_agent_runs
SELECT * FROM agent_run
WHERE thread_id = ?1 AND (?2 IS NULL OR resource_id = ?2) AND status IN ('running', 'suspended')
  AND parent_run_id IS NULL
ORDER BY created_at, run_id

-- :name agent_runs_since
SELECT * FROM agent_run
WHERE thread_id = ?1 AND (?2 IS NULL OR resource_id = ?2) AND parent_run_id IS NULL AND created_at >= ?3
ORDER BY created_at, run_id LIMIT ?4

-- :name expired_agent_runs
SELECT run_id FROM agent_run WHERE run_id > ? AND expires_at IS NOT NULL AND expires_at <= ? ORDER BY run_id LIMIT ?

-- :name approval_by_id
SELECT * FROM approval WHERE run_id = ? AND tool_call_id = ?

-- :name list_approvals
SELECT * FROM approval
WHERE (?1 IS NULL OR run_id IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR agent_id = ?3) AND (?4 IS NULL OR thread_id = ?4) AND (?5 IS NULL OR resource_id = ?5)
ORDER BY asked_at DESC, run_id DESC, tool_call_id LIMIT ?6 OFFSET ?7

-- :name count_approvals
SELECT count(*) FROM approval
WHERE (?1 IS NULL OR run_id IN (SELECT value FROM json_each(?1)))
  AND (?2 IS NULL OR status IN (SELECT value FROM json_each(?2)))
  AND (?3 IS NULL OR agent_id = ?3) AND (?4 IS NULL OR thread_id = ?4) AND (?5 IS NULL OR resource_id = ?5)

-- :name last_of_inbox
SELECT seq FROM inbox ORDER BY seq DESC LIMIT 1

-- :name inbox_by_id
SELECT * FROM inbox WHERE run_id = ? AND id = ?

-- :name inbox_of_step
SELECT * FROM inbox WHERE run_id = ?1 AND (state = 'queued' OR (state = 'claimed' AND step_id = ?2)) ORDER BY seq

-- Signals for runs that were over before they took them in.
-- :name left_signals
SELECT DISTINCT inbox.run_id FROM inbox JOIN agent_run ON agent_run.run_id = inbox.run_id
WHERE inbox.state = 'queued' AND agent_run.status NOT IN ('running', 'suspended')
LIMIT ?

-- :name persisted_in_thread
SELECT * FROM inbox WHERE thread_id = ? AND state = 'persisted' AND seq > ? ORDER BY seq LIMIT ?

-- :name begun_by_id
SELECT * FROM begun WHERE run_id = ? AND step_id = ?

-- :name task_by_id
SELECT * FROM task WHERE id = ?

-- :name list_tasks
SELECT * FROM task
WHERE (?1 IS NULL OR run_id = ?1) AND (?2 IS NULL OR agent_id = ?2)
  AND (?3 IS NULL OR thread_id = ?3) AND (?4 IS NULL OR resource_id = ?4)
  AND (?5 IS NULL OR tool_name = ?5) AND (?6 IS NULL OR status IN (SELECT value FROM json_each(?6)))
ORDER BY (CASE ?7 WHEN 'startedAt' THEN started_at WHEN 'completedAt' THEN completed_at ELSE created_at END) * ?8, id
LIMIT ?9 OFFSET ?10

-- :name count_tasks
SELECT count(*) FROM task
WHERE (?1 IS NULL OR run_id = ?1) AND (?2 IS NULL OR agent_id = ?2)
  AND (?3 IS NULL OR thread_id = ?3) AND (?4 IS NULL OR resource_id = ?4)
  AND (?5 IS NULL OR tool_name = ?5) AND (?6 IS NULL OR status IN (SELECT value FROM json_each(?6)))

-- :name ended_agent_runs
SELECT agent_run.run_id, run.status FROM agent_run JOIN run ON run.id = agent_run.engine_run_id
WHERE agent_run.status IN ('running', 'suspended') AND run.status > 1
LIMIT ?

-- :name count_agent_tables
SELECT (SELECT count(*) FROM thread), (SELECT count(*) FROM approval WHERE status = 'pending')

-- :name stranded_approvals
SELECT approval.run_id, approval.tool_call_id FROM approval
LEFT JOIN agent_run ON agent_run.run_id = approval.run_id
WHERE approval.status = 'pending' AND (agent_run.run_id IS NULL OR agent_run.status NOT IN ('running', 'suspended'))
LIMIT ?
