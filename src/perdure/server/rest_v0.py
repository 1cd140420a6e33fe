"""What is left of the v0 REST API besides the routes of apps: runs cancelled, and telemetry taken (part F.1)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.model.errors import NotFoundError
from perdure.model.ids import is_ulid
from perdure.server.backend import Backend
from perdure.server.bodies import read_body
from perdure.server.envelope import ApiError

_NO_RUN = "A function run with the given ID could not be found"
_MAX_TELEMETRY = 1024 * 1024


def routes(backend: Backend) -> list[Route]:
    """The routes of the API."""

    async def cancel(request: Request) -> Response:
        run_id: str = request.path_params["id"]
        if not is_ulid(run_id):
            raise ApiError(400, f"Invalid run ID: {run_id}")
        try:
            await backend.cancel(run_id)
        except NotFoundError as error:
            raise ApiError(404, _NO_RUN) from error
        return Response(status_code=204)

    async def telemetry(request: Request) -> Response:
        # What tools tell about their use goes nowhere; that they may tell it keeps them working.
        await read_body(request.scope, request.receive, _MAX_TELEMETRY)
        return Response(status_code=204)

    return [
        Route("/v0/runs/{id}", cancel, methods=["DELETE"]),
        Route("/v0/telemetry", telemetry, methods=["POST"]),
    ]
