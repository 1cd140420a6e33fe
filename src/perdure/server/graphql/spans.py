"""The trace of a run as GraphQL shows it: the tree of `perdure.server.trace`, under this API's names.

With `preview` it is that tree. Without, as older tools know it: the root has the function's slug, its children are the
steps, and the last of them is "function success" or "function error" with what the run gave. `outputID` names run and
span, so that what came out of a span is found by making the tree again.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from graphql import GraphQLError

from perdure.engine import views
from perdure.engine.views import RunDetail
from perdure.model import ops
from perdure.model.errors import error_object
from perdure.model.ids import is_ulid
from perdure.model.json import Json, decode, encode
from perdure.model.limits import DEFAULT_INVOKE_TIMEOUT
from perdure.model.records import Run, RunMetadata, Step, StepStatus
from perdure.server.graphql.reader import Reader, begun
from perdure.server.identity import uuid_of
from perdure.server.times import rfc3339
from perdure.server.trace import trace

_NO_PARENT: Final = "0" * 16
_FINAL: Final = {"COMPLETED": "function success", "FAILED": "function error"}
_FINALIZATION: Final = "Finalization"
_INVOKE_TIMED_OUT: Final = "InngestInvokeTimeoutError"
_RUN: Final = "RUN"
_GATEWAY: Final = "AI_GATEWAY"
_TYPES: Final = {ops.GATEWAY: "step.fetch", ops.AI_GATEWAY: "step.ai.infer"}
_AI: Final = frozenset({"step.ai.wrap", "step.ai.infer"})


def trace_id(run_id: str) -> str:
    """The id of a run's trace, 16 bytes in hex."""
    return _hash(f"trace/{run_id}")[:32]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def has_ai(detail: RunDetail) -> bool:
    """Whether a step of the run called a model."""
    return any(step.op == ops.AI_GATEWAY or _opts(step).get("type") in _AI for step in detail.steps)


def span_tree(reader: Reader, detail: RunDetail, *, preview: bool) -> Json:
    """The root span, with all below it."""
    run = detail.run
    shown = _Tree(reader, detail)
    tree: Json = trace(detail, output=False)["rootSpan"]
    root = shown.node(tree, None)
    if not preview:
        children = [child for child in root["childrenSpans"] if child["name"] != _FINALIZATION or child["stepID"]]
        if root["status"] in _FINAL:
            final = {
                **root,
                "name": _FINAL[root["status"]],
                "spanID": _hash(f"final/{run.id}")[:16],
                "childrenSpans": [],
            }
            children.append({**final, "isRoot": False, "parentSpanID": root["spanID"]})
        root |= {"name": run.function_id, "childrenSpans": children}
    return root


class _Tree:
    def __init__(self, reader: Reader, detail: RunDetail) -> None:
        self._reader = reader
        self._run = detail.run
        self._steps = {step.id: step for step in detail.steps}
        self._failures = sum(1 for attempt in detail.attempts if not attempt.step_id)
        self._metadata: dict[str, list[Json]] = {}
        for row in detail.metadata:
            self._metadata.setdefault(row.target, []).append(_metadata(row))

    def node(self, span: Json, parent: str | None, attempt: int | None = None) -> dict[str, Json]:
        """A span; `parent` is the id of the one above, `attempt` its number where it is an attempt."""
        self._reader.count_spans(1)
        run = self._run
        step = self._steps.get(span.get("stepId", ""))
        duration = span.get("durationMs")
        return {
            "appID": uuid_of(run.app_id),
            "functionID": uuid_of(run.function_id),
            "runID": run.id,
            "traceID": trace_id(run.id),
            "spanID": span["id"],
            "parentSpanID": parent or _NO_PARENT,
            "isRoot": parent is None,
            "isUserland": False,
            "name": span["name"],
            "status": span["status"],
            "attempts": self._last_attempt(span, step) if attempt is None else attempt,
            "queuedAt": span["queuedAt"],
            "startedAt": span.get("startedAt"),
            "endedAt": span.get("endedAt"),
            "duration": None if duration is None else int(duration),
            "outputID": _output_id(run.id, span["id"]) if _has_output(span, step) else None,
            "stepOp": span.get("stepOp"),
            "stepID": span.get("stepId"),
            "stepType": None if step is None else _opts(step).get("type"),
            "stepInfo": None
            if step is None
            else lambda info: begun(_step_info(self._reader, run, step, span["stepOp"])),
            "metadata": self._notes(span, step, parent, attempt),
            "childrenSpans": [
                self.node(child, span["id"], None if parent is None else _attempt_number(child))
                for child in span.get("children", ())
            ],
        }

    def _last_attempt(self, span: Json, step: Step | None) -> int:
        attempts = [_attempt_number(child) for child in span.get("children", ())]
        if step is not None:
            return max([step.attempt, *attempts])
        return max(0, self._failures - 1)

    def _notes(self, span: Json, step: Step | None, parent: str | None, attempt: int | None) -> list[Json]:
        found = self._metadata.get("" if parent is None else span["id"], [])
        return found + self._metadata.get(step.id, []) if step is not None and attempt is None else found


def _attempt_number(span: Json) -> int:
    """Below the root's children there are attempts only, by their numbers."""
    number: str = span["name"].removeprefix("Attempt ")
    return int(number) if number.isdecimal() else 0


def _has_output(span: Json, step: Step | None) -> bool:
    if span["status"] not in _FINAL:
        return False
    return step is None or span.get("stepOp") == _RUN or step.data not in (None, b"null")


def _metadata(row: RunMetadata) -> Json:
    return {
        "scope": row.scope,
        "kind": row.kind,
        "values": decode(row.entries),
        "updatedAt": rfc3339(row.updated_at),
    }


# What a step was asked to do.


async def _step_info(reader: Reader, run: Run, step: Step, kind: str) -> Json:
    opts = _opts(step)
    timed_out = None if step.status > StepStatus.FAILED else step.data in (None, b"null")
    if step.op == ops.SLEEP and "until" in opts:
        return {"__typename": "SleepStepInfo", "sleepUntil": rfc3339(opts["until"])}
    if step.op == ops.WAIT_FOR_EVENT and "event" in opts:
        return {
            "__typename": "WaitForEventStepInfo",
            "eventName": opts["event"],
            "expression": opts.get("if"),
            "timeout": rfc3339(step.queued_at + opts["timeout"]),
            "foundEventID": None if timed_out is not False else _event_id(step),
            "timedOut": timed_out,
        }
    if step.op == ops.WAIT_FOR_SIGNAL and "signal" in opts:
        timeout = rfc3339(step.queued_at + opts["timeout"])
        return {
            "__typename": "WaitForSignalStepInfo",
            "signal": opts["signal"],
            "timeout": timeout,
            "timedOut": timed_out,
        }
    if step.op == ops.INVOKE and "function_id" in opts:
        return await _invoke_info(reader, run, step, opts)
    if kind in (_RUN, _GATEWAY):
        return {"__typename": "RunStepInfo", "type": opts.get("type") or _TYPES.get(step.op, "step.run")}
    return None


async def _invoke_info(reader: Reader, run: Run, step: Step, opts: dict[str, Json]) -> Json:
    invoked = await reader.view(lambda: views.invoked_run(run.id, step.id, step.queued_at))
    failed = (
        step.status == StepStatus.FAILED and error_object(decode(step.data or b"null"))["name"] == _INVOKE_TIMED_OUT
    )
    return {
        "__typename": "InvokeStepInfo",
        "triggeringEventID": None if invoked is None else invoked.event_id,
        "functionID": opts["function_id"],
        "timeout": rfc3339(step.queued_at + (opts.get("timeout") or DEFAULT_INVOKE_TIMEOUT)),
        "returnEventID": None,
        "runID": None if invoked is None else invoked.id,
        "timedOut": None if step.status > StepStatus.FAILED else failed,
    }


def _event_id(step: Step) -> str | None:
    event = decode(step.data or b"null")
    found = event.get("id") if isinstance(event, dict) else None
    return found if isinstance(found, str) else None


def _opts(step: Step) -> dict[str, Json]:
    opts = decode(step.opts) if step.opts else None
    return opts if isinstance(opts, dict) else {}


# What came out of a span.


def _output_id(run_id: str, span_id: str) -> str:
    return urlsafe_b64encode(encode({"rid": run_id, "sid": span_id})).decode()


def _of_output_id(output_id: str) -> tuple[str, str]:
    try:
        named = decode(urlsafe_b64decode(output_id.encode("ascii")))
        run_id, span_id = named["rid"], named["sid"]
    except (ValueError, TypeError, KeyError):
        run_id, span_id = "", ""
    if not (isinstance(run_id, str) and is_ulid(run_id) and isinstance(span_id, str)):
        raise GraphQLError("outputID is not valid: give one that a span of a trace has")
    return run_id, span_id


async def span_output(reader: Reader, output_id: str) -> Json:
    """What went into a span, and what came out of it: data, or an error. Raises `GraphQLError`."""
    run_id, span_id = _of_output_id(output_id)
    detail = await reader.detail(run_id)
    span = None if detail is None else _find(trace(detail, output=True)["rootSpan"], span_id)
    if detail is None or span is None:
        raise GraphQLError("there is no span with this outputID any longer")
    step = next((step for step in detail.steps if step.id == span.get("stepId")), None)
    given = span["input"]["data"] if "input" in span else None if step is None else _opts(step).get("input")
    shown: dict[str, Json] = {"input": None if given is None else reader.encoded(given), "data": None, "error": None}
    if span["status"] == "FAILED":
        shown["error"] = _error(reader, span["output"]) if "output" in span else None
    elif "output" in span:
        shown["data"] = reader.encoded(span["output"])
    return shown


def _find(span: Json, span_id: str) -> Json:
    if span["id"] == span_id:
        return span
    found = (_find(child, span_id) for child in span.get("children", ()))
    return next((each for each in found if each is not None), None)


def _error(reader: Reader, output: Json) -> Json:
    error = error_object(output)
    cause = error.get("cause")
    return {
        "message": error["message"],
        "name": error["name"],
        "stack": error.get("stack"),
        "cause": None if cause is None else reader.encoded(cause),
    }
