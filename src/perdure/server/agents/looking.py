"""Looks agents up before a request is handled: those of data may have been edited since the last one, on any node.

The path, or `agentId` in the query, says which agent is meant; where neither does, all are looked at, which is one read
as long as nothing has changed.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.model.errors import PerdureError
from perdure.server.agents.errors import told
from perdure.server.agents.registry import Agents
from perdure.server.envelope import reply

_NAMED: Final = re.compile(r"/api/(?:stored/)?agents/([^/]+)|/(?:chat|network)/([^/]+)$")


class Looking:
    """Stands before the routes of the room."""

    def __init__(self, room: ASGIApp, agents: Agents) -> None:
        self._room = room
        self._agents = agents

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._look(scope)
            except PerdureError as error:
                status, body = told(error)
                await reply(body, status)(scope, receive, send)
                return
        await self._room(scope, receive, send)

    async def _look(self, scope: Scope) -> None:
        found = _NAMED.match(scope["path"])
        named = _asked(scope) if found is None else unquote(found[1] or found[2])
        if named is None:
            await self._agents.stored.look_at_all()
        else:
            await self._agents.stored.look(named)


def _asked(scope: Scope) -> str | None:
    values = parse_qs(scope["query_string"].decode("latin-1")).get("agentId")
    return values[0] if values else None
