"""What a served app answers to a call (parts C.3 to C.6): operations, the result, or an error.

The inverse of `perdure.wire.ops` for the operations that perdure's own steps report.
"""

from __future__ import annotations

from typing import Final

import msgspec

from perdure.model.durations import format_duration
from perdure.model.errors import ErrorInfo
from perdure.model.json import Json, encode
from perdure.model.ops import (
    INVOKE,
    RUN_COMPLETE,
    SEND_EVENT,
    SEND_SIGNAL,
    SLEEP,
    STEP_ERROR,
    STEP_FAILED,
    STEP_PLANNED,
    STEP_RUN,
    WAIT_FOR_EVENT,
    WAIT_FOR_SIGNAL,
    Op,
)
from perdure.sdk.failure import Failure
from perdure.serving.exchange import Answer
from perdure.wire import headers as names

_RACE: Final = {"parallelMode": "race"}
_COMPLETE_ID: Final = "0737c22d3bfae812339732d14d8c7dbd6dc4e09c"
_TYPES: Final = {SEND_EVENT: "step.sendEvent", SEND_SIGNAL: "step.sendSignal"}


def planned(op: Op, *, beside: bool) -> dict[str, Json]:
    """A step that the app would execute, reported so that the server calls for it alone."""
    return {**_named(op, STEP_PLANNED, op.name), "opts": _opts(_kind(op), beside)}


def waiting(op: Op, now: int, *, beside: bool) -> dict[str, Json]:
    """A step that the server decides. `beside` says that others of the run go on, and shall not wait for it."""
    given = op.opts or {}
    name, opts = _asked(op, given, now)
    return {**_named(op, op.op, name), "opts": _opts(opts, beside)}


def executed(op: Op, *, beside: bool, final: bool = False) -> dict[str, Json]:
    """A step that the app executed: its result, or its failure (`final` when it shall not be attempted again)."""
    opts = _opts({**_kind(op), **_recorded(op)}, beside)
    timing = {"a": op.started_at * 1_000_000, "b": max(op.ended_at - op.started_at, 0) * 1_000_000}
    if op.op == STEP_ERROR:
        error = op.error.to_json() if op.error is not None else {}
        kind = STEP_FAILED if final else STEP_ERROR
        return {**_named(op, kind, op.name), "opts": opts, "error": error, "timing": timing}
    return {**_named(op, STEP_RUN, op.name), "opts": opts, "data": msgspec.Raw(op.data or b"null"), "timing": timing}


def operations(*ops: dict[str, Json]) -> Answer:
    """The answer that reports operations."""
    return Answer(206, encode(list(ops)))


def result(output: bytes, *, recorded: bool) -> Answer:
    """The answer that ends the run. After steps were recorded in the call, the end is an operation as they were."""
    if recorded:
        return operations({"op": RUN_COMPLETE, "id": _COMPLETE_ID, "data": msgspec.Raw(output)})
    return Answer(200, output)


def failed(failure: Failure) -> Answer:
    """The answer for an error of the handler. The server counts the attempts."""
    found = Answer(400 if failure.no_retry else 500, encode(failure.info.to_json()))
    found.headers = {names.NO_RETRY: "true" if failure.no_retry else "false", **later(failure.retry_after)}
    return found


def error(info: ErrorInfo) -> Answer:
    """The answer for an error that trying again cannot mend."""
    return failed(Failure(info, True, None))


def later(delay: int | None) -> dict[str, str]:
    """The header that puts off the next attempt: whole seconds, of a delay in ms.

    >>> later(1500), later(None)
    ({'retry-after': '2'}, {})
    """
    return {} if delay is None else {names.RETRY_AFTER: str(max(-(-delay // 1000), 0))}


def _named(op: Op, kind: str, name: str) -> dict[str, Json]:
    return {"op": kind, "id": op.id, "name": name, "displayName": op.name, "userland": {"id": op.name}}


def _opts(opts: dict[str, Json], beside: bool) -> dict[str, Json]:
    return {**opts, **_RACE} if beside else opts


def _kind(op: Op) -> dict[str, Json]:
    kind = _TYPES.get(op.op) or (op.opts or {}).get("type")
    return {"type": kind} if kind else {}


def _recorded(op: Op) -> dict[str, Json]:
    return {key: value for key, value in (op.opts or {}).items() if key in ("input", "retries")}


def _asked(op: Op, given: dict[str, Json], now: int) -> tuple[str, dict[str, Json]]:
    """The name and the options of a wait in the protocol's spelling."""
    if op.op == SLEEP:
        # A span, not a date: the server's clock may be another.
        span = format_duration(max(given["until"] - now, 0))
        return span, {"duration": span}
    if op.op == WAIT_FOR_EVENT:
        opts = {"event": given["event"], "timeout": format_duration(given["timeout"])}
        return given["event"], {**opts, "if": given["if"]} if "if" in given else opts
    if op.op == WAIT_FOR_SIGNAL:
        opts = {"signal": given["signal"], "timeout": format_duration(given["timeout"])}
        return given["signal"], {**opts, "conflict": given["conflict"]}
    assert op.op == INVOKE, op.op
    payload = {key: given[key] for key in ("data", "user", "v") if key in given}
    opts = {"function_id": given["function_id"], "payload": payload}
    return op.name, {**opts, "timeout": format_duration(given["timeout"])} if "timeout" in given else opts
