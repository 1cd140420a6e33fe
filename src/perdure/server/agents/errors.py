"""Errors as the agents protocol tells them: `{"error": "<text>"}`, with `issues` where fields of a request are wrong.

What the caller can mend is a 4xx, for clients try a 5xx again, and a run must not be made twice for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from perdure.agents.agent import AgentFailedError
from perdure.agents.errors import AgentError
from perdure.agents.schemas import ShapeError
from perdure.model.errors import ConfigError, PerdureError, RefusedError, StoreError
from perdure.model.json import Json
from perdure.server.envelope import ApiError, reply

_log = logging.getLogger("perdure.server")


class InvalidRequest(ApiError):
    """Fields of a request are wrong. `part` is where: "request body" or "query parameters"."""

    def __init__(self, field: str, message: str, part: str = "request body") -> None:
        super().__init__(400, f"Invalid {part}")
        self.issues = [{"field": field, "message": message}]


def told(error: Exception) -> tuple[int, dict[str, Json]]:
    """The status and the body that tell of an error."""
    if isinstance(error, InvalidRequest):
        return error.status, {"error": error.message, "issues": error.issues}
    if isinstance(error, ApiError):
        return error.status, {"error": error.message}
    if isinstance(error, AgentFailedError):
        return 500, {"error": str(error.error.get("message") or error)}
    if isinstance(error, ShapeError | ConfigError):
        return 400, {"error": str(error)}
    if isinstance(error, AgentError):
        return error.status, {"error": str(error)}
    if isinstance(error, RefusedError):
        return 429, {"error": str(error)}
    if isinstance(error, StoreError):
        return 503, {"error": "the store cannot answer now; try again later"}
    if isinstance(error, PerdureError):
        return 503, {"error": str(error)}
    return 500, {"error": "internal server error"}


async def _answer(request: Request, error: Exception) -> Response:
    status, body = told(error)
    # What is not expected goes on to the door, which logs it.
    if status >= 500 and isinstance(error, ApiError | PerdureError):
        _log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return reply(body, status)


async def _no_route(request: Request, error: Exception) -> Response:
    return PlainTextResponse("404 Not Found", 404)


HANDLERS: Mapping[type[Exception] | int, Callable[[Request, Exception], Awaitable[Response]]] = {
    ApiError: _answer,
    PerdureError: _answer,
    HTTPException: _no_route,
    Exception: _answer,
}
"""What answers each kind of error."""
