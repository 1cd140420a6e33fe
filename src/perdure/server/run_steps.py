"""The steps of a run as operators look at them: all of it but the payloads, one step in full, a step skipped or woken.

The list is lean, so that a run of thousands of steps opens at once: what went in and came out is asked for a step at a
time. Outcomes are the JSON that was recorded. A step's first attempt has no record before its end: that it executes is
told from what this node does at the moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from perdure.engine import reads, views
from perdure.engine.streams import overview
from perdure.engine.turn import Decision
from perdure.model import ops
from perdure.model.errors import NotFoundError, RefusedError
from perdure.model.json import Json, decode
from perdure.model.ops import Op
from perdure.model.records import Attempt, Job, JobState, Run, RunMetadata, RunStatus, Step, StepStatus
from perdure.server.backend import Backend
from perdure.server.bodies import read_fields
from perdure.server.envelope import ApiError, v2
from perdure.server.queries import ulid
from perdure.server.routing import Handler
from perdure.server.run_lists import shape
from perdure.server.shapes_v2 import interval
from perdure.server.times import rfc3339
from perdure.server.trace import STEP_STATUSES, step_op

_MAX_JOBS = 5000
_MAX_EVENTS = 20
_TOLD_OPTIONS = (
    "event", "if", "signal", "function_id", "until", "timeout", "type", "input", "data", "url", "method", "events",
)  # fmt: skip


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "ListRunSteps": api.steps,
        "GetRunStep": api.step,
        "SkipStep": api.skip,
        "WakeStep": api.wake,
    }


class _Found(NamedTuple):
    run: Run
    step: Step
    failures: list[Attempt]
    invoked: Run | None
    timer: Job | None


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json) -> Response:
        return v2(data, self._backend.clock.now())

    async def steps(self, request: Request) -> Response:
        run_id = ulid(request, "Run")
        detail = await self._backend.view(partial(views.run_detail, run_id))
        if detail is None:
            raise ApiError(404, "Run not found")
        run = detail.run
        jobs: dict[str, Job] = {}
        if not RunStatus(run.status).final:
            jobs = {job.id: job for job in await self._backend.view(partial(views.jobs_of_run, run_id, _MAX_JOBS))}
        failures: dict[str, list[Attempt]] = {}
        for attempt in sorted(detail.attempts, key=lambda each: (each.started_at, each.attempt)):
            failures.setdefault(attempt.step_id, []).append(attempt)
        executing = {op.id: op for op in self._backend.executing(run_id)}
        recorded = [
            _step(run, step, failures.get(step.id, []), jobs.get(f"{run_id}.{step.id}"), executing.pop(step.id, None))
            for step in sorted(detail.steps, key=lambda step: step.seq)
            if step.op != ops.DEFER_ADD
        ]
        shown: dict[str, Json] = {
            "run": shape(self._backend, run, detail.event_ids, True) | _origin(run),
            "events": [event.to_json() for event in detail.events[:_MAX_EVENTS]],
            "steps": recorded + [_unrecorded(op) for op in executing.values()],
            "attempts": [_attempt(each, full=True) for each in failures.get("", [])],
            "notes": [_note(row) for row in detail.metadata],
        }
        spoken = await self._backend.view(partial(overview, run_id))
        shown["streamed"] = spoken is not None and spoken.standing.last > 0
        if run_id in jobs:
            shown["driver"] = _driver(jobs[run_id])
        return self._answer(shown)

    async def step(self, request: Request) -> Response:
        run_id, wanted = ulid(request, "Run"), request.path_params["step_id"]
        found = await self._backend.view(lambda: _one(run_id, wanted))
        op = next((op for op in self._backend.executing(run_id) if op.id == wanted), None)
        if found is None and op is not None:
            return self._answer(_unrecorded(op) | {"options": _told(op.opts)})
        if found is None:
            raise ApiError(404, "Step not found")
        run, step, failures, invoked, timer = found
        shown = _step(run, step, failures, timer, op)
        shown["attempts"] = [_attempt(each, full=True) for each in failures]
        shown["options"] = _told(decode(step.opts) if step.opts else {})
        if step.data is not None:
            shown["error" if step.status == StepStatus.FAILED else "output"] = decode(step.data)
        if invoked is not None:
            shown["invokedRunId"] = invoked.id
        return self._answer(shown)

    async def skip(self, request: Request) -> Response:
        run_id, step = ulid(request, "Run"), request.path_params["step_id"]
        body = await read_fields(request.scope, request.receive, "data")
        try:
            done = await self._backend.skip_step(run_id, step, body.get("data"))
        except (NotFoundError, RefusedError) as error:
            raise _refused(error) from error
        return self._answer({"runId": run_id, "stepId": done})

    async def wake(self, request: Request) -> Response:
        run_id, step = ulid(request, "Run"), request.path_params["step_id"]
        await read_fields(request.scope, request.receive)
        try:
            done = await self._backend.wake_step(run_id, step)
        except (NotFoundError, RefusedError) as error:
            raise _refused(error) from error
        return self._answer({"runId": run_id, "stepId": done})


def _one(run_id: str, wanted: str) -> Decision[_Found | None]:
    run = yield from reads.run_by_id(run_id)
    step = yield from reads.step_by_id(run_id, wanted)
    if run is None or step is None:
        return None
    failures = [each for each in (yield from reads.attempts_of(run_id)) if each.step_id == step.id]
    invoked = None
    if step.op == ops.INVOKE:
        invoked = yield from views.invoked_run(run_id, step.id, step.started_at)
    timer = yield from reads.job_by_id(f"{run_id}.{step.id}")
    return _Found(run, step, sorted(failures, key=lambda each: each.started_at), invoked, timer)


def _origin(run: Run) -> dict[str, Json]:
    """Where a run comes from besides its events."""
    shown: dict[str, Json] = {"slug": run.function_id, "functionVersion": run.function_version}
    if run.original_run_id is not None:
        shown["originalRunId"] = run.original_run_id
    if run.parent is not None:
        shown["parentRunId"] = run.parent.partition(".")[0]
    return shown


def _told(options: Json) -> Json:
    return {name: options[name] for name in _TOLD_OPTIONS if name in options} if isinstance(options, dict) else {}


def _unrecorded(op: Op) -> dict[str, Json]:
    """A step whose first attempt executes."""
    return {
        "id": op.id,
        "name": op.name,
        "op": "RUN",
        "status": "RUNNING",
        "attempt": op.attempt,
        "bytes": 0,
        "attempts": [],
        **interval(op.started_at, op.started_at, None),
    }


def _step(run: Run, step: Step, failures: list[Attempt], timer: Job | None, executing: Op | None) -> dict[str, Json]:
    ended_at, status = step.ended_at, STEP_STATUSES[StepStatus(step.status)]
    if step.status > StepStatus.FAILED and RunStatus(run.status).final:
        ended_at, status = run.ended_at, "CANCELLED"
    elif step.status == StepStatus.RETRYING:
        status = "RETRYING"
    if executing is not None and step.status > StepStatus.FAILED:
        status = "RUNNING"
    started_at = failures[0].started_at if failures else step.started_at
    shown: dict[str, Json] = {
        "id": step.id,
        "name": step.name,
        "op": step_op(step),
        "status": status,
        "attempt": step.attempt,
        "bytes": len(step.data or b""),
        "attempts": [_attempt(each, full=False) for each in failures],
        **interval(step.queued_at, started_at, ended_at),
    }
    if timer is not None:
        shown["dueAt"] = rfc3339(timer.due_at)
    if status == "WAITING" and (awaited := _awaited(step)):
        shown["waitsFor"] = awaited
    return shown


def _awaited(step: Step) -> str | None:
    """The event, the signal or the function that a step waits for."""
    options: Json = decode(step.opts) if step.opts else {}
    found: str | None = next((options[name] for name in ("event", "signal", "function_id") if name in options), None)
    return found


def _attempt(attempt: Attempt, *, full: bool) -> Json:
    shown: dict[str, Json] = {
        "attempt": attempt.attempt,
        "startedAt": rfc3339(attempt.started_at),
        "endedAt": rfc3339(attempt.ended_at),
    }
    return {**shown, "error": decode(attempt.error)} if full else shown


def _driver(job: Job) -> Json:
    shown: dict[str, Json] = {"state": JobState(job.state).name, "attempt": job.attempt, "dueAt": rfc3339(job.due_at)}
    if job.blocked_on is not None:
        shown["blockedOn"] = job.blocked_on
    return shown


def _note(row: RunMetadata) -> Json:
    at = rfc3339(row.updated_at)
    return {"target": row.target, "scope": row.scope, "kind": row.kind, "values": decode(row.entries), "updatedAt": at}


def _refused(error: NotFoundError | RefusedError) -> ApiError:
    if isinstance(error, NotFoundError):
        return ApiError(404, "Run not found")
    if error.reason == "step_not_found":
        return ApiError(404, str(error))
    if error.reason == "input_fixed":
        return ApiError(400, str(error), "invalid_field_format")
    return ApiError(409, str(error), error.reason)
