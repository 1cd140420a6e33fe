"""Offerings over streamable HTTP: requests of all revisions of the protocol at one address.

Each request has all that is needed to answer it: those of the newest revision in themselves, those of the older ones
by the id of their session. Who may come in is decided before. The package is imported in a thread at the first request:
it takes half a second, which nobody else should wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from perdure.server.bodies import header
from perdure.server.mcp.offering import Offering
from perdure.server.mcp.seals import Seals
from perdure.server.mcp.sessions import Sessions
from perdure.server.mcp.standing import stand
from perdure.server.mcp.telling import accepts, empty, problem

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from perdure.model.json import Json

_INVALID = -32600
_KEPT = 64
"""How many offerings are kept ready; there are as many as ways to choose toolsets."""


class McpDoor:
    """Serves offerings; they are found by a key, and made at most once.

    `secret`: what sessions and questions are sealed with, asked for when the first client comes; another process with
    the same one knows them, too. Without, it is a random one.
    """

    def __init__(
        self,
        make: Callable[[str], Offering],
        secret: Callable[[], bytes] = lambda: os.urandom(32),
        ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._make = make
        self._secret = secret
        self._ending = ending
        self._known: tuple[Seals, Sessions] | None = None
        self._servers: dict[str, Server[Json]] = {}
        self._loading = asyncio.Lock()

    async def serve(self, key: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request to the offering of a key."""
        if scope["method"] != "POST":
            await self._serve_session(scope, receive, send)
            return
        server = self._servers.get(key)
        if server is None:
            if find_spec("mcp") is None:
                told = "this server has no MCP: it needs the package mcp (pip install 'perdure[mcp]')"
                await problem(send, 501, -32603, told)
                return
            async with self._loading:
                server = self._servers.get(key) or await self._load(key)
        _, sessions = self._sessions()
        await _answer(server, sessions, scope, receive, send)

    async def _serve_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers what is no POST: the opening of a standing stream, and the end of a session."""
        method, id = scope["method"], header(scope, b"mcp-session-id").strip()
        if not id or method not in ("GET", "DELETE"):
            # Without a session nothing is said that was not asked for.
            await problem(send, 405, _INVALID, "MCP here takes POST; GET and DELETE with a session", {"allow": "POST"})
            return
        _, sessions = self._sessions()
        session = sessions.find(id)
        if session is None:
            await problem(send, 404, _INVALID, "Session not found")
        elif method == "DELETE":
            sessions.end(session)
            await empty(send, 204)
        elif not accepts(scope, "text/event-stream"):
            await problem(send, 406, _INVALID, "accept text/event-stream")
        else:
            await stand(session, self._ending, receive, send)

    def _sessions(self) -> tuple[Seals, Sessions]:
        if self._known is None:
            seals = Seals(self._secret())
            self._known = seals, Sessions(seals)
        return self._known

    async def _load(self, key: str) -> Server[Json]:
        build = await asyncio.to_thread(_import)
        if len(self._servers) >= _KEPT:
            self._servers.clear()
        seals, _ = self._sessions()
        self._servers[key] = server = build(self._make(key), seals)
        return server


def _import() -> Callable[[Offering, Seals], Server[Json]]:
    from perdure.server.mcp.protocol import build

    return build


async def _answer(server: Server[Json], sessions: Sessions, scope: Scope, receive: Receive, send: Send) -> None:
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

    from perdure.server.mcp import newest, older

    # Whitespace around a value is no part of it, which not every parser of HTTP knows.
    trimmed = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}
    revision = header(trimmed, b"mcp-protocol-version")
    if not revision or revision in HANDSHAKE_PROTOCOL_VERSIONS or header(trimmed, b"mcp-session-id"):
        await older.serve(server, sessions, trimmed, receive, send)
    else:
        await newest.serve(server, trimmed, receive, send)
