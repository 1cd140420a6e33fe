"""The envelopes: how each API wraps an answer and an error. A failed request always gets the one of its path.

- `/e`: {"ids": [""], "status": 400, "error": "..."}
- `/v2`, `/api/v2`: {"errors": [{"code": "...", "message": "..."}]}
- `/api/agents`, `/api/memory`: {"error": "..."}
- everything else: {"error": "...", "data": null, "status": 400}
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from perdure.model.json import Json, encode
from perdure.server.times import rfc3339

JSON_TYPE = "application/json"


class ApiError(Exception):
    """A request that cannot be granted. `code` is the machine word of the v2 envelope."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or _CODES.get(status, "api_error")


_CODES = {404: "not_found", 413: "request_too_large", 503: "unavailable"}


def is_v2(path: str) -> bool:
    return path == "/v2" or path.startswith(("/v2/", "/api/v2/")) or path == "/api/v2"


def is_events(path: str) -> bool:
    return path == "/e" or path.startswith("/e/")


_OF_AGENTS = (
    "/api/agents/",
    "/chat/",
    "/network/",
    "/api/memory/",
    "/api/stored/",
    "/api/tools/",
    "/api/background-tasks/",
)


def is_agents(path: str) -> bool:
    return path.startswith(_OF_AGENTS) or path in ("/api/agents", "/api/tools", "/api/background-tasks")


def error_body(path: str, error: ApiError) -> Json:
    """The error as the API of the path wraps it."""
    if is_events(path):
        return {"ids": [""], "status": error.status, "error": error.message}
    if is_v2(path):
        return {"errors": [{"code": error.code, "message": error.message}]}
    if is_agents(path):
        return {"error": error.message}
    return {"error": error.message, "data": None, "status": error.status}


def reply(body: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(encode(body), status, headers, JSON_TYPE)


def error_reply(path: str, error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    return reply(error_body(path, error), error.status, headers)


def v1(data: Json, now: int, page: Json = None) -> Response:
    """A v1 answer, of a list perhaps with its `page`."""
    body = {"data": data, "metadata": {"fetched_at": rfc3339(now)}}
    return reply(body if page is None else body | {"page": page})


def v2(data: Json, now: int, page: Json = None) -> Response:
    """A v2 answer, of a list with its `page`."""
    body = {"data": data, "metadata": {"fetchedAt": rfc3339(now)}}
    if page is not None:
        body["page"] = page
    return reply(body)


def standard_error(status: int) -> ApiError:
    """An error that has no more to say than its status: 404 "Not Found", 405 "Method Not Allowed"."""
    return ApiError(status, HTTPStatus(status).phrase, "api_error")
