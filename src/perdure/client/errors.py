"""What goes wrong between a client and a server."""

from __future__ import annotations

import aiohttp

from perdure.model.errors import PerdureError
from perdure.model.json import Json


class ServerUnreachableError(PerdureError):
    """No server answers at the address; the message says how to start one."""

    def __init__(self, base_url: str, reason: str) -> None:
        self.base_url = base_url
        super().__init__(
            f"no perdure server answers at {base_url} ({reason}). "
            "Start one with `perdure dev module:app`, or name another address."
        )


class ApiError(PerdureError):
    """The server refused a request: `status` is the HTTP status, `message` its reason, `body` all that it said."""

    def __init__(self, status: int, message: str, body: Json = None) -> None:
        self.status = status
        self.message = message
        self.body = body
        super().__init__(f"{message} (HTTP {status})")


class StreamError(PerdureError):
    """A streamed request that cannot be answered: the stream broke, or what came in is no stream of the protocol.

    `status` is the HTTP status of a server that refused to tell the rest, None where it was not that.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


def reason_of(error: Exception) -> str:
    """Why a request got no answer, in words that name no address: those of events and relays hold keys."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "connection refused"
        return error.os_error.strerror or str(error)
    if isinstance(error, TimeoutError):
        return "it took too long to answer"
    return str(error) or type(error).__name__
