"""The operations of v2 (part F.3 of the protocol), and those that perdure adds to it: pause, resume, replay."""

from __future__ import annotations

from perdure.model.json import Json
from perdure.model.roles import Role
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Body, Failure, Operation, Parameter

_INVALID = Failure(400, "invalid_field_format", "A parameter or field has a value that it cannot have.")
_NO_RUN = Failure(404, "not_found", "There is no such run.")
_NO_APP = Failure(404, "not_found", "There is no such app.")
_NO_FUNCTION = Failure(404, "not_found", "There is no such function.")
_SKIPPED = Failure(422, "function_skipped", "Flow control, or the function's pause, lets no run start.")
_TOO_LARGE = Failure(413, "request_too_large", "The request is over a limit.")


def _path(name: str, about: str, schema: Json = s.NAME) -> Parameter:
    return Parameter(name, schema, about, "path", True)


_STEP = _path("step_id", "The hash of the step, or to skip or wake it its name.", s.NAME)
_RUN = _path("run_id", "The id of the run.", s.ULID)
_APP = _path("app_id", "The id of the app.")
_FUNCTION = _path("function_id", "The id of the function within its app, or its slug.")
_OUTPUT = Parameter("includeOutput", s.FLAG, "Whether to show what went in and came out.")
_CURSOR = Parameter("cursor", s.TEXT, "The cursor of the page before, to go on from there.")


def _limit(most: int = 100) -> Parameter:
    schema = {"type": "integer", "minimum": 0, "maximum": most}
    return Parameter("limit", schema, f"How many to return a page, at most {most}; 20 when it is 0 or left out.")


_RUN_FILTERS = (
    _limit(),
    Parameter("cursor", s.ULID, _CURSOR.about),
    Parameter("from", s.TIME, "Only runs whose time is this or later."),
    Parameter("until", s.TIME, "Only runs whose time is this or earlier."),
    Parameter("timeField", s.word("queuedAt", "startedAt", "endedAt"), "Which time of a run is meant; queuedAt."),
    Parameter("order", s.word("ASC", "DESC"), "ASC for the oldest first; DESC."),
    Parameter("status", s.array(s.word(*s.RUN_STATUSES)), "Only runs of these statuses."),
    Parameter("isDeferred", s.FLAG, "Only runs that other runs deferred, or only runs that none did."),
    _OUTPUT,
)
_OF_FUNCTIONS = (
    Parameter("appId", s.array(s.TEXT), "Only runs of these apps."),
    Parameter("functionId", s.array(s.TEXT), "Only runs of these functions: ids within their apps, or slugs."),
    Parameter(
        "query",
        s.TEXT,
        "Only runs for which these conditions hold, one a line: of event and output, such as event.data.total > 100.",
    ),
    Parameter("text", s.TEXT, "Only runs with this text in the data of their event, or in their output."),
)
_FROM_STEP = s.closed(
    {"stepId": {**s.NAME, "description": "The name of the step, or its hash."}},
    {
        "input": {
            "type": ["array", "null"],
            "description": "What the step gets instead of its own arguments; of apps on other servers only.",
        }
    },
) | {"description": "Keeps what was recorded before this step, and does it and later ones again."}
_INVOCATION = s.closed(
    {"data": {**s.OBJECT, "description": "What the function gets as the data of its event."}},
    {"idempotencyKey": {**s.MAYBE_TEXT, "description": "Within 24 hours, the same key starts one run."}},
)
_REPLAY = s.closed(
    {},
    {
        "from": {**s.TIME, "description": "Only runs queued at this time or later."},
        "until": {**s.TIME, "description": "Only runs queued at this time or earlier."},
        "status": s.array(s.word(*s.ENDED_STATUSES)) | {"description": "Runs that ended so; FAILED."},
        "replayId": {
            "type": "string", "minLength": 1, "maxLength": 128,
            "description": "Makes the replay idempotent for 30 days: asked for again, it does nothing twice.",
        },
    },
)  # fmt: skip
_SYNC = s.closed({}, {"url": {**s.TEXT, "description": "Where the app is served; without it, where it was last."}})
_SYNCED = s.record(
    {"appId": s.TEXT, "status": s.word("SUCCESS", "ERROR")},
    {"id": s.UUID, "error": s.record({"code": s.TEXT, "message": s.TEXT})},
)
_HOURS = Parameter("hours", {"type": "integer", "minimum": 1, "maximum": 168}, "How far back, in hours; 1.")
_RESTS = (
    _INVALID, _TOO_LARGE, Failure(404, "not_found", "There is no such run, or no such step in it."),
    Failure(409, "step_executes", "The step is attempted right now, or has ended, or its run has."),
)  # fmt: skip

_ENVIRONMENT = s.record({"id": s.UUID, "name": s.TEXT, "type": s.TEXT, "isArchived": s.FLAG, "createdAt": s.TIME})
_ENVIRONMENT_FAILURES = (
    _INVALID, _TOO_LARGE, Failure(400, "missing_field", "A field is missing."),
    Failure(501, "not_implemented", "The server has one environment: it is part of a program."),
)  # fmt: skip
_TOO_MANY = Failure(409, "too_many_environments", "There are as many environments as there may be.")

V2: tuple[Operation, ...] = (
    Operation(
        id="Health", method="GET", path="/health", tag="Server", tool="health", read_only=True,
        summary="Check health", about="Tells that the API answers.",
        answer=s.v2_answer(s.record({"status": s.TEXT})),
    ),
    Operation(
        id="ListOperations", method="GET", path="/operations", tag="Server", read_only=True,
        summary="List operations", about="Lists the operations of this API, with the tools that agents call them by.",
        answer=s.v2_answer(s.record({"operations": s.array(s.OBJECT)})),
    ),
    Operation(
        id="GetFunctionRun", method="GET", path="/runs/{run_id}", tag="Runs", tool="get_run", read_only=True,
        summary="Get a run", about="Shows one run: where it stands, its times, and with includeOutput its result.",
        parameters=(_RUN, _OUTPUT), answer=s.v2_answer(s.ref("Run")), failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="ListRuns", method="GET", path="/runs", tag="Runs", tool="list_runs", read_only=True,
        summary="List runs", about="Lists runs, the newest first, by app, function, status and time.",
        parameters=(*_OF_FUNCTIONS, *_RUN_FILTERS), answer=s.v2_list(s.ref("Run")), failures=(_INVALID,),
    ),
    Operation(
        id="ListFunctionRuns", method="GET", path="/apps/{app_id}/functions/{function_id}/runs", tag="Runs",
        tool="list_function_runs", read_only=True,
        summary="List the runs of a function", about="Lists the runs of one function, the newest first.",
        parameters=(_APP, _FUNCTION, *_RUN_FILTERS), answer=s.v2_list(s.ref("Run")),
        failures=(_INVALID, _NO_FUNCTION),
    ),
    Operation(
        id="GetEventRuns", method="GET", path="/events/{event_id}/runs", tag="Runs", tool="get_event_runs",
        read_only=True,
        summary="List the runs of an event", about="Lists the runs that an event started, the oldest first.",
        parameters=(
            _path("event_id", "The internal id of the event.", s.ULID), _limit(40),
            Parameter("cursor", s.ULID, _CURSOR.about), _OUTPUT,
        ),
        answer=s.v2_list(s.ref("Run")), failures=(_INVALID, Failure(404, "api_error", "The path names no event.")),
    ),
    Operation(
        id="GetFunctionTrace", method="GET", path="/runs/{run_id}/trace", tag="Runs", tool="get_run_trace",
        read_only=True,
        summary="Get the trace of a run", about="Shows a run as a tree of spans: its steps and their attempts.",
        parameters=(_RUN, _OUTPUT),
        answer=s.v2_answer(s.record({"runId": s.ULID, "rootSpan": s.ref("Span")})),
        failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="ListRunSteps", method="GET", path="/runs/{run_id}/steps", tag="Runs", read_only=True,
        summary="List the steps of a run",
        about="Shows a run with its events, its steps and their attempts, without what the steps gave.",
        parameters=(_RUN,),
        answer=s.v2_answer(
            s.record(
                {
                    "run": s.ref("Run"), "events": s.array(s.OBJECT), "steps": s.array(s.ref("Step")),
                    "attempts": s.array(s.OBJECT), "notes": s.array(s.OBJECT), "streamed": s.FLAG,
                },
                {"driver": s.record({"state": s.TEXT, "attempt": s.NUMBER, "dueAt": s.TIME}, {"blockedOn": s.TEXT})},
            )
        ),
        failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="GetRunStep", method="GET", path="/runs/{run_id}/steps/{step_id}", tag="Runs", read_only=True,
        summary="Get a step", about="Shows one step of a run: what it was asked, what it gave, and each failure.",
        parameters=(_RUN, _STEP), answer=s.v2_answer(s.ref("Step")),
        failures=(_INVALID, Failure(404, "not_found", "There is no such run, or no such step in it.")),
    ),
    Operation(
        id="SkipStep", method="POST", path="/runs/{run_id}/steps/{step_id}/skip", tag="Runs", tool="skip_step",
        destructive=True,
        summary="Skip a step",
        about="Gives a step that waits, or is to be attempted again later, a value, and lets its run go on.",
        parameters=(_RUN, _STEP),
        body=Body(
            s.closed({}, {"data": {"description": "What the step gives; for a wait, the data of what came."}}),
            required=False,
        ),
        answer=s.v2_answer(s.record({"runId": s.ULID, "stepId": s.TEXT})), failures=_RESTS,
    ),
    Operation(
        id="WakeStep", method="POST", path="/runs/{run_id}/steps/{step_id}/wake", tag="Runs", tool="wake_step",
        destructive=True,
        summary="Wake a step",
        about="Ends what a step waits for: a sleep ends, a wait times out, a retry is attempted at once.",
        parameters=(_RUN, _STEP), body=Body(s.closed({}), required=False),
        answer=s.v2_answer(s.record({"runId": s.ULID, "stepId": s.TEXT})), failures=_RESTS,
    ),
    Operation(
        id="ListFailures", method="GET", path="/failures", tag="Runs", tool="list_failures", read_only=True,
        summary="List failures",
        about="Groups the newest failed runs by function and error; a page is made of 500 runs.",
        parameters=(Parameter("cursor", s.ULID, _CURSOR.about),), answer=s.v2_list(s.ref("Failure")),
        failures=(_INVALID,),
    ),
    Operation(
        id="GetFunctionFlow", method="GET", path="/apps/{app_id}/functions/{function_id}/flow", tag="Functions",
        tool="get_function_flow", read_only=True,
        summary="Get the flow control of a function",
        about="Shows who holds and who waits for each flow-control key, since when, and the next cron ticks.",
        parameters=(_APP, _FUNCTION),
        answer=s.v2_answer(s.record({"keys": s.array(s.ref("FlowKey")), "nextTicks": s.array(s.OBJECT)})),
        failures=(_NO_FUNCTION,),
    ),
    Operation(
        id="GetFunctionActivity", method="GET", path="/apps/{app_id}/functions/{function_id}/activity",
        tag="Functions", read_only=True,
        summary="Get the activity of a function", about="Counts its runs over time, with their delays and durations.",
        parameters=(_APP, _FUNCTION, _HOURS), answer=s.v2_answer(s.ref("Activity")),
        failures=(_INVALID, _NO_FUNCTION),
    ),
    Operation(
        id="GetActivity", method="GET", path="/activity", tag="Server", read_only=True,
        summary="Get the activity", about="Counts all runs over time, with their delays and durations.",
        parameters=(_HOURS,), answer=s.v2_answer(s.ref("Activity")), failures=(_INVALID,),
    ),
    Operation(
        id="GetAgentRun", method="GET", path="/agent-runs/{agent_run_id}", tag="Runs", read_only=True,
        summary="Get a run of an agent", about="Shows which run carries out that of a durable agent, and its status. "
        "Of a run that no durable agent has, only the id is told.",
        parameters=(_path("agent_run_id", "The id of the agent's run."),),
        answer=s.v2_answer(s.record({"id": s.TEXT}, {"agentId": s.TEXT, "status": s.TEXT, "runId": s.ULID})),
    ),
    Operation(
        id="GetSystem", method="GET", path="/system", tag="Server", read_only=True,
        summary="Get the system", about="Shows nodes, queues, the size of the store, retention and versions.",
        answer=s.v2_answer(s.OBJECT),
    ),
    Operation(
        id="CancelRun", method="POST", path="/runs/{run_id}/cancel", tag="Runs", tool="cancel_run",
        destructive=True, idempotent=True,
        summary="Cancel a run", about="Cancels a run that has not ended.",
        parameters=(_RUN,), body=Body(s.closed({}), required=False),
        answer=s.v2_answer(s.record({"runId": s.ULID})),
        failures=(
            _INVALID, _NO_RUN, _TOO_LARGE,
            Failure(409, "run_already_cancelled", "The run was cancelled before."),
            Failure(409, "run_already_ended", "The run has ended otherwise."),
        ),
    ),
    Operation(
        id="Rerun", method="POST", path="/runs/{run_id}/rerun", tag="Runs", tool="rerun",
        summary="Start a run once more",
        about="Starts a new run of the same events, from its beginning or from one of its steps.",
        parameters=(_RUN,), body=Body(s.closed({}, {"fromStep": _FROM_STEP}), required=False),
        answer=s.v2_answer(s.record({"runId": s.ULID})),
        failures=(
            _INVALID, _NO_RUN, _TOO_LARGE, _SKIPPED,
            Failure(400, "invalid_request", "The run has no such step."),
            Failure(409, "invalid_request", "The function or the events of the run are gone."),
        ),
    ),
    Operation(
        id="CreateScores", method="POST", path="/runs/{run_id}/scores", tag="Runs", tool="create_scores",
        idempotent=True,
        summary="Score a run", about="Keeps scores of a run, or of one of its steps, as metadata of its trace.",
        parameters=(_RUN,), body=Body(s.array(s.COMPONENTS["Score"])),
        answer=s.v2_answer(s.array(s.ref("Score"))), failures=(_INVALID, _NO_RUN, _TOO_LARGE),
    ),
    Operation(
        id="GetApp", method="GET", path="/apps/{app_id}", tag="Apps", tool="get_app", read_only=True,
        summary="Get an app", about="Shows one app and how it was registered last.",
        parameters=(_APP,), answer=s.v2_answer(s.ref("App")), failures=(_NO_APP,),
    ),
    Operation(
        id="GetApps", method="GET", path="/apps", tag="Apps", tool="get_apps", read_only=True,
        summary="List apps", about="Lists the apps with functions in force; with archived those without.",
        parameters=(Parameter("archived", s.FLAG, "Whether to list archived apps instead."), _limit(), _CURSOR),
        answer=s.v2_list(s.ref("App")), failures=(_INVALID,),
    ),
    Operation(
        id="SyncApp", method="POST", path="/apps/{app_id}/syncs", tag="Apps", tool="sync_app", idempotent=True,
        asks=Role.ADMIN,
        summary="Sync an app", about="Asks an app on another server to register what it has, after a deployment say.",
        parameters=(_APP,), body=Body(_SYNC, required=False), answer=s.v2_answer(_SYNCED),
        failures=(
            _INVALID, _TOO_LARGE, Failure(400, "missing_field", "There is no url, and no app to know it of."),
            Failure(422, "sync_failed", "It could not be synced: the answer tells why.", s.v2_answer(_SYNCED)),
            Failure(501, "not_implemented", "The server asks no apps: it is part of a program."),
        ),
    ),
    Operation(
        id="GetFunctions", method="GET", path="/apps/{app_id}/functions", tag="Functions", tool="list_functions",
        read_only=True,
        summary="List the functions of an app", about="Lists the functions of an app with their configuration.",
        parameters=(_APP, _limit(), _CURSOR), answer=s.v2_list(s.ref("Function")), failures=(_INVALID, _NO_APP),
    ),
    Operation(
        id="GetFunction", method="GET", path="/apps/{app_id}/functions/{function_id}", tag="Functions",
        tool="get_function", read_only=True,
        summary="Get a function", about="Shows one function: its triggers, its configuration, whether it is paused.",
        parameters=(_APP, _FUNCTION), answer=s.v2_answer(s.ref("Function")), failures=(_NO_FUNCTION,),
    ),
    Operation(
        id="InvokeFunction", method="POST", path="/apps/{app_id}/functions/{function_id}/invoke", tag="Functions",
        tool="invoke_function",
        summary="Invoke a function", about="Starts one function directly, with data as its event.",
        parameters=(_APP, _FUNCTION),
        body=Body(_INVOCATION),
        answer=s.v2_answer(s.record({"runId": s.ULID})),
        failures=(
            _INVALID, _NO_FUNCTION, _TOO_LARGE, _SKIPPED,
            Failure(400, "missing_field", "There is no data."),
            Failure(409, "duplicate", "The key was used before; the answer names the run that it started."),
            Failure(422, "function_debounced", "The start is debounced."),
            Failure(422, "function_batched", "The event waits for its batch."),
            Failure(422, "rate_limited", "The function is rate limited."),
        ),
    ),
    Operation(
        id="PauseFunction", method="POST", path="/apps/{app_id}/functions/{function_id}/pause", tag="Functions",
        tool="pause_function", idempotent=True, destructive=True,
        summary="Pause a function", about="Lets a function rest: nothing starts it, and its runs stand still.",
        parameters=(_APP, _FUNCTION), body=Body(s.closed({}), required=False),
        answer=s.v2_answer(s.ref("FunctionState")), failures=(_INVALID, _NO_FUNCTION, _TOO_LARGE),
    ),
    Operation(
        id="ResumeFunction", method="POST", path="/apps/{app_id}/functions/{function_id}/resume", tag="Functions",
        tool="resume_function", idempotent=True,
        summary="Resume a function", about="Ends the pause of a function: its runs go on where they were.",
        parameters=(_APP, _FUNCTION), body=Body(s.closed({}), required=False),
        answer=s.v2_answer(s.ref("FunctionState")), failures=(_INVALID, _NO_FUNCTION, _TOO_LARGE),
    ),
    Operation(
        id="ReplayFunction", method="POST", path="/apps/{app_id}/functions/{function_id}/replay", tag="Functions",
        tool="replay_function",
        summary="Replay the runs of a function",
        about="Starts the ended runs of a function that were queued in a span of time once more: by default those "
        "that failed.",
        parameters=(_APP, _FUNCTION), body=Body(_REPLAY, required=False),
        answer=s.v2_answer(s.ref("Replay")),
        failures=(
            _INVALID, _NO_FUNCTION, _TOO_LARGE, _SKIPPED,
            Failure(409, "replay_mismatch", "The replay's id was taken by another choice of runs."),
        ),
    ),
    Operation(
        id="SendEvent", method="POST", path="/events", tag="Events", tool="send_event",
        summary="Send an event", about="Sends one event, which starts functions, ends waits and cancels runs.",
        body=Body(s.COMPONENTS["EventV2Input"]), answer=s.v2_answer(s.record({"eventId": s.ULID})),
        failures=(_INVALID, _TOO_LARGE, Failure(400, "missing_field", "There is no name.")),
    ),
    Operation(
        id="GetAccount", method="GET", path="/account", tag="Server", read_only=True,
        summary="Get the account", about="A server has one account; it is there for clients that ask for one.",
        answer=s.v2_answer(s.record({"id": s.UUID, "name": s.TEXT, "email": s.TEXT})),
    ),
    Operation(
        id="ListEnvs", method="GET", path="/envs", tag="Server", read_only=True,
        summary="List environments", about="Lists the main environment and the branch environments beside it.",
        answer=s.v2_list(_ENVIRONMENT),
    ),
    Operation(
        id="CreateEnv", method="POST", path="/envs", tag="Server", idempotent=True, asks=Role.ADMIN,
        summary="Create an environment", about="Makes a branch environment, to be named in the header X-Inngest-Env.",
        body=Body(s.closed({"name": {**s.NAME, "description": "Its name, that of a branch say."}})),
        answer=s.v2_answer(_ENVIRONMENT), failures=(*_ENVIRONMENT_FAILURES, _TOO_MANY),
    ),
    Operation(
        id="UpdateEnv", method="PATCH", path="/envs/{env_id}", tag="Server", idempotent=True, destructive=True,
        asks=Role.ADMIN,
        summary="Archive an environment", about="Lays a branch environment to rest with all that it has, or wakes it.",
        parameters=(_path("env_id", "The id or the name of the environment."),),
        body=Body(s.closed({"isArchived": {**s.FLAG, "description": "Whether it is to rest."}})),
        answer=s.v2_answer(_ENVIRONMENT),
        failures=(*_ENVIRONMENT_FAILURES, Failure(404, "not_found", "There is no such environment."), _TOO_MANY),
    ),
    Operation(
        id="ListEventKeys", method="GET", path="/keys/events", tag="Server", read_only=True,
        summary="List event keys", about="Always empty: a server tells nobody its keys.", answer=s.v2_list(s.OBJECT),
    ),
    Operation(
        id="ListSigningKeys", method="GET", path="/keys/signing", tag="Server", read_only=True,
        summary="List signing keys", about="Always empty: a server tells nobody its keys.", answer=s.v2_list(s.OBJECT),
    ),
    Operation(
        id="ListWebhooks", method="GET", path="/env/webhooks", tag="Server", read_only=True,
        summary="List webhooks", about="Webhooks are not kept by this server: let them send to /e/{key}.",
        parameters=(Parameter("X-Inngest-Env", s.TEXT, "The environment.", "header", True),),
        status=501, answer=s.ref("Errors"),
        failures=(Failure(400, "missing_field", "There is no X-Inngest-Env header."),),
    ),
    Operation(
        id="CreateWebhook", method="POST", path="/env/webhooks", tag="Server",
        summary="Create a webhook", about="Webhooks are not kept by this server: let them send to /e/{key}.",
        parameters=(Parameter("X-Inngest-Env", s.TEXT, "The environment.", "header", True),),
        body=Body(s.OBJECT, required=False), status=501, answer=s.ref("Errors"),
        failures=(Failure(400, "missing_field", "There is no X-Inngest-Env header."),),
    ),
)  # fmt: skip
"""The operations below `/v2` and `/api/v2`."""
