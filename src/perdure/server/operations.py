"""Operating runs and functions: invoke, rerun, pause and resume, and single events of v2 (parts A.1 and F.3)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.engine.schedule import Refused
from perdure.model.errors import NotFoundError, RefusedError
from perdure.model.event import EventError
from perdure.model.json import Json
from perdure.server.backend import Backend
from perdure.server.bodies import read_object
from perdure.server.envelope import ApiError, reply, v2
from perdure.server.events import read_event
from perdure.server.identity import short_id
from perdure.server.queries import ulid

_LATER = ("debounced", "batched", "duplicate")
"""Refusals after which a run comes, or came, nevertheless."""
_CODES = {
    "debounced": ("function_debounced", "Function invocation was debounced."),
    "batched": ("function_batched", "Function invocation waits for its batch."),
    "skipped": ("function_skipped", "Function invocation was skipped."),
    "function_paused": ("function_skipped", "Function invocation was skipped: the function is paused."),
    "rate_limited": ("rate_limited", "Function invocation was rate limited."),
}
_EVENT_FIELDS = frozenset({"name", "data", "user", "id", "ts", "v"})


def routes(backend: Backend) -> list[Route]:
    """The routes of these operations."""
    api = _Api(backend)
    function = "/apps/{app}/functions/{function}"
    return [
        Route("/invoke/{slug}", api.invoke, methods=["POST"]),
        *(
            Route(prefix + path, endpoint, methods=["POST"])
            for prefix in ("/v2", "/api/v2")
            for path, endpoint in (
                (f"{function}/invoke", api.invoke_function),
                (f"{function}/pause", api.pause),
                (f"{function}/resume", api.resume),
                ("/runs/{id}/rerun", api.rerun),
                ("/events", api.event),
            )
        ),
    ]


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
        unknown = sorted(body.keys() - _EVENT_FIELDS)
        if unknown:
            raise ApiError(400, f"unknown field {unknown[0]!r}; an event has {', '.join(sorted(_EVENT_FIELDS))}")
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
        body = await read_object(request.scope, request.receive)
        try:
            started = await self._backend.rerun(run_id, _from_step(body))
        except NotFoundError as error:
            raise ApiError(404, "Run not found") from error
        except RefusedError as error:
            raise _refused_rerun(error) from error
        return self._answer({"runId": started.run_id})

    async def pause(self, request: Request) -> Response:
        slug = self._slug(request)
        await self._backend.pause_function(slug)
        return self._state(slug)

    async def resume(self, request: Request) -> Response:
        slug = self._slug(request)
        await self._backend.resume_function(slug)
        return self._state(slug)

    def _state(self, slug: str) -> Response:
        function = self._backend.catalogue.functions[slug]
        return self._answer({"id": short_id(slug, function.app_id), "slug": slug, "paused": function.paused})

    def _slug(self, request: Request) -> str:
        app, name = request.path_params["app"], request.path_params["function"]
        for function in self._backend.catalogue.functions.values():
            if function.app_id == app and name in (function.id, short_id(function.id, app)):
                return function.id
        raise ApiError(404, "Function not found")


def _from_step(body: dict[str, Json]) -> str | None:
    chosen = body.get("fromStep")
    if chosen is None:
        return None
    step = chosen.get("stepId") if isinstance(chosen, dict) else None
    if not isinstance(step, str) or not step:
        raise ApiError(400, "fromStep.stepId is required: the name of a step, or its hash", "missing_field")
    if chosen.get("input") is not None:
        text = "fromStep.input cannot be given: a step takes its arguments from the code of its function"
        raise ApiError(400, text, "invalid_request")
    return step


def _refusal(refused: Refused | None) -> ApiError:
    reason, message = (refused.reason, refused.message) if refused else ("refused", "no run was started")
    if reason == "duplicate":
        return ApiError(409, message, "duplicate")
    code, text = _CODES.get(reason, (reason, message))
    return ApiError(422, text, code)


def _refused_rerun(error: RefusedError) -> ApiError:
    if error.reason == "step_not_found":
        return ApiError(400, "Step not found in original run", "invalid_request")
    if error.reason in ("skipped", "function_paused"):
        return ApiError(422, str(error), "function_skipped")
    return ApiError(409, str(error), "invalid_request")


def _invalid(message: str) -> ApiError:
    return ApiError(400, message, "invalid_field_format")
