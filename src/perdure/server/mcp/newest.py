"""The newest revision of the protocol (2026-07-28) over HTTP: each request says in itself all that is to be known.

What its headers say must be what its body says, so that whoever is between can rely on them. The answer is JSON, unless
something is told before it: then it is a stream of events. A client that leaves cancels what it asked for.
"""

from __future__ import annotations

import asyncio
from typing import Final

from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    unsupported_protocol_version_rejection,
    validate_mcp_param_headers,
)
from mcp_types import HEADER_MISMATCH, INVALID_REQUEST
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from perdure.model.json import Json
from perdure.server.mcp.exchange import Exchange, Refused, is_id, read_message
from perdure.server.mcp.telling import Telling, accepts, empty, left, problem

_LISTEN: Final = "subscriptions/listen"
_NO_MESSAGE = "Body must be a single JSON-RPC request or notification object"


async def serve(server: Server[Json], scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a POST."""
    streams = accepts(scope, "text/event-stream")
    if not accepts(scope, "application/json"):
        return await problem(send, 406, INVALID_REQUEST, "accept application/json, text/event-stream")
    try:
        message = await read_message(scope, receive)
    except Refused as error:
        return await problem(send, error.status, error.code, str(error))
    headers = Headers(scope=scope)
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0" or not isinstance(message.get("method"), str):
        return await problem(send, 400, INVALID_REQUEST, _NO_MESSAGE)
    if "id" not in message:
        # There is nothing that a client would have to say so: a request is cancelled by leaving.
        unserved = unsupported_protocol_version_rejection(headers.get("mcp-protocol-version", ""))
        return await (empty(send, 202) if unserved is None else _reject(send, None, unserved))
    if not is_id(message["id"]):
        return await problem(send, 400, INVALID_REQUEST, _NO_MESSAGE)
    if message["method"] == _LISTEN and not streams:
        return await problem(send, 406, INVALID_REQUEST, "accept text/event-stream")
    route = _route(server, message, headers)
    if isinstance(route, InboundLadderRejection):
        return await _reject(send, message["id"], route)
    await _answer(server, message, route, Telling(send, can_stream=streams), scope, receive)


def _route(server: Server[Json], message: dict[str, Json], headers: Headers) -> Connection | InboundLadderRejection:
    """Who asks, or why the request is refused."""
    duplicated = find_duplicated_routing_header(headers.items())
    if duplicated is not None:
        return InboundLadderRejection(HEADER_MISMATCH, f"{duplicated} header appears more than once")
    route = classify_inbound_request(message, headers=dict(headers))
    if isinstance(route, InboundLadderRejection):
        return route
    mirrored = _mirrored(server, message, headers)
    if mirrored is not None:
        return mirrored
    return Connection.from_envelope(route.protocol_version, route.client_info, route.client_capabilities)


def _mirrored(server: Server[Json], message: dict[str, Json], headers: Headers) -> InboundLadderRejection | None:
    """What is wrong with the headers that repeat arguments of a tool."""
    params = message.get("params")
    if message["method"] != "tools/call" or not isinstance(params, dict) or server.get_tool_input_schema is None:
        return None
    arguments = params.get("arguments")
    if not isinstance(arguments, dict | None) or not isinstance(params.get("name"), str):
        return None
    schema = server.get_tool_input_schema(params["name"])
    return None if schema is None else validate_mcp_param_headers(schema, arguments or {}, headers)


async def _answer(
    server: Server[Json],
    message: dict[str, Json],
    connection: Connection,
    telling: Telling,
    scope: Scope,
    receive: Receive,
) -> None:
    answering = asyncio.ensure_future(Exchange(message, scope, telling).answer(server, connection))
    leaving = asyncio.ensure_future(left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        telling.rest()
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
    if not answering.cancelled():
        answer = answering.result()
        status = ERROR_CODE_HTTP_STATUS.get(answer["error"]["code"], 200) if "error" in answer else 200
        await telling.end(answer, status)


async def _reject(send: Send, id: Json, rejection: InboundLadderRejection) -> None:
    status = ERROR_CODE_HTTP_STATUS.get(rejection.code, 200)
    await problem(send, status, rejection.code, rejection.message, id=id, data=rejection.data)
