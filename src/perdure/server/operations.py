"""Operating runs and functions: invoke, rerun, pause and resume, and single events of v2 (parts A.1 and F.3)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine.replays import REPLAYABLE
from perdure.engine.schedule import Refused
from perdure.model.durations import InstantError, parse_instant
from perdure.model.errors import NotFoundError, RefusedError
from perdure.model.event import EventError
from perdure.model.json import Json
from perdure.model.records import RunStatus
from perdure.server.backend import Backend
from perdure.server.bodies import check_fields, read_fields
from perdure.server.envelope import ApiError, reply, v2
from perdure.server.events import read_event
from perdure.server.identity import short_id
from perdure.server.queries import ulid
from perdure.server.routing import Handler
from perdure.server.shapes_v2 import STATUSES
from perdure.server.times import rfc3339

_LATER = ("debounced", "batched", "duplicate")
"""Refusals after which a run comes, or came, nevertheless."""
_CODES = {
    "debounced": ("function_debounced", "Function invocation was debounced."),
    "batched": ("function_batched", "Function invocation waits for its batch."),
    "skipped": ("function_skipped", "Function invocation was skipped."),
    "function_paused": ("function_skipped", "Function invocation was skipped: the function is paused."),
    "rate_limited": ("rate_limited", "Function invocation was rate limited."),
}
_EVENT_FIELDS = ("data", "id", "name", "ts", "user", "v")
_MAX_REPLAY_ID = 128


def routes(backend: Backend) -> list[Route]:
    """The route besides v2: a function by its slug."""
    return [Route("/invoke/{slug}", _Api(backend).invoke, methods=["POST"])]


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""
    api = _Api(backend)
    return {
        "InvokeFunction": api.invoke_function,
        "PauseFunction": api.pause,
        "ResumeFunction": api.resume,
        "ReplayFunction": api.replay,
        "Rerun": api.rerun,
        "SendEvent": api.event,
    }


class _Api:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _answer(self, data: Json, status: int = 200) -> Response:
        answer = v2(data, self._backend.clock.now())
        answer.status_code = status
        return answer

    async def invoke(self, request: Request) -> Response:
        slug: str = request.path_params["slug"]
        body = await read_event(request.scope, request.receive)
        if self._backend.catalogue.get(slug) is None:
            raise ApiError(404, f"Function not found: {slug}")
        try:
            invoked = await self._backend.invoke(slug, body)
        except EventError as error:
            raise ApiError(400, error.reason) from error
        if invoked.refused is not None and invoked.refused.reason not in _LATER:
            raise ApiError(422, invoked.refused.message)
        return reply({"id": invoked.event_id, "status": 200})

    async def invoke_function(self, request: Request) -> Response:
        slug = self._slug(request)
        body = await read_event(request.scope, request.receive)
        check_fields(body, "data", "idempotencyKey")
        if body.get("data") is None:
            raise ApiError(400, "Input data is required", "missing_field")
        key = body.get("idempotencyKey")
        if key is not None and not isinstance(key, str):
            raise _invalid("idempotencyKey must be a string")
        try:
            invoked = await self._backend.invoke(slug, {"data": body["data"], "id": key})
        except EventError as error:
            raise _invalid(error.reason) from error
        if invoked.run_id is None:
            raise _refusal(invoked.refused)
        return self._answer({"runId": invoked.run_id}, 200 if invoked.refused is None else 409)

    async def event(self, request: Request) -> Response:
        body = await read_event(request.scope, request.receive)
        check_fields(body, *_EVENT_FIELDS)
        if not body.get("name"):
            raise ApiError(400, "Event name is required", "missing_field")
        ts = body.get("ts")
        if isinstance(ts, str):
            # 64-bit numbers are text in this API.
            if not (ts.isdecimal() and ts.isascii() and len(ts) < 19):
                raise _invalid("ts must be a whole number of milliseconds")
            body["ts"] = int(ts)
        try:
            accepted = await self._backend.ingest([body])
        except EventError as error:
            raise _invalid(error.reason) from error
        return self._answer({"eventId": accepted.event_ids[0]})

    async def rerun(self, request: Request) -> Response:
        run_id = ulid(request, "Run")
        body = await read_fields(request.scope, request.receive, "fromStep")
        try:
            started = await self._backend.rerun(run_id, *_from_step(body))
        except NotFoundError as error:
            raise ApiError(404, "Run not found") from error
        except RefusedError as error:
            raise _refused_rerun(error) from error
        return self._answer({"runId": started.run_id})

    async def pause(self, request: Request) -> Response:
        slug = self._slug(request)
        await read_fields(request.scope, request.receive)
        await self._backend.pause_function(slug)
        return self._state(slug)

    async def resume(self, request: Request) -> Response:
        slug = self._slug(request)
        await read_fields(request.scope, request.receive)
        await self._backend.resume_function(slug)
        return self._state(slug)

    async def replay(self, request: Request) -> Response:
        slug = self._slug(request)
        body = await read_fields(request.scope, request.receive, "from", "until", "status", "replayId")
        replay_id = body.get("replayId")
        if replay_id is not None and not (isinstance(replay_id, str) and 0 < len(replay_id) <= _MAX_REPLAY_ID):
            raise _invalid(f"replayId must be a text of 1 to {_MAX_REPLAY_ID} characters")
        span = _instant(body, "from"), _instant(body, "until")
        if span[0] is not None and span[1] is not None and span[0] > span[1]:
            raise _invalid("from must not be after until")
        try:
            replay = await self._backend.replay(
                slug, id=replay_id, statuses=_ended(body), queued_from=span[0], queued_until=span[1]
            )
        except RefusedError as error:
            raise _refused_replay(error) from error
        shown: dict[str, Json] = {"id": replay.id, "runCount": replay.started, "skippedCount": replay.skipped}
        shown["createdAt"] = rfc3339(replay.created_at)
        shown["endedAt"] = rfc3339(self._backend.clock.now() if replay.ended_at is None else replay.ended_at)
        return self._answer(shown)

    def _state(self, slug: str) -> Response:
        function = self._backend.catalogue.functions[slug]
        return self._answer({"id": short_id(slug, function.app_id), "slug": slug, "paused": function.paused})

    def _slug(self, request: Request) -> str:
        app, name = request.path_params["app_id"], request.path_params["function_id"]
        for function in self._backend.catalogue.functions.values():
            if function.app_id == app and name in (function.id, short_id(function.id, app)):
                return function.id
        raise ApiError(404, "Function not found")


def _from_step(body: dict[str, Json]) -> tuple[str | None, list[Json] | None]:
    """The step from which a rerun begins, and what it gets instead of its own arguments."""
    chosen = body.get("fromStep")
    if chosen is None:
        return None, None
    step = chosen.get("stepId") if isinstance(chosen, dict) else None
    if isinstance(chosen, dict):
        check_fields(chosen, "stepId", "input", where="fromStep.")
    if not isinstance(step, str) or not step:
        raise ApiError(400, "fromStep.stepId is required: the name of a step, or its hash", "missing_field")
    arguments = chosen.get("input")
    if arguments is not None and not isinstance(arguments, list):
        raise _invalid("fromStep.input must be a list: the arguments of the step")
    return step, arguments


def _instant(body: dict[str, Json], name: str) -> int | None:
    text = body.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise _invalid(f"{name} must be a time, such as 2027-01-15T08:00:00Z")
    try:
        return parse_instant(text)
    except InstantError as error:
        raise _invalid(f"{name}: {error}") from error


def _ended(body: dict[str, Json]) -> list[RunStatus]:
    """The statuses that a replay asks for: FAILED, unless it says otherwise."""
    words = {STATUSES[status]: status for status in REPLAYABLE}
    wanted = body.get("status")
    if wanted is None:
        return [RunStatus.FAILED]
    if not isinstance(wanted, list) or not wanted:
        raise _invalid(f"status must be a list of {', '.join(words)}")
    chosen = [words.get(each.upper()) if isinstance(each, str) else None for each in wanted]
    if None in chosen:
        raise _invalid(f"status is invalid: runs that have ended are {', '.join(words)}")
    return [status for status in chosen if status is not None]


def _refused_replay(error: RefusedError) -> ApiError:
    if error.reason == "function_paused":
        return ApiError(422, str(error), "function_skipped")
    return ApiError(409, str(error), error.reason)


def _refusal(refused: Refused | None) -> ApiError:
    reason, message = (refused.reason, refused.message) if refused else ("refused", "no run was started")
    if reason == "duplicate":
        return ApiError(409, message, "duplicate")
    code, text = _CODES.get(reason, (reason, message))
    return ApiError(422, text, code)


def _refused_rerun(error: RefusedError) -> ApiError:
    if error.reason == "step_not_found":
        return ApiError(400, "Step not found in original run", "invalid_request")
    if error.reason == "input_fixed":
        return ApiError(400, str(error), "invalid_request")
    if error.reason in ("skipped", "function_paused"):
        return ApiError(422, str(error), "function_skipped")
    return ApiError(409, str(error), "invalid_request")


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "invalid_field_format")
