"""Offerings over streamable HTTP: requests of all revisions of the protocol at one address, without sessions.

Each request has all that is needed to answer it, so nothing is kept between two. Who may come in is decided before.
The package is imported in a thread at the first request: it takes half a second, which nobody else should wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from perdure.model.json import encode
from perdure.server.mcp.offering import Offering

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from perdure.model.json import Json

MAX_BODY = 4 * 1024 * 1024
_KEPT = 64
"""How many offerings are kept ready; there are as many as ways to choose toolsets."""


class McpDoor:
    """Serves offerings; they are found by a key, and made at most once."""

    def __init__(self, make: Callable[[str], Offering]) -> None:
        self._make = make
        self._servers: dict[str, Server[Json]] = {}
        self._loading = asyncio.Lock()

    async def serve(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request to the offering of a key."""
        if scope["method"] != "POST":
            # There are no sessions to end, and nothing is said that was not asked for.
            headers = {"allow": "POST"}
            await _problem(405, -32600, "MCP here takes POST alone", headers)(scope, receive, send)
            return
        server = self._servers.get(key)
        if server is None:
            if find_spec("mcp") is None:
                told = "this server has no MCP: it needs the package mcp (pip install 'perdure[mcp]')"
                await _problem(501, -32603, told)(scope, receive, send)
                return
            async with self._loading:
                server = self._servers.get(key) or await self._load(key)
        await _answer(server, scope, receive, send)

    async def _load(self, key: str) -> Server[Json]:
        build = await asyncio.to_thread(_import)
        if len(self._servers) >= _KEPT:
            self._servers.clear()
        self._servers[key] = server = build(self._make(key))
        return server


def _import() -> Callable[[Offering], Server[Json]]:
    from perdure.server.mcp.protocol import build

    # They tell of each request that it began and ended.
    for name in ("streamable_http_manager", "streamable_http"):
        logging.getLogger(f"mcp.server.{name}").setLevel(logging.WARNING)
    return build


async def _answer(server: Server[Json], scope: Scope, receive: Receive, send: Send) -> None:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings

    # Hosts and origins were looked at before. A manager keeps nothing without sessions, so each request has its own.
    manager = StreamableHTTPSessionManager(
        server,
        stateless=True,
        max_request_body_size=MAX_BODY,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    # Whitespace around a value is no part of it, which not every parser of HTTP knows.
    trimmed = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
    async with manager.run():
        await manager.handle_request(trimmed, receive, send)


def _problem(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": message}}
    return Response(encode(body), status, headers, "application/json")
