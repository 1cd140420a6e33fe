-- The statements of stored agents, as in agents.sql. None of their payloads is kept as a blob.

-- :name put_stored_agent by id
INSERT INTO perdure.stored_agent (:fields) SELECT :fields FROM :given
ON CONFLICT (id) DO UPDATE SET
  app_id = excluded.app_id, status = excluded.status, active_version_id = excluded.active_version_id,
  author_id = excluded.author_id, visibility = excluded.visibility, metadata = excluded.metadata,
  last_number = excluded.last_number, updated_at = excluded.updated_at

-- :name delete_stored_agent by id
DELETE FROM perdure.stored_agent USING :given WHERE stored_agent.id = given.id

-- :name put_agent_version by id
INSERT INTO perdure.agent_version (:fields) SELECT :fields FROM :given

-- :name delete_agent_version by id
DELETE FROM perdure.agent_version USING :given WHERE agent_version.id = given.id

-- :name delete_agent_versions by agent_id
DELETE FROM perdure.agent_version USING :given WHERE agent_version.agent_id = given.agent_id

-- :name put_agent_model by agent_id
INSERT INTO perdure.agent_model (:fields) SELECT :fields FROM :given
ON CONFLICT (agent_id) DO UPDATE SET choice = excluded.choice, updated_at = excluded.updated_at

-- :name delete_agent_model by agent_id
DELETE FROM perdure.agent_model USING :given WHERE agent_model.agent_id = given.agent_id

-- :name stored_agent_by_id
SELECT :columns(stored_agent) FROM perdure.stored_agent WHERE id = $1

-- Metadata matches where every key that is asked for has the value that is asked for.
-- :name list_stored_agents
SELECT :columns(stored_agent) FROM perdure.stored_agent
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR author_id = $2)
  AND ($3::text IS NULL OR visibility = $3)
  AND ($4::text IS NULL OR NOT EXISTS (
    SELECT 1 FROM jsonb_each($4::jsonb) AS asked
    WHERE (coalesce(stored_agent.metadata, '{}')::jsonb -> asked.key) IS DISTINCT FROM asked.value
  ))
ORDER BY (CASE $5::text WHEN 'updatedAt' THEN updated_at ELSE created_at END) * $6::bigint, id LIMIT $7 OFFSET $8

-- :name count_stored_agents
SELECT count(*) FROM perdure.stored_agent
WHERE ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR author_id = $2)
  AND ($3::text IS NULL OR visibility = $3)
  AND ($4::text IS NULL OR NOT EXISTS (
    SELECT 1 FROM jsonb_each($4::jsonb) AS asked
    WHERE (coalesce(stored_agent.metadata, '{}')::jsonb -> asked.key) IS DISTINCT FROM asked.value
  ))

-- :name stored_agent_changes
SELECT id, last_number, updated_at FROM perdure.stored_agent
UNION ALL SELECT agent_id, 0, updated_at FROM perdure.agent_model

-- :name agent_version_by_id
SELECT :columns(agent_version) FROM perdure.agent_version WHERE id = $1

-- :name list_agent_versions
SELECT :columns(agent_version) FROM perdure.agent_version WHERE agent_id = $1
ORDER BY (CASE $2::text WHEN 'createdAt' THEN created_at ELSE number END) * $3::bigint, number * $3::bigint
LIMIT $4 OFFSET $5

-- :name count_agent_versions
SELECT count(*) FROM perdure.agent_version WHERE agent_id = $1

-- :name agent_model_by_id
SELECT :columns(agent_model) FROM perdure.agent_model WHERE agent_id = $1
