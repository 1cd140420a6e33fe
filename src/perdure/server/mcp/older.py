"""The older revisions of the protocol (2024-11-05 to 2025-11-25) over HTTP: one request is one exchange.

The answer is JSON, unless something is to be told or asked before it: then it is a stream of events, with the answer
at its end. Only a client with a session can be asked, for its answers come as requests of their own. Without a session
every request is answered for itself. A client that leaves does not cancel what it asked for: these revisions say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import anyio
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp_types import DEFAULT_NEGOTIATED_VERSION, INTERNAL_ERROR, INVALID_REQUEST, REQUEST_TIMEOUT
from starlette.types import Receive, Scope, Send

from perdure.model.json import Json
from perdure.server.bodies import header
from perdure.server.mcp.exchange import Exchange, Refused, is_id, read_message
from perdure.server.mcp.sessions import KEY, Session, Sessions
from perdure.server.mcp.telling import Telling, accepts, empty, left, plain, problem

ANSWER_WITHIN: Final = 600.0
"""How long a person may take to answer (seconds)."""
_NO_SESSION = "Session not found: it is over, or of another server; initialize a new one"


async def serve(server: Server[Json], sessions: Sessions, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a POST."""
    if not accepts(scope, "application/json"):
        return await problem(send, 406, INVALID_REQUEST, "accept application/json, text/event-stream")
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        return await problem(send, 415, INVALID_REQUEST, "the body must be application/json")
    id = header(scope, b"mcp-session-id").strip()
    session = sessions.find(id) if id else None
    if id and session is None:
        return await problem(send, 404, INVALID_REQUEST, _NO_SESSION)
    try:
        message = await read_message(scope, receive)
    except Refused as error:
        return await problem(send, error.status, error.code, str(error))
    if isinstance(message, list) and message:
        return await _batch(server, session, message, scope, receive, send)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return await problem(send, 400, INVALID_REQUEST, "the body must be one message of JSON-RPC 2.0")
    if not isinstance(message.get("method"), str) or "id" not in message:
        return await _take(session, message, send)
    if not is_id(message["id"]):
        return await problem(send, 400, INVALID_REQUEST, "the id of a request is a text or a whole number")
    await _request(server, sessions, session, message, scope, receive, send)


async def _take(session: Session | None, message: dict[str, Json], send: Send) -> None:
    """Takes what needs no answer: a notification, or the answer to a question of ours."""
    if "method" not in message:
        if "id" not in message or not ("result" in message or "error" in message):
            return await problem(send, 400, INVALID_REQUEST, "the body must be one message of JSON-RPC 2.0")
        if session is None or not session.answer(message):
            # It may have been answered before, or asked by a process that is gone.
            return await problem(send, 404, INVALID_REQUEST, "nobody waits for this answer here")
    elif session is not None and message["method"] == "notifications/cancelled":
        params = message.get("params")
        id = params.get("requestId") if isinstance(params, dict) else None
        if is_id(id) and id in session.cancels:
            session.cancels[id]()
    await empty(send, 202)


async def _request(
    server: Server[Json],
    sessions: Sessions,
    session: Session | None,
    message: dict[str, Json],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    telling = Telling(send, can_stream=accepts(scope, "text/event-stream"))
    exchange = Asking(message, session, scope, receive, telling)
    try:
        if message["method"] == "initialize" and session is None:
            answer = await exchange.served(server)
            if "result" in answer:
                telling.headers["mcp-session-id"] = _begun(sessions, message, answer["result"]).id
        else:
            answer = await exchange.served(server)
    finally:
        telling.rest()
    await telling.end(answer)


def _begun(sessions: Sessions, message: dict[str, Json], result: dict[str, Json]) -> Session:
    capabilities = message["params"].get("capabilities")
    return sessions.begin(result["protocolVersion"], capabilities if isinstance(capabilities, dict) else {})


async def _batch(
    server: Server[Json], session: Session | None, messages: list[Json], scope: Scope, receive: Receive, send: Send
) -> None:
    """Answers several messages at once, as the revision 2025-03-26 has it. Nothing is told before the answers."""
    if not all(isinstance(each, dict) and each.get("jsonrpc") == "2.0" for each in messages):
        return await problem(send, 400, INVALID_REQUEST, "the body must be messages of JSON-RPC 2.0")
    answers: list[Json] = []
    for message in messages:
        if isinstance(message.get("method"), str) and is_id(message.get("id")):
            exchange = Asking(message, session, scope, receive, Telling(send, can_stream=False))
            answers.append(await exchange.served(server))
        elif session is not None and "method" not in message:
            session.answer(message)
    return await plain(send, answers) if answers else await empty(send, 202)


class Asking(Exchange):
    """A request whose client can be asked, if it has a session."""

    def __init__(
        self, message: dict[str, Json], session: Session | None, scope: Scope, receive: Receive, telling: Telling
    ) -> None:
        super().__init__(message, scope if session is None else {**scope, KEY: session}, telling)
        self._session = session
        self._revision = header(scope, b"mcp-protocol-version") or DEFAULT_NEGOTIATED_VERSION
        self._receive = receive
        self._leaving: asyncio.Future[None] | None = None
        self.can_send_request = session is not None and telling.can_stream

    async def served(self, server: Server[Json]) -> dict[str, Json]:
        """The message that answers the request; it may be cancelled by the client meanwhile."""
        session = self._session
        if session is None:
            return await self.answer(server, Connection.from_envelope(self._revision, None, {}))
        try:
            with anyio.CancelScope() as scope:
                session.cancels[self.request_id] = scope.cancel
                return await self.answer(server, Connection.from_envelope(session.revision, None, session.capabilities))
        finally:
            # Nobody reads what would be asked from now on.
            self.can_send_request = False
            session.cancels.pop(self.request_id, None)
            if self._leaving is not None:
                self._leaving.cancel()
        return self.error(INVALID_REQUEST, "the client cancelled this request")

    async def send_raw_request(
        self, method: str, params: Mapping[str, Json] | None, opts: CallOptions | None = None
    ) -> dict[str, Json]:
        """Asks the client. Raises `MCPError` for its error, and where no answer comes."""
        if self._session is None or not self.can_send_request:
            raise NoBackChannelError(method)
        id, answered = self._session.question()
        await self._telling.tell({"jsonrpc": "2.0", "id": id, "method": method, "params": dict(params or {})})
        self._leaving = self._leaving or asyncio.ensure_future(left(self._receive))
        try:
            within = (opts or {}).get("timeout", ANSWER_WITHIN)
            await asyncio.wait({answered, self._leaving}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise MCPError(REQUEST_TIMEOUT, f"the client did not answer {method}")
            message = answered.result()
        finally:
            answered.cancel()
        if "error" in message:
            error = message["error"] if isinstance(message["error"], dict) else {}
            raise MCPError(int(error.get("code", INTERNAL_ERROR)), str(error.get("message", "")), error.get("data"))
        return message["result"] if isinstance(message["result"], dict) else {}
