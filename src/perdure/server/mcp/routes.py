"""The address of MCP on a server: `/mcp`. Toolsets and read-only mode are chosen by the request.

`?toolsets=runs,events` or the header `X-MCP-Toolsets` leaves those toolsets; `?readonly=1` or `X-MCP-Readonly` leaves
the tools that change nothing. With the toolset `run` every function is a tool. Who may come in is the guard's business,
as for all other routes.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perdure.model.json import encode
from perdure.server.backend import Backend
from perdure.server.bodies import header
from perdure.server.mcp.asking import inside
from perdure.server.mcp.door import McpDoor
from perdure.server.mcp.offering import Offering, chosen

_NO = frozenset({"", "0", "false", "no"})


def routes(backend: Backend, application: Callable[[], ASGIApp]) -> list[Route]:
    """The routes; tools ask the application that they belong to."""
    endpoint = _Endpoint(backend, application)
    return [Route(path, endpoint) for path in ("/mcp", "/mcp/")]


class _Endpoint:
    """An ASGI application of its own, for answers may be streams."""

    def __init__(self, backend: Backend, application: Callable[[], ASGIApp]) -> None:
        self._backend = backend
        self._ask = inside(application)
        self._door = McpDoor(self._offering)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = choice(scope)
        unknown = _unknown(key)
        if unknown:
            message = f"there is no toolset {unknown}; there is {', '.join(_toolsets())}"
            body = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": message}}
            await Response(encode(body), 400, media_type="application/json")(scope, receive, send)
            return
        if "run" in key.partition(":")[2].split(","):
            # Functions come and go: what is offered is made anew when they did.
            key = f"{key}:{' '.join(sorted(self._backend.catalogue.functions))}"
        await self._door.serve(key, scope, receive, send)

    def _offering(self, key: str) -> Offering:
        from perdure.server.mcp.native import offering

        mode, names, slugs = [*key.split(":", 2), ""][:3]
        return chosen(offering(self._ask, slugs.split()), frozenset(filter(None, names.split(","))), mode == "read")


def choice(scope: Scope) -> str:
    """What a request chooses: `read:runs,events` for those toolsets without tools that change something.

    >>> choice({"query_string": b"toolsets=runs,events&readonly=1", "headers": []})
    'read:events,runs'
    """
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    names = ",".join([*asked.get("toolsets", ()), header(scope, b"x-mcp-toolsets")])
    read_only = (asked.get("readonly") or [header(scope, b"x-mcp-readonly")])[0].lower() not in _NO
    chosen_names = sorted({name.strip().lower() for name in names.split(",")} - {""})
    return f"{'read' if read_only else 'all'}:{','.join(chosen_names)}"


def _unknown(key: str) -> str:
    return next((name for name in key.partition(":")[2].split(",") if name and name not in _toolsets()), "")


def _toolsets() -> list[str]:
    from perdure.server.mcp.tools import TOOLSETS

    return list(TOOLSETS)
