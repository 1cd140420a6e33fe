"""Outbound HTTP for `step.fetch` and its kin: one pooled client, imported and opened on first use.

The import alone takes a third of `import perdure`, which most programs and every command line call can do without.
Nothing of one request is kept for the next but the connection: runs that share a client share no cookies.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from perdure.model.json import Json
from perdure.sdk.fetch import AddressRefusedError, fetch
from perdure.sdk.port import FetchRequest, FetchResponse

if TYPE_CHECKING:
    import aiohttp

_Address: TypeAlias = tuple[int, int, int, str, tuple[Json, ...]]
"""What a name was resolved to: family, type, protocol, canonical name, and the address of a socket."""


class Fetcher:
    """Performs HTTP requests. Every status is an answer; no answer is an `OSError`.

    `allows` says to which addresses requests may go (by default to all). It is asked about the very address of each
    connection that is about to be made, so neither a name that resolves anew nor a redirect gets around it.
    """

    def __init__(self, allows: Callable[[str], bool] | None = None) -> None:
        self._allows = allows
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return await fetch(self._open(), request)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            guard = None if self._allows is None else self._socket
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, socket_factory=guard),
                headers={"User-Agent": "perdure"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _socket(self, address: _Address) -> socket.socket:
        if self._allows is not None and not self._allows(address[4][0]):
            raise AddressRefusedError()
        return socket.socket(address[0], address[1], address[2])

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()
