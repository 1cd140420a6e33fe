-- The runs below a run.
CREATE INDEX agent_run_by_parent ON perdure.agent_run (parent_run_id) WHERE parent_run_id IS NOT NULL;
