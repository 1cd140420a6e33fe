"""Requests to upstreams: what is sent, what comes back, and the client over HTTP that sends it.

Redirects are not followed: an upstream's answer is the answer, and credentials go to the host that the document names.
An answer is bounded in size and time; whatever goes wrong is an `UpstreamError` that says so in one line. Of an address
it names the host alone: what else stands there may be secret.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import aiohttp


class Request(msgspec.Struct, kw_only=True):
    """A request as it is sent; `query` and headers are as they are written."""

    method: str
    url: str
    query: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    body: bytes | None = None


class Reply(msgspec.Struct):
    """An answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class UpstreamError(Exception):
    """An upstream gave no usable answer: it cannot be reached, took too long, or said too much."""

    def __init__(self, kind: Literal["unreachable", "timeout", "too_large"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Upstream(Protocol):
    """Whatever sends requests."""

    async def send(self, request: Request, max_size: int) -> Reply:
        """The answer, of at most `max_size` bytes. Raises `UpstreamError`."""
        ...


class HttpUpstream:
    """Sends over HTTP, with connections that are kept. `timeout` is for a request with its answer, in seconds."""

    def __init__(self, timeout: float = 30.0) -> None:
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request, max_size: int) -> Reply:
        """See `Upstream.send`."""
        import aiohttp
        from yarl import URL

        host = _host(request.url)
        try:
            async with asyncio.timeout(self._timeout):
                # What is in the path is encoded already.
                target = URL(request.url, encoded=True)
                if request.query:
                    target = target.extend_query(request.query)
                exchange = self._open().request(
                    request.method, target, headers=request.headers, data=request.body, allow_redirects=False
                )
                async with exchange as response:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Reply(response.status, headers, await _read(response, max_size, host))
        except TimeoutError as error:
            raise UpstreamError("timeout", f"{host} did not answer within {self._timeout:g} s") from error
        except ValueError as error:
            # Its text repeats the address.
            raise UpstreamError("unreachable", f"cannot reach {host}: its address cannot be called") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise UpstreamError("unreachable", f"cannot reach {host}: {reason}") from error

    def _open(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                headers={"user-agent": "perdure"},
            )
        return self._session

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _host(url: str) -> str:
    """Where a request goes to, without the rest of its address.

    >>> _host("https://me:secret@shop.test:8080/bot-secret/x")
    'https://shop.test:8080'
    """
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"


async def _read(response: aiohttp.ClientResponse, max_size: int, host: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_size:
            response.close()
            raise UpstreamError("too_large", f"the answer of {host} is larger than {max_size} bytes")
    return bytes(body)
