"""What clients of the older revisions settle for their session: the level of logs, and which resources they watch."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import mcp_types as types
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from perdure.model.json import Json
from perdure.server.mcp.rounds import Rounds
from perdure.server.mcp.sessions import Look, Session

MAX_WATCHED = 100
Context: TypeAlias = ServerRequestContext[Json, Json]
Read: TypeAlias = Callable[[Context, types.ReadResourceRequestParams], Awaitable[HandlerResult]]


def add(server: Server[Json], rounds: Rounds, read: Read | None) -> None:
    """Lets a server keep sessions; `read` reads its resources, if it has some."""
    handlers = _Handlers(rounds, read)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, handlers.set_level)
    if read is not None:
        server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, handlers.subscribe)
        server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, handlers.unsubscribe)


def look_at(read: Read, ctx: Context, uri: str) -> Look:
    """Looks at a resource, on behalf of whoever made a request. One that cannot be read is as one that is not there."""

    async def look() -> bytes:
        try:
            found = await read(ctx, types.ReadResourceRequestParams(uri=uri))
        except MCPError:
            return b""
        shown = found.model_dump_json() if isinstance(found, BaseModel) else repr(found)
        return hashlib.sha256(shown.encode()).digest()

    return look


class _Handlers:
    def __init__(self, rounds: Rounds, read: Read | None) -> None:
        self._rounds = rounds
        self._read = read

    async def set_level(self, ctx: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
        # Without a session nothing is logged: there is nothing to settle then.
        session = self._rounds.session(ctx)
        if session is not None:
            session.level = params.level
        return types.EmptyResult()

    async def subscribe(self, ctx: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
        session, uri = self._session(ctx), str(params.uri)
        if len(session.watched) >= MAX_WATCHED and uri not in session.watched:
            raise MCPError(types.INVALID_REQUEST, f"a session watches at most {MAX_WATCHED} resources")
        if self._read is not None:
            await session.watch(uri, look_at(self._read, ctx, uri))
        session.tell = ctx.session.send_resource_updated
        return types.EmptyResult()

    async def unsubscribe(self, ctx: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
        self._session(ctx).watched.pop(str(params.uri), None)
        return types.EmptyResult()

    def _session(self, ctx: Context) -> Session:
        session = self._rounds.session(ctx)
        if session is None:
            raise MCPError(types.INVALID_REQUEST, "only within a session can resources be watched: initialize first")
        return session
