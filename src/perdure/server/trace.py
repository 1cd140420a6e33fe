"""The trace of a run as a tree of spans (part F.4 of the protocol), made from what is recorded of its steps.

Root "Run"; below it a span a step, in the order in which the steps began; below a step that failed an attempt, a
span an attempt; and "Finalization" with the attempts that the handler itself failed. Span ids are hashes, so the
same run always has the same trace.
"""

from __future__ import annotations

import hashlib

from perdure.engine.views import RunDetail
from perdure.model import ops
from perdure.model.json import Json, decode, encode
from perdure.model.records import Attempt, Run, RunStatus, Step, StepStatus
from perdure.server.shapes_v2 import STATUSES, interval
from perdure.server.times import rfc3339

_STEP_OPS = {
    ops.STEP_RUN: "RUN",
    ops.SLEEP: "SLEEP",
    ops.WAIT_FOR_EVENT: "WAIT_FOR_EVENT",
    ops.WAIT_FOR_SIGNAL: "WAIT_FOR_SIGNAL",
    ops.INVOKE: "INVOKE",
    ops.SEND_EVENT: "SEND_EVENT",
    ops.SEND_SIGNAL: "SEND_SIGNAL",
    # The protocol's name for whatever is fetched.
    ops.GATEWAY: "AI_GATEWAY",
    ops.AI_GATEWAY: "AI_GATEWAY",
}
_STEP_TYPES = {"step.fetch": "AI_GATEWAY", "step.ai.infer": "AI_GATEWAY", "step.sendEvent": "SEND_EVENT"}
"""The operations that are runs of a step, by the type that it says it has."""
STEP_STATUSES = {
    StepStatus.DONE: "COMPLETED",
    StepStatus.FAILED: "FAILED",
    StepStatus.WAITING: "WAITING",
    StepStatus.RETRYING: "RUNNING",
    StepStatus.DUE: "RUNNING",
}
_FINAL = "Finalization"


def trace(detail: RunDetail, *, output: bool) -> Json:
    """The trace of a run; with `output` also what went in and came out of each span."""
    run = detail.run
    failures: dict[str, list[Attempt]] = {}
    for attempt in detail.attempts:
        failures.setdefault(attempt.step_id, []).append(attempt)
    children = [
        _step(run, step, sorted(failures.get(step.id, []), key=_number), output)
        for step in sorted(detail.steps, key=lambda step: step.seq)
        if step.op != ops.DEFER_ADD
    ]
    if "" in failures:
        children.append(_finalization(run, sorted(failures[""], key=_number), output))
    root: dict[str, Json] = {
        "id": _span_id(run.id),
        "name": "Run",
        "status": STATUSES[RunStatus(run.status)],
        **interval(run.created_at, run.started_at, run.ended_at),
    }
    if output:
        root["input"] = {"data": [_input(event.to_json()) for event in detail.events]}
        _put_output(root, run.output)
    if children:
        root["children"] = children
    if detail.metadata:
        _put_metadata(root, _noted(detail))
    return {"runId": run.id, "rootSpan": root}


def _step(run: Run, step: Step, failures: list[Attempt], output: bool) -> Json:
    ended_at, status = step.ended_at, STEP_STATUSES[StepStatus(step.status)]
    if step.status > StepStatus.FAILED and RunStatus(run.status).final:
        # Nothing waits any longer for what was still open.
        ended_at, status = run.ended_at, "CANCELLED"
    kind: dict[str, Json] = {"stepId": step.id, "stepOp": step_op(step)}
    started_at = failures[0].started_at if failures else step.started_at
    span: dict[str, Json] = {
        "id": _span_id(run.id, step.id),
        "name": step.name,
        "status": status,
        **kind,
        **interval(step.queued_at, started_at, ended_at),
    }
    if output:
        _put_output(span, step.data)
    if failures:
        span["children"] = _attempts(run, step.id, step.queued_at, failures, kind, output)
        if step.status == StepStatus.DONE:
            queued_at = failures[-1].ended_at
            span["children"].append(_last_attempt(run, step, queued_at, kind, output))
    return span


def step_op(step: Step) -> str:
    """The protocol's word for what a step is."""
    known = _STEP_OPS.get(step.op, "RUN")
    if known == "RUN" and step.opts is not None:
        return _STEP_TYPES.get(decode(step.opts).get("type"), known)
    return known


def _attempts(
    run: Run, step_id: str, queued_at: int, failures: list[Attempt], kind: dict[str, Json], output: bool
) -> list[Json]:
    spans: list[Json] = []
    for failure in failures:
        span = _attempt_head(run, step_id, failure.attempt, "FAILED", kind)
        span |= interval(queued_at, failure.started_at, failure.ended_at)
        if output:
            _put_output(span, failure.error)
        spans.append(span)
        queued_at = failure.ended_at
    return spans


def _last_attempt(run: Run, step: Step, queued_at: int, kind: dict[str, Json], output: bool) -> Json:
    """The attempt that succeeded; it has no row of its own."""
    span = _attempt_head(run, step.id, step.attempt, "COMPLETED", kind)
    span |= interval(queued_at, step.started_at, step.ended_at)
    if output:
        _put_output(span, step.data)
    return span


def _attempt_head(run: Run, step_id: str, number: int, status: str, kind: dict[str, Json]) -> dict[str, Json]:
    span_id = _span_id(run.id, step_id or _FINAL, str(number))
    return {"id": span_id, "name": f"Attempt {number}", "status": status, **kind}


def _finalization(run: Run, failures: list[Attempt], output: bool) -> Json:
    status = STATUSES[RunStatus(run.status)]
    last = failures[-1].ended_at if run.status == RunStatus.FAILED else run.ended_at
    span: dict[str, Json] = {
        "id": _span_id(run.id, _FINAL),
        "name": _FINAL,
        "status": "RUNNING" if status == "QUEUED" else status,
        **interval(failures[0].started_at, failures[0].started_at, last),
    }
    if output:
        _put_output(span, run.output)
    span["children"] = _attempts(run, "", failures[0].started_at, failures, {}, output)
    return span


def _put_output(span: dict[str, Json], data: bytes | None) -> None:
    value = None if data is None else decode(data)
    if value is not None:
        span["output"] = value


def _noted(detail: RunDetail) -> dict[str, list[Json]]:
    """What was noted, by the id of the span that it belongs to."""
    found: dict[str, list[Json]] = {}
    hashes = {step.id for step in detail.steps}
    for row in detail.metadata:
        values = {name: _text(value) for name, value in decode(row.entries).items()}
        noted = {"scope": row.scope, "kind": row.kind, "values": values, "updatedAt": rfc3339(row.updated_at)}
        span_id = row.target
        if not row.target or row.target in hashes:
            span_id = _span_id(detail.run.id, row.target) if row.target else _span_id(detail.run.id)
        found.setdefault(span_id, []).append(noted)
    return found


def _text(value: Json) -> str:
    """A value of metadata, which are all text in v2: what is none is written as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def _put_metadata(span: dict[str, Json], noted: dict[str, list[Json]]) -> None:
    if span["id"] in noted:
        span["metadata"] = noted[span["id"]]
    for child in span.get("children", ()):
        _put_metadata(child, noted)


def _input(event: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in event.items() if key != "user"}


def _number(attempt: Attempt) -> int:
    return attempt.attempt


def _span_id(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
