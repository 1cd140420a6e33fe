"""What clients of the hosted service ask for: account, environments, keys, webhooks (part F.3 of the protocol).

A server is one account with a main environment, and branch environments beside it if it is told to have any
(`perdure.server.environments`). It tells nobody its keys, and has no webhooks: theirs are events.
What only the hosted service has is answered with 501, so that nobody takes it for a wrong address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.model.environments import MAIN_ID, EnvironmentRow, environment_id, fault, is_main
from perdure.model.json import Json
from perdure.server.backend import Backend
from perdure.server.bodies import read_fields
from perdure.server.envelope import ApiError, v2
from perdure.server.routing import Handler
from perdure.server.times import rfc3339

ACCOUNT_ID = "00000000-0000-4000-a000-000000000000"
_SINCE = "2026-01-01T00:00:00.000Z"
"""Clients expect a time here; none is kept."""
_ONE_ENVIRONMENT = "this server has one environment: perdure dev and perdure start have branch environments beside it"
_ANY = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_HOSTED = {
    f"/{area}{rest}": _ANY
    for area in ("partner", "sandboxes", "insights", "experiments", "sessions")
    for rest in ("", "/{rest:path}")
}


class Environments(Protocol):
    """The branch environments of a server. Each method raises `ApiError`, and `StoreError`."""

    async def rows(self) -> Sequence[EnvironmentRow]:
        """All of them, archived ones included."""
        ...

    async def create(self, name: str) -> EnvironmentRow:
        """Makes an environment; the one there is, if there is one."""
        ...

    async def archive(self, name: str, archived: bool) -> EnvironmentRow:
        """Lays an environment to rest, or wakes it."""
        ...


def handlers(backend: Backend, branches: Environments | None = None) -> Mapping[str, Handler]:
    """The handlers by the ids of their operations."""

    def answer(data: Json, page: Json = None) -> Response:
        return v2(data, backend.clock.now(), page)

    async def account(request: Request) -> Response:
        times = {"createdAt": _SINCE, "updatedAt": _SINCE}
        return answer({"id": ACCOUNT_ID, "name": "perdure", "email": "dev@perdure.local", **times})

    async def environments(request: Request) -> Response:
        main = {"id": MAIN_ID, "name": "dev", "type": "TEST", "isArchived": False, "createdAt": _SINCE}
        return answer([main, *(_branch(row) for row in (await branches.rows() if branches else ()))], {})

    async def create(request: Request) -> Response:
        body = await read_fields(request.scope, request.receive, "name")
        if branches is None:
            raise ApiError(501, _ONE_ENVIRONMENT, "not_implemented")
        if not isinstance(body.get("name"), str):
            raise ApiError(400, "name is required: that of the environment, as text", "missing_field")
        if problem := fault(body["name"]):
            raise ApiError(400, f"name {problem}", "invalid_field_format")
        if is_main(body["name"]):
            raise ApiError(400, f"name: {body['name']} means the main environment", "invalid_field_format")
        return answer(_branch(await branches.create(body["name"])))

    async def change(request: Request) -> Response:
        body = await read_fields(request.scope, request.receive, "isArchived")
        if branches is None:
            raise ApiError(501, _ONE_ENVIRONMENT, "not_implemented")
        archived = body.get("isArchived")
        if not isinstance(archived, bool):
            raise ApiError(400, "isArchived is required: true or false", "missing_field")
        wanted = request.path_params["env_id"]
        names = [row.name for row in await branches.rows() if wanted in (row.name, environment_id(row.name))]
        if not names:
            raise ApiError(404, f"there is no branch environment {wanted}")
        return answer(_branch(await branches.archive(names[0], archived)))

    async def keys(request: Request) -> Response:
        return answer([], {})

    return {
        "GetAccount": account,
        "ListEnvs": environments,
        "CreateEnv": create,
        "UpdateEnv": change,
        "ListEventKeys": keys,
        "ListSigningKeys": keys,
        "ListWebhooks": _webhooks,
        "CreateWebhook": _webhooks,
    }


def _branch(row: EnvironmentRow) -> Json:
    return {
        "id": environment_id(row.name),
        "name": row.name,
        "type": "BRANCH",
        "isArchived": row.archived_at is not None,
        "createdAt": rfc3339(row.created_at),
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
