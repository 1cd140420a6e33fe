"""Looks agents up before a request is handled: those of data may have been edited since the last one, on any node.

The path, or `agentId` in the query, says which agent is meant; where neither does, all are looked at, which is one read
as long as nothing has changed. For users of one app there are no agents of another.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.model.errors import PerdureError
from perdure.server.agents.callers import may_use
from perdure.server.agents.errors import told
from perdure.server.agents.registry import Agents
from perdure.server.bodies import route_path
from perdure.server.envelope import ApiError, reply

_NAMED: Final = re.compile(r"/api/(?:stored/)?agents/([^/]+)|/(?:chat|network)/([^/]+)(?:/[^/]+/stream)?$")


class Looking:
    """Stands before the routes of the room."""

    def __init__(self, room: ASGIApp, agents: Agents) -> None:
        self._room = room
        self._agents = agents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._look(scope)
            except (ApiError, PerdureError) as error:
                status, body = told(error)
                await reply(body, status)(scope, receive, send)
                return
        await self._room(scope, receive, send)

    async def _look(self, scope: Scope) -> None:
        found, asked = _NAMED.match(route_path(scope)), QueryParams(scope["query_string"])
        in_query = asked.get("agentId") or asked.get("networkId")
        named = [id for id in (None if found is None else found[1] or found[2], in_query) if id]
        if not named:
            await self._agents.stored.look_at_all()
        for id in named:
            await self._agents.stored.look(id)
            app = self._agents.app_of(id)
            if app is not None and not may_use(scope, app):
                raise ApiError(404, f"Agent with id {id} not found")
