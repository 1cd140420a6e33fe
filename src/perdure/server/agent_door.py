"""The door to agents: what asks for them is answered by the room `agents`, which is loaded at the first such request.

Invariant: a server whose apps have no agents never loads that room. Its lists of agents are empty then, and it knows no
other path below them.
"""

from __future__ import annotations

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.server.backend import Backend
from perdure.server.envelope import is_agents

PATHS = (
    *("/api/agents", "/api/agents/{rest:path}", "/api/memory/{rest:path}"),
    "/api/stored/{rest:path}",
    *("/chat/{rest:path}", "/network/{rest:path}"),
    *("/api/tools", "/api/tools/{rest:path}", "/api/background-tasks", "/api/background-tasks/{rest:path}"),
)

_NONE = {
    "/api/agents": {},
    "/api/stored/agents": {"agents": [], "total": 0, "page": 0, "perPage": 100, "hasMore": False},
}
"""What is answered to who asks for a list where there are no agents."""


def admits(backend: Backend, path: str) -> bool:
    """Whether an app's own users may ask below a path: the room itself looks at what they show then."""
    return is_agents(path) and any(app.users is not None for _, app in backend.agents.values())


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
        if self._room is None and any(app.offers for app in self._backend.apps):
            from perdure.server.agents import make_agents_app

            self._room = make_agents_app(self._backend)
        await (self._room or _without_agents(scope))(scope, receive, send)


def _without_agents(scope: Scope) -> ASGIApp:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if scope["method"] in ("GET", "HEAD") and path in _NONE:
        return JSONResponse(_NONE[path])
    return PlainTextResponse("404 Not Found", 404)
