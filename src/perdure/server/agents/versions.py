"""Handlers of versions, of stored agents and of those that are declared in code.

An agent in code has no versions until somebody makes one: the first is a draft of what its code says, so that the code
counts until a version is put in force.
"""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from perdure.agents.stored.config import FIELDS
from perdure.agents.stored.storage import FIRST_MESSAGE, StoredAgents
from perdure.engine.agents.stored.versions import VERSION_ORDERS, VersionOrder, changed_fields
from perdure.server.agents.code_config import config_in_code
from perdure.server.agents.errors import InvalidRequest
from perdure.server.agents.registry import Agents
from perdure.server.agents.requests import body_of, page_of
from perdure.server.agents.stored_requests import message_of, order_of
from perdure.server.agents.stored_shapes import compared, version_record
from perdure.server.envelope import ApiError, reply


class VersionHandlers:
    """Handlers over the versions of the agents of a node."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def page(self, request: Request) -> Response:
        """`GET /api/stored/agents/{stored}/versions`, newest first."""
        id = await self._known(request)
        place, per_page = page_of(request, 20, least=0)
        field, descending = order_of(request, VERSION_ORDERS)
        found = await self._storage.versions(
            id, order_by=cast("VersionOrder", field), descending=descending, page=place, per_page=per_page
        )  # fmt: skip
        shown = list(map(version_record, found.items))
        counted = {"total": found.total, "page": place, "perPage": per_page, "hasMore": found.has_more}
        return reply({"versions": shown, "items": shown, **counted})

    async def create(self, request: Request) -> Response:
        """`POST /api/stored/agents/{stored}/versions`: the configuration in force once more, as a new version."""
        id = await self._known(request)
        message = message_of(await body_of(request))
        code = self._agents.declared(id)
        if code is not None and await self._storage.find(id) is None:
            if code.declared is None:
                raise ApiError(400, f"Agent with id {id} is of another make: it has no versions")
            config = await config_in_code(code)
            made = await self._storage.create(
                id, config, app_id=code.app.id, publish=False, message=message or FIRST_MESSAGE
            )
            return reply(version_record(made.latest))
        return reply(version_record(await self._storage.snapshot(id, message)))

    async def get(self, request: Request) -> Response:
        """`GET /api/stored/agents/{stored}/versions/{version}`."""
        id, version = await self._known(request), request.path_params["version"]
        return reply(version_record(await self._storage.version(id, version)))

    async def activate(self, request: Request) -> Response:
        """`POST /api/stored/agents/{stored}/versions/{version}/activate`."""
        id = await self._known(request)
        found = await self._storage.activate(id, request.path_params["version"])
        message = f"Version {found.number} is now active"
        return reply({"success": True, "message": message, "activeVersionId": found.id})

    async def restore(self, request: Request) -> Response:
        """`POST /api/stored/agents/{stored}/versions/{version}/restore`: that configuration, as a new version."""
        id = await self._known(request)
        return reply(version_record(await self._storage.restore(id, request.path_params["version"])))

    async def delete(self, request: Request) -> Response:
        """`DELETE /api/stored/agents/{stored}/versions/{version}`: any but the one in force."""
        id = await self._known(request)
        found = await self._storage.delete_version(id, request.path_params["version"])
        return reply({"success": True, "message": f"Version {found.number} deleted successfully"})

    async def compare(self, request: Request) -> Response:
        """`GET /api/stored/agents/{stored}/versions/compare?from=...&to=...`."""
        id = await self._known(request)
        named = [request.query_params.get(name) or "" for name in ("from", "to")]
        for name, shown in zip(("from", "to"), named, strict=True):
            if not shown:
                raise InvalidRequest(name, "Invalid input: expected string, received undefined", "query parameters")
        before, after = [await self._storage.version(id, shown) for shown in named]
        differing = changed_fields(before.config, after.config)
        return reply(compared(before, after, [field for field in FIELDS if field in differing]))

    @property
    def _storage(self) -> StoredAgents:
        return self._agents.stored.storage

    async def _known(self, request: Request) -> str:
        """The id of the agent that is meant. Raises `ApiError` (404)."""
        id: str = request.path_params["stored"]
        if self._agents.declared(id) is None and await self._storage.find(id) is None:
            raise ApiError(404, f"Agent with id {id} not found")
        return id
