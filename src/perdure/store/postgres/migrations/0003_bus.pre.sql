-- Nodes may have a bus between them, besides. Who hears it says so here, by what tells that bus from others.
ALTER TABLE perdure.node ADD COLUMN bus text;

-- Tells the other nodes, if there are any, what may concern them; they hear it once it is committed. While all of them
-- are on one bus they hear it there, from the node that has committed: for it the news are the answer.
CREATE FUNCTION perdure.tell_2(p_news text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(*) > 1 AND (count(DISTINCT bus) > 1 OR count(bus) < count(*)) FROM perdure.node
      WHERE alive_until > perdure.now_1() - 60000) THEN
    PERFORM pg_notify('perdure', p_news);
  END IF;
  RETURN p_news;
END
$$;

-- A transaction of nothing but the commonest writes, in one go: it holds no lock while messages travel. What was
-- decided rests on the leases, and on no other names being waited for; where that is not so, nothing is changed.
CREATE FUNCTION perdure.commit_plain_2(
  p_writer text, p_seq bigint, p_fence bigint, p_known bigint,
  e_internal_id text[], e_name text[], e_received_at bigint[], e_internal bigint[], e_body bytea[],
  r_id text[], r_function_id text[], r_function_version bigint[], r_app_id text[], r_event_id text[], r_batch_id text[],
  r_cron text[], r_original_run_id text[], r_parent text[], r_status bigint[], r_created_at bigint[],
  r_started_at bigint[], r_ended_at bigint[], r_output bytea[], r_request_version bigint[],
  j_id text[], j_kind text[], j_state bigint[], j_run_id text[], j_function_id text[], j_due_at bigint[],
  j_rank bigint[], j_node text[], j_token bigint[], j_attempt bigint[], j_woken bigint[], j_blocked_on text[],
  j_keys bytea[], j_data bytea[],
  s_run_id text[], s_id text[], s_name text[], s_seq bigint[], s_attempt bigint[], s_started_at bigint[],
  s_ended_at bigint[], s_data bytea[], s_opts bytea[], s_node text[], s_token bigint[],
  d_status bigint[], d_ended_at bigint[], d_output bytea[], d_id text[], d_node text[], d_token bigint[],
  x_id text[]
) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
  changed bigint;
BEGIN
  PERFORM FROM perdure.enter_1(p_writer, p_seq, p_fence, p_known);
  IF FOUND THEN
    RAISE EXCEPTION 'perdure: other names are waited for' USING ERRCODE = 'PD001';
  END IF;
  IF cardinality(e_internal_id) > 0 THEN
    INSERT INTO perdure.event (internal_id, name, received_at, internal, body)
    SELECT * FROM unnest(e_internal_id, e_name, e_received_at, e_internal, e_body);
  END IF;
  IF cardinality(r_id) > 0 THEN
    INSERT INTO perdure.run (id, function_id, function_version, app_id, event_id, batch_id, cron, original_run_id,
      parent, status, created_at, started_at, ended_at, output, request_version)
    SELECT * FROM unnest(r_id, r_function_id, r_function_version, r_app_id, r_event_id, r_batch_id, r_cron,
      r_original_run_id, r_parent, r_status, r_created_at, r_started_at, r_ended_at, r_output, r_request_version);
  END IF;
  IF cardinality(j_id) > 0 THEN
    INSERT INTO perdure.job (id, kind, state, run_id, function_id, due_at, rank, node, token, attempt, woken,
      blocked_on, keys, data)
    SELECT * FROM unnest(j_id, j_kind, j_state, j_run_id, j_function_id, j_due_at, j_rank, j_node, j_token, j_attempt,
      j_woken, j_blocked_on, j_keys, j_data);
  END IF;
  IF cardinality(s_id) > 0 THEN
    INSERT INTO perdure.step (run_id, id, op, name, status, seq, attempt, queued_at, started_at, ended_at, data, opts)
    SELECT given.run_id, given.id, 'StepRun', given.name, 0, given.seq, given.attempt, given.started_at,
      given.started_at, given.ended_at, given.data, given.opts
    FROM unnest(s_run_id, s_id, s_name, s_seq, s_attempt, s_started_at, s_ended_at, s_data, s_opts, s_node, s_token)
      AS given (run_id, id, name, seq, attempt, started_at, ended_at, data, opts, node, token)
    JOIN perdure.job ON job.id = given.run_id AND job.node = given.node AND job.token = given.token
    ON CONFLICT (run_id, id) DO UPDATE SET
      status = excluded.status, attempt = excluded.attempt, started_at = excluded.started_at,
      ended_at = excluded.ended_at, data = excluded.data, opts = coalesce(excluded.opts, step.opts);
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(s_id) THEN
      RAISE EXCEPTION 'perdure: a lease was given up' USING ERRCODE = 'PD001';
    END IF;
  END IF;
  IF cardinality(d_id) > 0 THEN
    UPDATE perdure.run SET status = given.status, ended_at = given.ended_at, output = given.output
    FROM unnest(d_status, d_ended_at, d_output, d_id, d_node, d_token)
      AS given (status, ended_at, output, id, node, token)
    JOIN perdure.job ON job.id = given.id AND job.node = given.node AND job.token = given.token
    WHERE run.id = given.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    IF changed <> cardinality(d_id) THEN
      RAISE EXCEPTION 'perdure: a lease was given up' USING ERRCODE = 'PD001';
    END IF;
    PERFORM perdure.tell_2('ended ' || ended) FROM unnest(d_id) AS ended;
  END IF;
  IF cardinality(x_id) > 0 THEN
    DELETE FROM perdure.job WHERE id = ANY (x_id);
  END IF;
END
$$;
