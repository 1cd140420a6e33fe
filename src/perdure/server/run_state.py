"""What an app that was called fetches and reports of its run: large state (`use_api`), and checkpoints (C.1, E.8).

A checkpoint is on the way of every step of some SDKs, so the door comes here without asking the router.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from perdure.apps.plan import Plan
from perdure.apps.run import StaleCallError, UnknownRunError
from perdure.engine import reads
from perdure.engine.turn import Decision
from perdure.model.event import Event
from perdure.model.ids import is_ulid
from perdure.model.limits import MAX_REPLY_BYTES
from perdure.model.records import RunStatus, Step
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import JSON_TYPE, ApiError, reply
from perdure.wire.calls import NO_VERSION, canonical_events
from perdure.wire.ops import FatalOpError, MalformedOpsError

_PREFIXES = ("/v1/checkpoint/", "/v1/http/runs/")
_SUFFIX = "/async"


def checkpointed_run(path: str) -> str | None:
    """The run of a checkpoint's path; None for every other path."""
    if not path.endswith(_SUFFIX):
        return None
    for prefix in _PREFIXES:
        if path.startswith(prefix):
            run_id = path[len(prefix) : -len(_SUFFIX)]
            return run_id if run_id and "/" not in run_id else None
    return None


async def post_checkpoint(backend: Backend, run_id: str, scope: Scope, receive: Receive) -> Response:
    """Records what an app has finished while it still works on its answer."""
    body = await read_body(scope, receive, MAX_REPLY_BYTES)
    try:
        await backend.checkpoint(run_id, body)
    except UnknownRunError as error:
        return reply({"error": str(error), "data": {"run_id": run_id}, "status": 400}, 400)
    except StaleCallError as error:
        return reply({"error": str(error), "data": {"run_id": run_id}, "status": 409}, 409)
    except (MalformedOpsError, FatalOpError) as error:
        raise ApiError(400, str(error)) from error
    return Response(status_code=200, media_type=JSON_TYPE)


def routes(backend: Backend) -> list[Route]:
    """The routes by which apps fetch the state of a run."""

    async def load(request: Request) -> tuple[list[Event], list[Step]]:
        run_id: str = request.path_params["id"]
        if not is_ulid(run_id):
            raise ApiError(400, f"Invalid run ID: {run_id}")
        found = await backend.view(lambda: _state(run_id))
        if found is None:
            raise ApiError(410, f"runtime state is no longer available for runID: {run_id}")
        return found

    async def actions(request: Request) -> Response:
        _, steps = await load(request)
        memos = Plan(steps, NO_VERSION).memos
        body = b",".join(b'"' + key.encode() + b'":' + memo for key, memo in memos.items())
        return Response(b"{" + body + b"}", media_type=JSON_TYPE)

    async def batch(request: Request) -> Response:
        events, _ = await load(request)
        return Response(b"[" + b",".join(canonical_events(events)) + b"]", media_type=JSON_TYPE)

    return [Route("/v0/runs/{id}/actions", actions), Route("/v0/runs/{id}/batch", batch)]


def _state(run_id: str) -> Decision[tuple[list[Event], list[Step]] | None]:
    run = yield from reads.run_by_id(run_id)
    if run is None or RunStatus(run.status).final:
        return None
    events = yield from reads.run_events(run)
    return events, (yield from reads.steps_of(run_id))
