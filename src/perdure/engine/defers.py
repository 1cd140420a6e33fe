"""Defers: functions that a run asks to be run once it has ended (part E.7 of the protocol).

A defer is a row among the steps of its run, but no step: it has no memo, nothing waits for it, and its id is out of
the way of theirs. While the run lasts it can be aborted; the run's end, unless it is a cancellation, emits one event
for each that is left, in its transaction. Invariants: a defer never fails its run, so what cannot be kept is rejected
with a reason; and what is known of a defer stays, so apps may report it as often as they like.

Only apps on other servers have defers: runs in this process pay nothing for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from perdure.engine import reads
from perdure.engine.mutations import PutStep
from perdure.engine.turn import Decision, Turn
from perdure.model.errors import ErrorInfo
from perdure.model.event import DEFERRED_SCHEDULE, Event, EventError, StoredEvent, parse_event
from perdure.model.ids import make_ulid, ulid_millis
from perdure.model.json import Json, decode, encode
from perdure.model.limits import MAX_DEFER_BYTES, MAX_DEFER_META_BYTES, MAX_DEFERS
from perdure.model.ops import DEFER_ABORT, DEFER_ADD, Op
from perdure.model.records import Run, Step, StepStatus
from perdure.model.sessions import resolve_sessions

_PREFIX = "defer/"
_LIVE = StepStatus.DONE
_OVER = StepStatus.FAILED


class _Kept(msgspec.Struct):
    """The options of a row: `input` and `meta` are there while the defer is live."""

    fn_slug: str
    input: msgspec.Raw = msgspec.Raw(b"{}")
    meta: dict[str, Json] | None = None

    @property
    def size(self) -> int:
        return len(memoryview(self.input))


def is_defer(step: Step) -> bool:
    """Whether a row among the steps of a run is a defer, which no handler must get as a memo."""
    return step.op == DEFER_ADD


def abortable(steps: Iterable[Step]) -> dict[str, bool]:
    """The defers of a run by the hash under which its app knows them: whether each can still be aborted.

    This is `defers` of the next request, and keeps an app from reporting what is known.
    """
    return {step.id.removeprefix(_PREFIX): step.status == _LIVE for step in steps if is_defer(step)}


def record(turn: Turn, run: Run, seq: int, op: Op) -> Decision[str | None]:
    """Keeps what a DeferAdd or DeferAbort asks for; why not, where it is rejected: a warning to log."""
    known = yield from reads.defers_of(run.id)
    if op.op == DEFER_ABORT:
        yield from _abort(turn, op, known)
        return None
    rejected = yield from _add(turn, run, seq, op, known)
    return None if rejected is None else f"defer {op.name!r} is rejected: {rejected}"


def emit(turn: Turn, run: Run) -> Decision[None]:
    """Emits the event of each live defer of a run that has ended."""
    function = turn.catalogue.get(run.function_id)
    # Of a function that is gone nobody knows where it ran.
    if function is not None and function.config.url is None:
        return
    for step in sorted((yield from reads.defers_of(run.id)), key=_place):
        if step.status == _LIVE and step.opts is not None:
            kept = msgspec.json.decode(step.opts, type=_Kept)
            meta = resolve_sessions(kept.meta)
            event = Event(DEFERRED_SCHEDULE, _data(run, kept), _event_id(run.id, step.id), turn.now, meta=meta)
            turn.emitted.append(StoredEvent(turn.ids(), event, turn.now, internal=True))


def _place(step: Step) -> int:
    return step.seq


def _add(turn: Turn, run: Run, seq: int, op: Op, known: list[Step]) -> Decision[str | None]:
    row_id = _PREFIX + op.id
    if any(step.id == row_id for step in known):
        return None
    if len(known) >= MAX_DEFERS:
        # There is no room to remember the rejection either: the app will ask, and be rejected, again.
        return f"a run may have at most {MAX_DEFERS} defers"
    opts = op.opts or {}
    slug = opts.get("fn_slug")
    data = {} if opts.get("input") is None else opts["input"]
    given = {"fn_slug": slug if isinstance(slug, str) else "", "input": data, "meta": opts.get("meta")}
    problem = _problem(given) or _too_much(given["input"], known)
    if problem is not None:
        error = ErrorInfo("DeferRejectedError", problem)
        yield _row(turn, run, row_id, op.name, seq, _OVER, encode({"fn_slug": given["fn_slug"]}), error)
        return problem
    yield _row(turn, run, row_id, op.name, seq, _LIVE, encode(given))
    return None


def _abort(turn: Turn, op: Op, known: list[Step]) -> Decision[None]:
    target = (op.opts or {}).get("target_hashed_id")
    step = next((step for step in known if step.id == f"{_PREFIX}{target}"), None)
    # SDKs do not report a defer that is aborted before it was reported, only its abortion: then there is none.
    if step is not None and step.status == _LIVE:
        slug = msgspec.json.decode(step.opts or b'{"fn_slug":""}', type=_Kept).fn_slug
        error = msgspec.json.encode(ErrorInfo("DeferAbortedError", "the run aborted it"))
        # Its input goes, and counts no longer.
        yield PutStep(
            step.run_id, step.id, step.op, step.name, _OVER, step.seq, 0, step.queued_at, step.started_at, turn.now,
            error, encode({"fn_slug": slug}),
        )  # fmt: skip


def _row(
    turn: Turn,
    run: Run,
    row_id: str,
    name: str,
    seq: int,
    status: StepStatus,
    opts: bytes,
    error: ErrorInfo | None = None,
) -> PutStep:
    data = None if error is None else msgspec.json.encode(error)
    return PutStep(run.id, row_id, DEFER_ADD, name, status, seq, 0, turn.now, turn.now, turn.now, data, opts)


def _problem(given: dict[str, Json]) -> str | None:
    """What is wrong with a defer by itself."""
    if not given["fn_slug"]:
        return "fn_slug: must be the id of the function to run, a text that is not empty"
    if not isinstance(given["input"], dict):
        return "input: must be an object"
    if given["meta"] is None:
        return None
    size = len(encode(given["meta"]))
    if size > MAX_DEFER_META_BYTES:
        return f"meta: has {size} bytes; at most {MAX_DEFER_META_BYTES} are allowed"
    try:
        parse_event({"name": DEFERRED_SCHEDULE, "meta": given["meta"]}, now=0, internal_id="", internal=True)
    except EventError as error:
        return str(error).removeprefix("event ")
    return None


def _too_much(given: Json, known: list[Step]) -> str | None:
    """Whether the inputs of a run's live defers would be too large with one more."""
    size = len(encode(given))
    live = [msgspec.json.decode(step.opts, type=_Kept) for step in known if step.status == _LIVE and step.opts]
    total = size + sum(kept.size for kept in live)
    if total <= MAX_DEFER_BYTES:
        return None
    return f"input: has {size} bytes, with the run's other defers {total}; at most {MAX_DEFER_BYTES} are allowed in all"


def _data(run: Run, kept: _Kept) -> dict[str, Json]:
    data: dict[str, Json] = decode(bytes(kept.input))
    # What says where the event comes from is not the app's to choose.
    data["_inngest"] = {
        "fn_slug": kept.fn_slug,
        "parent_app_id": run.app_id,
        "parent_fn_id": run.function_id,
        "parent_fn_slug": run.function_id,
        "parent_run_id": run.id,
    }
    return data


def _event_id(run_id: str, step_id: str) -> str:
    """The same for the same defer, so that whoever listens starts one run of it, however often it is told."""
    digest = hashlib.sha256(f"{run_id}.{step_id}".encode()).digest()
    return make_ulid(ulid_millis(run_id), int.from_bytes(digest[:10], "big"))
