"""The operations of v1 (part F.2 of the protocol). Paths are whole; errors have one envelope, without codes."""

from __future__ import annotations

from perdure.model.json import Json
from perdure.server.catalogue import schemas as s
from perdure.server.catalogue.operation import Body, Failure, Operation, Parameter

_INVALID = Failure(400, "", "A parameter or field has a value that it cannot have.")
_TOO_LARGE = Failure(413, "", "The request is over a limit.")
_NO_RUN = Failure(404, "", "There is no such run.")
_NO_EVENT = Failure(404, "", "There is no such event.")


def _id(about: str, schema: Json = s.ULID) -> Parameter:
    return Parameter("id", schema, about, "path", True)


_RUN = _id("The id of the run.")
_EVENT = _id("The internal id of the event.")
_LIMIT = Parameter(
    "limit", {"type": "integer", "minimum": 0, "maximum": 100}, "How many to return a page, at most 100; 20."
)


def _cursor(what: str) -> Parameter:
    return Parameter("cursor", s.ULID, f"The {what} seen last, to go on from there.")


_TARGET = s.record(
    {},
    {
        "step_id": {**s.MAYBE_TEXT, "description": "The id of the step, or its hash."},
        "step_index": {"type": ["integer", "null"], "minimum": 0},
        "step_attempt": {"type": ["integer", "null"], "minimum": 0},
        "span_id": s.MAYBE_TEXT,
    },
)
_METADATA = s.record(
    {
        "metadata": s.array(
            s.record(
                {"kind": s.NAME, "values": s.OBJECT},
                {"scope": s.MAYBE_TEXT, "op": s.word("merge", "set", "delete")},
            )
        )
    },
    {"target": {**_TARGET, "description": "A step or span; the run where it is left out."}},
)
_CANCELLATION = s.record(
    {"function_id": {**s.NAME, "description": "A slug, or an id within app_id."}},
    {
        "app_id": s.MAYBE_TEXT,
        "started_after": {**s.MAYBE_TIME, "description": "Only runs queued at this time or later."},
        "started_before": {**s.MAYBE_TIME, "description": "Only runs queued at this time or earlier; now."},
        "if": {**s.MAYBE_TEXT, "description": "Only runs for which this expression on `event` holds."},
    },
)

V1: tuple[Operation, ...] = (
    Operation(
        id="V1ListEvents", method="GET", path="/v1/events", tag="Events", read_only=True,
        tool="list_events",
        summary="List events", about="Lists received events, the newest first.",
        parameters=(
            _LIMIT, _cursor("internal_id"), Parameter("name", s.TEXT, "Only events of this name."),
            Parameter("received_after", s.TIME, "Only events received after this time."),
            Parameter("received_before", s.TIME, "Only events received before this time."),
        ),
        answer=s.v1_answer(s.array(s.ref("Event"))), failures=(_INVALID,),
    ),
    Operation(
        id="V1GetEvent", method="GET", path="/v1/events/{id}", tag="Events", read_only=True,
        tool="get_event",
        summary="Get an event", about="Shows one event.",
        parameters=(_EVENT,), answer=s.v1_answer(s.ref("Event")), failures=(_INVALID, _NO_EVENT),
    ),
    Operation(
        id="V1GetEventRuns", method="GET", path="/v1/events/{id}/runs", tag="Events", read_only=True,
        summary="List the runs of an event", about="Lists the runs that an event started.",
        parameters=(_EVENT,), answer=s.v1_answer(s.array(s.ref("RunV1"))), failures=(_INVALID, _NO_EVENT),
    ),
    Operation(
        id="V1ListRuns", method="GET", path="/v1/runs", tag="Runs", read_only=True,
        summary="List runs", about="Lists runs, the newest first, by app, function, status and time.",
        parameters=(
            _LIMIT, _cursor("run_id"),
            Parameter("status", s.array(s.word(*s.RUN_STATUSES)), "Only runs of these statuses."),
            Parameter("app_id", s.array(s.TEXT), "Only runs of these apps."),
            Parameter("function_id", s.array(s.TEXT), "Only runs of these functions: slugs, or ids in their apps."),
            Parameter("from", s.TIME, "Only runs queued at this time or later."),
            Parameter("until", s.TIME, "Only runs queued at this time or earlier."),
            Parameter("order", s.word("ASC", "DESC"), "ASC for the oldest first; DESC."),
        ),
        answer=s.v1_answer(s.array(s.ref("RunV1"))), failures=(_INVALID,),
    ),
    Operation(
        id="V1GetRun", method="GET", path="/v1/runs/{id}", tag="Runs", read_only=True,
        summary="Get a run", about="Shows one run with its output.",
        parameters=(_RUN,), answer=s.v1_answer(s.ref("RunV1")), failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="V1DeleteRun", method="DELETE", path="/v1/runs/{id}", tag="Runs", destructive=True, idempotent=True,
        summary="Cancel a run", about="Cancels a run; harmless when it has ended.",
        parameters=(_RUN,), answer=None, failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="V1CancelRun", method="POST", path="/v1/runs/{id}/cancel", tag="Runs", destructive=True, idempotent=True,
        summary="Cancel a run", about="Cancels a run, and tells the status that it has then.",
        parameters=(_RUN,), answer=s.v1_answer(s.record({"run_id": s.ULID, "status": s.TEXT})),
        failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="V1GetRunJobs", method="GET", path="/v1/runs/{id}/jobs", tag="Runs", read_only=True,
        tool="list_run_jobs",
        summary="List the jobs of a run", about="Lists what of a run is queued, or due at a time: at most ten.",
        parameters=(_RUN,), answer=s.v1_answer(s.array(s.ref("Job"))), failures=(_INVALID, _NO_RUN),
    ),
    Operation(
        id="V1AddRunMetadata", method="POST", path="/v1/runs/{id}/metadata", tag="Runs", idempotent=True,
        summary="Attach metadata to a run", about="Attaches notes to a run, a step or a span; the trace shows them.",
        parameters=(_RUN,), body=Body(_METADATA), answer=None, failures=(_INVALID, _NO_RUN, _TOO_LARGE),
    ),
    Operation(
        id="V1ListFunctions", method="GET", path="/v1/functions", tag="Functions", read_only=True,
        summary="List functions", about="Lists all functions in force.",
        answer=s.v1_answer(s.array(s.ref("FunctionV1"))),
    ),
    Operation(
        id="V1GetAppFunctions", method="GET", path="/v1/apps/{id}/functions", tag="Functions", read_only=True,
        summary="List the functions of an app", about="A bare array, empty for an app that is not known.",
        parameters=(_id("The id of the app.", s.NAME),), answer=s.array(s.ref("FunctionV1")),
        failures=(Failure(404, "", "The path names no app."),),
    ),
    Operation(
        id="V1ListCancellations", method="GET", path="/v1/cancellations", tag="Cancellations", read_only=True,
        summary="List cancellations in bulk", about="Lists those of the last 30 days, the newest first.",
        parameters=(_LIMIT, _cursor("id")), answer=s.v1_answer(s.array(s.ref("Cancellation"))), failures=(_INVALID,),
    ),
    Operation(
        id="V1CreateCancellation", method="POST", path="/v1/cancellations", tag="Cancellations", destructive=True,
        summary="Cancel runs in bulk", about="Cancels the runs of a function that have not ended.",
        body=Body(_CANCELLATION), answer=s.v1_answer(s.ref("Cancellation")),
        failures=(_INVALID, Failure(404, "", "There is no such function."), _TOO_LARGE),
    ),
    Operation(
        id="V1DeleteCancellation", method="DELETE", path="/v1/cancellations/{id}", tag="Cancellations",
        destructive=True,
        summary="Forget a cancellation in bulk", about="Removes it from the list; the runs stay cancelled.",
        parameters=(_id("The id of the cancellation."),), answer=None, status=204,
        failures=(_INVALID, Failure(404, "", "There is no such cancellation.")),
    ),
    Operation(
        id="V1SendSignal", method="POST", path="/v1/signals", tag="Signals",
        tool="send_signal",
        summary="Send a signal", about="Sends a signal to the run that waits for it.",
        body=Body(s.record({"signal": s.NAME}, {"data": s.ANY})),
        answer=s.v1_answer(s.record({"run_id": s.ULID})),
        failures=(_INVALID, Failure(404, "", "No run waits for the signal."), _TOO_LARGE),
    ),
    Operation(
        id="V1TakeUserTraces", method="POST", path="/v1/traces/userland", tag="Runs", idempotent=True,
        summary="Take traces of apps", about="Takes OpenTelemetry traces, so that apps need not know; keeps none.",
        body=Body(s.OBJECT, required=False), answer=s.OBJECT, failures=(_TOO_LARGE,),
    ),
    Operation(
        id="V1GetPrometheusMetrics", method="GET", path="/v1/prom/{id}", tag="Server", read_only=True,
        summary="Get metrics of an environment", about="Only the hosted service has this: see /metrics.",
        parameters=(_id("The environment.", s.NAME),), answer=s.ref("Error"), status=501,
        failures=(Failure(404, "", "The path names no environment."),),
    ),
    Operation(
        id="V1GetDoctor", method="GET", path="/v1/doctor", tag="Server", read_only=True,
        summary="Examine the server", about="Counts runs and jobs, and tells what should not be there.",
        answer=s.v1_answer(s.ref("Health")),
    ),
)  # fmt: skip
"""The operations of v1."""
