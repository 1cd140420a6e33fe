"""The door to agents: what asks for them is answered by the room `agents`, which is loaded at the first such request.

Invariant: a server whose apps have no agents never loads that room; it does not know their paths then.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.server.backend import Backend

PATHS = ("/api/agents", "/api/agents/{rest:path}", "/api/memory/{rest:path}")


def routes(backend: Backend) -> list[BaseRoute]:
    """The paths below which agents are."""
    door = AgentDoor(backend)
    return [Route(path, door) for path in PATHS]


class AgentDoor:
    """Hands requests on to the room, once there are agents."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._room: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._room is None and self._backend.agents:
            from perdure.server.agents import make_agents_app

            self._room = make_agents_app(self._backend)
        room = self._room or PlainTextResponse("404 Not Found", 404)
        await room(scope, receive, send)
