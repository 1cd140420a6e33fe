"""HTTP requests that ask an app something: is it there, and will it register. One client, opened on first use.

Every status is an answer; no answer within the time is an `OSError`. Redirects are followed, but only to http and
https. Requests are signed when there is a key, and always say what kind of server asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.model.jcs import canonical
from perdure.model.json import Json
from perdure.model.keys import Keys
from perdure.wire import headers

if TYPE_CHECKING:
    import aiohttp

_HANDLED: Final = "x-inngest-sdk-handled"
_MAX_ANSWER: Final = 16 * 1024 * 1024
"""The functions of a large app, in band (bytes)."""


class Answer(msgspec.Struct, frozen=True):
    """What an app answered. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def of_sdk(self) -> bool:
        """Whether an SDK answered. One that does not trust the caller says no more than that it handled the request."""
        return headers.SDK in self.headers or _HANDLED in self.headers


class Asker:
    """Asks apps. `kind` is what the server calls itself, `now` gives the time in ms.

    `environment`: the branch environment for which it asks, "" for the main one.
    """

    def __init__(self, kind: str, keys: Keys | None, now: Callable[[], int], environment: str = "") -> None:
        self.keys = keys
        self.environment = environment
        self._kind = kind
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def put(self, url: str, *, in_band: bool, timeout: float) -> Answer:
        """Asks an app to register, or (in band) to answer with its registration. Raises `OSError`."""
        extra = {headers.SYNC_KIND: "in_band"} if in_band else {}
        return await self._ask("PUT", url, canonical({"url": url}), extra, timeout)

    async def get(self, url: str, *, timeout: float) -> Answer:
        """Asks an app what it is. Raises `OSError`."""
        return await self._ask("GET", url, b"", {}, timeout)

    async def _ask(self, method: str, url: str, body: bytes, extra: dict[str, str], timeout: float) -> Answer:
        import aiohttp

        if self._session is None:
            # Between two polls an app may be restarted: a connection that was kept would only be in the way.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            agent = {"user-agent": "perdure"}
            self._session = aiohttp.ClientSession(
                connector=connector, headers=agent, cookie_jar=aiohttp.DummyCookieJar()
            )
        sent = {headers.SERVER_KIND: self._kind, **extra}
        if body:
            sent["content-type"] = "application/json"
        if self.keys is not None:
            sent[headers.SIGNATURE] = self.keys.sign(body, self._now())
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.request(method, url, data=body or None, headers=sent, timeout=limit) as response:
                found = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, found, await _read(response))
        except TimeoutError as error:
            raise OSError(f"it did not answer within {timeout:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise OSError(error.strerror or str(error)) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > _MAX_ANSWER:
            response.close()
            raise OSError(f"its answer is larger than {_MAX_ANSWER} bytes")
    return bytes(body)


def said(body: bytes, of: Callable[[bytes], Json]) -> str:
    """The message in an error that an app answered with, "" when there is none that can be shown."""
    try:
        value = of(body)
    except ValueError:
        return ""
    found = (value.get("message") or value.get("error")) if isinstance(value, dict) else None
    return " ".join(found[:300].split()) if isinstance(found, str) else ""
