-- Lists of runs by function, and by a status that few runs end with.
CREATE INDEX run_by_function ON run (function_id, id);
CREATE INDEX run_ended_badly ON run (status, id) WHERE status >= 3;
