-- The statements of stored agents, as in agents.sql. None of their payloads is kept as a blob.

-- :name put_stored_agent
INSERT INTO stored_agent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
  app_id = excluded.app_id, status = excluded.status, active_version_id = excluded.active_version_id,
  author_id = excluded.author_id, visibility = excluded.visibility, metadata = excluded.metadata,
  last_number = excluded.last_number, updated_at = excluded.updated_at

-- :name delete_stored_agent
DELETE FROM stored_agent WHERE id = ?

-- :name put_agent_version
INSERT INTO agent_version VALUES (?, ?, ?, ?, ?, ?, ?)

-- :name delete_agent_version
DELETE FROM agent_version WHERE id = ?

-- :name delete_agent_versions
DELETE FROM agent_version WHERE agent_id = ?

-- :name put_agent_model
INSERT INTO agent_model VALUES (?, ?, ?)
ON CONFLICT (agent_id) DO UPDATE SET choice = excluded.choice, updated_at = excluded.updated_at

-- :name delete_agent_model
DELETE FROM agent_model WHERE agent_id = ?

-- :name stored_agent_by_id
SELECT * FROM stored_agent WHERE id = ?

-- Metadata matches where every key that is asked for has the value that is asked for.
-- :name list_stored_agents
SELECT * FROM stored_agent
WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR author_id = ?2) AND (?3 IS NULL OR visibility = ?3)
  AND (?4 IS NULL OR NOT EXISTS (
    SELECT 1 FROM json_each(?4) AS asked WHERE NOT EXISTS (
      SELECT 1 FROM json_each(coalesce(stored_agent.metadata, '{}')) AS kept
      WHERE kept.key = asked.key AND kept.type = asked.type AND kept.value IS asked.value
    )
  ))
ORDER BY (CASE ?5 WHEN 'updatedAt' THEN updated_at ELSE created_at END) * ?6, id LIMIT ?7 OFFSET ?8

-- :name count_stored_agents
SELECT count(*) FROM stored_agent
WHERE (?1 IS NULL OR status = ?1) AND (?2 IS NULL OR author_id = ?2) AND (?3 IS NULL OR visibility = ?3)
  AND (?4 IS NULL OR NOT EXISTS (
    SELECT 1 FROM json_each(?4) AS asked WHERE NOT EXISTS (
      SELECT 1 FROM json_each(coalesce(stored_agent.metadata, '{}')) AS kept
      WHERE kept.key = asked.key AND kept.type = asked.type AND kept.value IS asked.value
    )
  ))

-- :name stored_agent_changes
SELECT id, last_number, updated_at FROM stored_agent
UNION ALL SELECT agent_id, 0, updated_at FROM agent_model

-- :name agent_version_by_id
SELECT * FROM agent_version WHERE id = ?

-- :name list_agent_versions
SELECT * FROM agent_version WHERE agent_id = ?1
ORDER BY (CASE ?2 WHEN 'createdAt' THEN created_at ELSE number END) * ?3, number * ?3 LIMIT ?4 OFFSET ?5

-- :name count_agent_versions
SELECT count(*) FROM agent_version WHERE agent_id = ?

-- :name agent_model_by_id
SELECT * FROM agent_model WHERE agent_id = ?
