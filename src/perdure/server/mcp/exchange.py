"""A request over HTTP that is being answered, as the package wants to see it: it can be told of, and asked back.

How it can be asked, and when it ends early, is the business of its revision: `newest` and `older`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import anyio
from mcp.server.connection import Connection
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_one
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from mcp.shared.transport_context import TransportContext
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError
from starlette.requests import Request
from starlette.types import Receive, Scope

from perdure.model.json import Json
from perdure.server.bodies import read_json
from perdure.server.envelope import ApiError
from perdure.server.mcp.telling import Telling

MAX_BODY = 4 * 1024 * 1024
_log = logging.getLogger("perdure.server")


class Refused(Exception):
    """A body that is no message; `status` and `code` are those of HTTP and JSON-RPC."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


async def read_message(scope: Scope, receive: Receive) -> Json:
    """The body of a request. Raises `Refused`."""
    try:
        return await read_json(scope, receive, MAX_BODY)
    except ApiError as error:
        raise Refused(error.status, -32600 if error.status == 413 else -32700, f"Parse error: {error}") from error


def is_id(id: Json) -> bool:
    """Whether this can be the id of a request."""
    return isinstance(id, str | int) and not isinstance(id, bool)


class Exchange:
    """One request. `answer` carries it out."""

    can_send_request = False

    def __init__(self, message: dict[str, Json], scope: Scope, telling: Telling) -> None:
        self._message = message
        self._telling = telling
        self.request_id = message["id"]
        request = Request(scope)
        self.message_metadata = ServerMessageMetadata(request_context=request)
        self.transport = TransportContext(kind="streamable-http", can_send_request=False, headers=request.headers)
        self.cancel_requested = anyio.Event()

    async def answer(self, server: Server[Json], connection: Connection) -> dict[str, Json]:
        """The message that answers the request."""
        params = self._message.get("params")
        if params is not None and not isinstance(params, dict):
            return self.error(INVALID_PARAMS, "params must be an object")
        method = self._message["method"]
        try:
            result = await serve_one(server, self, method, params, connection=connection, lifespan_state={})
            return {"jsonrpc": "2.0", "id": self.request_id, "result": result}
        except MCPError as error:
            return self.error(error.code, error.message, error.data)
        except ValidationError:
            return self.error(INVALID_PARAMS, "Invalid request parameters")
        except Exception:
            # A defect of ours, which is nobody else's business.
            _log.exception("MCP: %s failed unexpectedly", method)
            return self.error(INTERNAL_ERROR, "Internal server error")

    def error(self, code: int, message: str, data: Json = None) -> dict[str, Json]:
        """The message that answers it with an error."""
        error: dict[str, Json] = {"code": code, "message": message}
        if data is not None:
            error["data"] = data
        return {"jsonrpc": "2.0", "id": self.request_id, "error": error}

    async def notify(self, method: str, params: Mapping[str, Json] | None, opts: CallOptions | None = None) -> None:
        """Tells the client something before the answer."""
        told: dict[str, Json] = {"jsonrpc": "2.0", "method": method}
        await self._telling.tell(told if params is None else {**told, "params": dict(params)})

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tells how far the request is, to a client that asked for it."""
        meta = (self._message.get("params") or {}).get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None:
            said = {"progressToken": token, "progress": progress, "total": total, "message": message}
            await self.notify(
                "notifications/progress", {name: value for name, value in said.items() if value is not None}
            )

    async def send_raw_request(
        self, method: str, params: Mapping[str, Json] | None, opts: CallOptions | None = None
    ) -> dict[str, Json]:
        """Asks the client: not here."""
        raise NoBackChannelError(method)
