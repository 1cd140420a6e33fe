"""The operations that an app reports: from the protocol's JSON (part C.4) to `perdure.model.ops`.

Times become milliseconds here, and what another language sent as an error gets a name and a message. Keys that the
protocol does not know are passed by: SDKs leave notes of their own in operations.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from perdure.model.durations import DurationError, InstantError, parse_instant, parse_protocol_duration
from perdure.model.errors import ErrorInfo, PerdureError, error_object
from perdure.model.ids import step_hash
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.model.limits import MAX_OPS, MAX_RETRIES, MAX_WAIT, SECOND
from perdure.model.ops import (
    AI_GATEWAY,
    DEFER_ABORT,
    DEFER_ADD,
    DISCOVERY_REQUEST,
    GATEWAY,
    INVOKE,
    NONE,
    RUN_COMPLETE,
    RUN_ERROR,
    SLEEP,
    STEP_ERROR,
    STEP_FAILED,
    STEP_PLANNED,
    STEP_RAW,
    STEP_RUN,
    WAIT_FOR_EVENT,
    WAIT_FOR_SIGNAL,
    Op,
)

_OUTCOMES: Final = frozenset({STEP_RUN, STEP_RAW, STEP_ERROR, STEP_FAILED, RUN_ERROR})
_FUNCTION: Final = step_hash("complete")
"""The id that SDKs give to the outcome of the function itself. A step may have it too, but then it has a name."""
_FIRST: Final = frozenset({WAIT_FOR_EVENT, DEFER_ADD, DEFER_ABORT})
"""What is recorded before the rest of an answer, so that no step of it can send the event that is waited for."""
_KNOWN: Final = _OUTCOMES | {
    STEP_PLANNED, SLEEP, WAIT_FOR_EVENT, WAIT_FOR_SIGNAL, INVOKE, GATEWAY, AI_GATEWAY, DEFER_ADD, DEFER_ABORT,
    NONE, DISCOVERY_REQUEST, RUN_COMPLETE,
}  # fmt: skip
_WITHOUT_ID: Final = frozenset({NONE, DISCOVERY_REQUEST, RUN_COMPLETE, RUN_ERROR})
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
"""Ids are hashes. They become parts of the ids of rows, and keys of JSON as they are; nothing may pass for another."""


class MalformedOpsError(PerdureError):
    """An answer that should be operations is none that can be read: the attempt has failed."""


class FatalOpError(PerdureError):
    """An operation asks for what can never be: trying again would ask for the same, so the run fails."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.info = ErrorInfo(name, message, error=f"{name}: {message}")


class _Wire(msgspec.Struct, rename="camel"):
    op: str | None = None
    id: str | None = None
    name: str | None = None
    display_name: str | None = None
    opts: Json = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: Json = None
    timing: Json = None
    userland: Json = None
    metadata: Json = None
    retry_after: Json = msgspec.field(default=None, name="retry_after")


_decoder = msgspec.json.Decoder(list[_Wire] | _Wire | None)


def parse_ops(body: bytes, now: int, *, attempt: int = 0, no_retry: bool = False, delay: int | None = None) -> list[Op]:
    """The operations of an answer, in the order in which they are to be recorded.

    `attempt`, `no_retry` and `delay` (ms until the next attempt) are those of the answer, for the steps that failed.
    Raises `MalformedOpsError`, `FatalOpError`.

    >>> parse_ops(b'[{"op": "StepRun", "id": "86f7", "name": "a", "data": 1}]', now=0)[0].data
    b'1'
    """
    try:
        decoded = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedOpsError(f"the app answered 206 with what is no list of operations: {error}") from error
    found = decoded if isinstance(decoded, list) else [] if decoded is None else [decoded]
    return _ops(found, now, attempt, no_retry, delay)


class Checkpoint(msgspec.Struct):
    """Steps that an app finished while its answer is still to come. `request_id` names the call that it answers."""

    request_id: str
    ops: list[Op]


class _Checkpoint(msgspec.Struct):
    request_id: str = ""
    steps: list[_Wire] = []


_checkpoint_decoder = msgspec.json.Decoder(_Checkpoint)


def parse_reported(body: bytes, now: int) -> list[Op]:
    """The operations of a body with `steps`, which may be none. Raises `MalformedOpsError`, `FatalOpError`."""
    return _ops(_checkpoint_of(body).steps, now, 0, False, None)


def parse_checkpoint(body: bytes, now: int) -> Checkpoint:
    """The body of a checkpoint (part E.8). Raises `MalformedOpsError`, `FatalOpError`."""
    found = _checkpoint_of(body)
    if not found.request_id:
        raise MalformedOpsError("request_id is required: that of the call whose steps these are")
    return Checkpoint(found.request_id, _ops(found.steps, now, 0, False, None))


def _checkpoint_of(body: bytes) -> _Checkpoint:
    try:
        return _checkpoint_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedOpsError(f"the checkpoint cannot be read: {error}") from error


def _ops(found: list[_Wire], now: int, attempt: int, no_retry: bool, delay: int | None) -> list[Op]:
    if len(found) > MAX_OPS:
        raise MalformedOpsError(f"the app answered with {len(found)} operations; at most {MAX_OPS} are allowed")
    ops = [_op(index, wire, now, attempt, no_retry, delay) for index, wire in enumerate(found)]
    return sorted(ops, key=_recorded_later) if len(ops) > 1 else ops


def _recorded_later(op: Op) -> bool:
    return op.op not in _FIRST


def _op(index: int, wire: _Wire, now: int, attempt: int, no_retry: bool, delay: int | None) -> Op:
    kind = wire.op
    if kind is None or kind not in _KNOWN:
        problem = "has no opcode" if kind is None else f"has an opcode that is not known: {kind}"
        raise MalformedOpsError(f"operation {index} of the answer {problem}")
    if not wire.id and kind not in _WITHOUT_ID:
        raise MalformedOpsError(f"operation {index} of the answer ({kind}) has no id")
    if wire.id and _ID.fullmatch(wire.id) is None:
        raise MalformedOpsError(f"operation {index} of the answer ({kind}) has an id that is no hash: {wire.id[:40]!r}")
    shown = wire.display_name or _userland_id(wire.userland) or wire.name or wire.id or ""
    opts = wire.opts if isinstance(wire.opts, dict) else {}
    op = Op(kind, wire.id or "", shown, attempt=attempt, started_at=now, ended_at=now, metadata=wire.metadata)
    if kind in (STEP_ERROR, STEP_FAILED) and _is_of_function(wire):
        # So the function's failure is told when other operations come with it; the final one is to be the last.
        no_retry, op.op = no_retry or kind == STEP_FAILED, RUN_ERROR
    if kind in _OUTCOMES:
        _outcome(op, wire, opts, no_retry, delay)
    elif kind == RUN_COMPLETE:
        op.data = _json(op, wire.data)
    else:
        op.opts = _opts(op, wire, opts, now)
    return op


def _is_of_function(wire: _Wire) -> bool:
    return wire.id == _FUNCTION and wire.name is wire.display_name is wire.userland is None


def _userland_id(userland: Json) -> str | None:
    found = userland.get("id") if isinstance(userland, dict) else None
    return found if isinstance(found, str) else None


def _outcome(op: Op, wire: _Wire, opts: dict[str, Json], no_retry: bool, delay: int | None) -> None:
    # What an operation is asked to do matters to nobody once it is done, but for these.
    op.opts = {key: opts[key] for key in ("type", "input", "parallelMode") if opts.get(key) is not None} or None
    retries = opts.get("retries")
    if isinstance(retries, int) and 0 <= retries <= MAX_RETRIES:
        op.opts = {**(op.opts or {}), "retries": retries}
    if _text(opts, "experimentName"):
        op.metadata = [*(op.metadata if isinstance(op.metadata, list) else ()), _experiment(opts)]
    timing = _timing(wire.timing, op.ended_at)
    if timing is not None:
        op.started_at, op.ended_at, op.timed = *timing, True
    if op.op in (STEP_RUN, STEP_RAW):
        op.data = _json(op, wire.data)
        return
    error = wire.error if wire.error is not None else "the step failed, and its app did not say why"
    op.data = encode(error_object(error))
    op.no_retry = no_retry or (isinstance(error, dict) and error.get("noRetry") is True)
    op.retry_after = _asked_delay(wire.retry_after) if delay is None else delay


def _asked_delay(seconds: Json) -> int | None:
    """What an operation itself says of its next attempt (ms): a report has no Retry-After header for each."""
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= MAX_WAIT // SECOND:
        return int(seconds * SECOND)
    return None


def _experiment(opts: dict[str, Json]) -> Json:
    """The note that a step belongs to a variant of an experiment: SDKs tell that among the step's options."""
    values = _with(
        name=_text(opts, "experimentName"),
        variant=_text(opts, "variant"),
        selection_strategy=_text(opts, "selectionStrategy"),
    )
    return {"kind": "inngest.experiment", "scope": "step", "op": "merge", "values": values}


def _json(op: Op, data: msgspec.Raw) -> bytes:
    """Data as it came. What was only skipped so far may be no JSON: text that is no UTF-8, numbers beyond all range."""
    raw = bytes(data)
    try:
        decode(raw)
    except InvalidJsonError as error:
        raise MalformedOpsError(f"the data of operation {op.name!r} cannot be read: {error}") from error
    return raw


def _timing(timing: Json, now: int) -> tuple[int, int] | None:
    """When a step began and ended (ms), as its app says, None if that is in the future or before what can be."""
    if isinstance(timing, dict):
        start, length = timing.get("a"), timing.get("b")
        if isinstance(start, int) and isinstance(length, int) and length >= 0 and 0 < start // 1_000_000 <= now:
            return start // 1_000_000, min(now, (start + length) // 1_000_000)
    return None


def _opts(op: Op, wire: _Wire, opts: dict[str, Json], now: int) -> dict[str, Json] | None:
    kept = _wanted(op, wire, opts, now)
    if opts.get("parallelMode") == "race":
        kept["parallelMode"] = "race"
    return kept or None


def _wanted(op: Op, wire: _Wire, opts: dict[str, Json], now: int) -> dict[str, Json]:
    if op.op == SLEEP:
        duration = _text(opts, "duration") or wire.name
        if duration == "":
            # So SDKs write what they round down to nothing, such as 500 ms.
            return {"until": now}
        return {"until": _until(op, duration or "", now)}
    if op.op == WAIT_FOR_EVENT:
        event = _text(opts, "event") or wire.name
        if not event:
            raise FatalOpError("InvalidWait", f"step {op.name!r} waits for an event without saying which")
        return _with(event=event, timeout=_timeout(op, opts, now), **{"if": _text(opts, "if") or _text(opts, "match")})
    if op.op == WAIT_FOR_SIGNAL:
        signal = _text(opts, "signal") or wire.name
        if not signal:
            raise FatalOpError("InvalidWait", f"step {op.name!r} waits for a signal without saying which")
        conflict = "replace" if opts.get("conflict") == "replace" else "fail"
        return {"signal": signal, "timeout": _timeout(op, opts, now), "conflict": conflict}
    if op.op == INVOKE:
        return _invocation(op, opts, now)
    if op.op == STEP_PLANNED:
        return _with(input=opts.get("input"), type=opts.get("type"))
    # Gateways and defers: whoever carries them out checks them.
    return dict(opts)


def _with(**values: Json) -> dict[str, Json]:
    return {key: value for key, value in values.items() if value is not None}


def _invocation(op: Op, opts: dict[str, Json], now: int) -> dict[str, Json]:
    function_id = _text(opts, "function_id")
    if not function_id:
        raise FatalOpError("InvalidInvoke", f"step {op.name!r} invokes a function without saying which: function_id")
    payload = opts.get("payload")
    payload = payload if isinstance(payload, dict) else {}
    data, user, meta = payload.get("data"), payload.get("user"), payload.get("meta")
    timeout = _timeout(op, opts, now) if opts.get("timeout") else None
    return _with(
        function_id=function_id,
        # A function takes an object; what is none is handed over under the key that the SDKs use for it.
        data=data if isinstance(data, dict) or data is None else {"data": data},
        user=user if isinstance(user, dict) else None,
        v=_text(payload, "v"),
        meta=meta if isinstance(meta, dict) else None,
        timeout=timeout,
    )


def _text(opts: dict[str, Json], key: str) -> str | None:
    value = opts.get(key)
    return value if isinstance(value, str) and value else None


def _until(op: Op, text: str, now: int) -> int:
    until = _moment(op, text, now)
    if until - now > MAX_WAIT:
        raise FatalOpError(
            "InngestErrTimeoutTooLong",
            f'The sleep "{text}" ends more than one year in the future; sleeps may last at most one year.',
        )
    return until


def _timeout(op: Op, opts: dict[str, Json], now: int) -> int:
    """How long to wait (ms); nothing given means not at all."""
    text = _text(opts, "timeout")
    if text is None:
        return 0
    span = _moment(op, text, now) - now
    if span > MAX_WAIT:
        raise FatalOpError(
            "InngestErrTimeoutTooLong", f'Step {op.name!r} would wait "{text}"; waits may last at most one year.'
        )
    return max(span, 0)


def _moment(op: Op, text: str, now: int) -> int:
    try:
        return now + parse_protocol_duration(text)
    except DurationError as no_duration:
        try:
            return parse_instant(text)
        except InstantError:
            raise FatalOpError(
                "InvalidDuration", f'Step {op.name!r}: "{text}" is neither a duration nor a date: {no_duration}'
            ) from None
