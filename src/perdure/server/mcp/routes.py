"""The address of MCP on a server: `/mcp`. Toolsets and read-only mode are chosen by the request.

`?toolsets=runs,events` or the header `X-MCP-Toolsets` leaves those toolsets; `?readonly=1` or `X-MCP-Readonly` leaves
the tools that change nothing, and those are all that a viewer is offered. With the toolset `run` every function is a
tool. Who may come in is the guard's business, as for all other routes; what a tool asks, its role must allow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.model.roles import Role
from perdure.server.auth import Guard
from perdure.server.backend import Backend
from perdure.server.bodies import header
from perdure.server.mcp.asking import ASKER, Asker, inside
from perdure.server.mcp.door import McpDoor
from perdure.server.mcp.offering import Offering, chosen
from perdure.server.mcp.telling import problem
from perdure.server.permissions import granted, has_role, may

_NO = frozenset({"", "0", "false", "no"})


def routes(
    backend: Backend,
    application: Callable[[], ASGIApp],
    guard: Guard,
    draining: Callable[[], bool] = lambda: False,
) -> list[Route]:
    """The routes; tools ask the application that they belong to. What is sealed is sealed with the guard's secret.

    `draining` ends the streams of a server that is about to stop.
    """
    endpoint = _Endpoint(backend, application, guard, draining)
    return [Route(path, endpoint) for path in ("/mcp", "/mcp/")]


class _Endpoint:
    """An ASGI application of its own, for answers may be streams."""

    def __init__(
        self, backend: Backend, application: Callable[[], ASGIApp], guard: Guard, draining: Callable[[], bool]
    ) -> None:
        self._backend = backend
        self._ask = inside(application)
        self._draining = draining
        self._door = McpDoor(self._offering, partial(guard.secret, "mcp", backend.secret), draining)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = choice(scope)
        unknown = _unknown(key)
        if unknown:
            message = f"there is no toolset {unknown}; there is {', '.join(_toolsets())}"
            await problem(send, 400, -32600, message)
            return
        role = granted(scope) if has_role(scope) else None
        asker = ASKER.set(Asker(role, header(scope, b"authorization")))
        try:
            await self._door.serve(f"{key}\n{self._apps(key)}", scope, receive, send)
        finally:
            ASKER.reset(asker)

    def _apps(self, key: str) -> str:
        """What of the apps is offered: functions and agents come and go, and what is offered is made anew then."""
        functions = sorted(self._backend.catalogue.functions) if _has(key, "run") else []
        return repr((functions, [id for id, _ in sorted(self._backend.agents.items())]))

    def _offering(self, key: str) -> Offering:
        from perdure.server.mcp.agents import offered
        from perdure.server.mcp.native import offering

        asked = key.partition("\n")[0]
        mode, _, names = asked.partition(":")
        functions = self._backend.catalogue.functions if _has(asked, "run") else ()
        made = msgspec.structs.replace(
            offering(self._ask, list(functions), offered(self._backend.agents)),
            changes=lambda: self._apps(asked),
            ending=self._draining,
        )
        return chosen(made, frozenset(filter(None, names.split(","))), mode == "read")


def _has(key: str, toolset: str) -> bool:
    return toolset in key.partition(":")[2].split(",")


def choice(scope: Scope) -> str:
    """What a request chooses: `read:runs,events` for those toolsets without tools that change something.

    >>> choice({"query_string": b"toolsets=runs,events&readonly=1", "headers": []})
    'read:events,runs'
    """
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    names = ",".join([*asked.get("toolsets", ()), header(scope, b"x-mcp-toolsets")])
    read_only = (asked.get("readonly") or [header(scope, b"x-mcp-readonly")])[0].lower() not in _NO
    chosen_names = sorted({name.strip().lower() for name in names.split(",")} - {""})
    # Whoever may only read is offered nothing else.
    read_only = read_only or not may(scope, Role.OPERATOR)
    return f"{'read' if read_only else 'all'}:{','.join(chosen_names)}"


def _unknown(key: str) -> str:
    return next((name for name in key.partition(":")[2].split(",") if name and name not in _toolsets()), "")


def _toolsets() -> list[str]:
    from perdure.server.mcp.tools import TOOLSETS

    return list(TOOLSETS)
