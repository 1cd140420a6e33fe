"""What clients of the hosted service ask for: account, environments, keys, webhooks (part F.3 of the protocol).

A server is one account with one environment. It tells nobody its keys, and has no webhooks: theirs are events.
What only the hosted service has is answered with 501, so that nobody takes it for a wrong address.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.model.json import Json
from perdure.server.backend import Backend
from perdure.server.envelope import ApiError, v2
from perdure.server.identity import ENVIRONMENT_ID
from perdure.server.routing import Handler

ACCOUNT_ID = "00000000-0000-4000-a000-000000000000"
_SINCE = "2026-01-01T00:00:00.000Z"
"""Clients expect a time here; none is kept."""
_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_HOSTED = {
    "/envs": ["POST"],
    "/envs/{rest:path}": _ANY,
    **{
        f"/{area}{rest}": _ANY
        for area in ("partner", "sandboxes", "insights", "experiments", "sessions")
        for rest in ("", "/{rest:path}")
    },
}


def handlers(backend: Backend) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""

    def answer(data: Json, page: Json = None) -> Response:
        return v2(data, backend.clock.now(), page)

    async def account(request: Request) -> Response:
        times = {"createdAt": _SINCE, "updatedAt": _SINCE}
        return answer({"id": ACCOUNT_ID, "name": "perdure", "email": "dev@perdure.local", **times})

    async def environments(request: Request) -> Response:
        return answer([{"id": ENVIRONMENT_ID, "name": "dev", "type": "TEST", "createdAt": _SINCE}], {})

    async def keys(request: Request) -> Response:
        return answer([], {})

    return {
        "GetAccount": account,
        "ListEnvs": environments,
        "ListEventKeys": keys,
        "ListSigningKeys": keys,
        "ListWebhooks": _webhooks,
        "CreateWebhook": _webhooks,
    }


def hosted_only() -> list[Route]:
    """The routes of what only the hosted service has."""
    return [
        Route(mount + path, _hosted, methods=methods)
        for mount in ("/v2", "/api/v2")
        for path, methods in _HOSTED.items()
    ]


async def _webhooks(request: Request) -> Response:
    if not request.headers.get("x-inngest-env"):
        raise ApiError(400, "X-Inngest-Env header is required", "missing_field")
    text = "this server keeps no webhooks: let them send their bodies as events to /e/{key}"
    raise ApiError(501, text, "not_implemented")


async def _hosted(request: Request) -> Response:
    raise ApiError(501, "only the hosted service has this; perdure does not", "not_implemented")
