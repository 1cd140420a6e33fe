"""What a served app asks of its server: to register it, to record steps, to take events and signals.

Requests carry the hash of the signing key; a server that refuses it is asked again with the fallback key.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from perdure.model.errors import NonRetriableError, PerdureError
from perdure.model.event import EventError
from perdure.model.json import InvalidJsonError, Json, decode, encode
from perdure.model.keys import NO_EVENT_KEY
from perdure.sdk.fetch import fetch, payload
from perdure.sdk.port import FetchRequest, FetchResponse
from perdure.serving.exchange import REQUEST_VERSION, SDK_LANGUAGE, sdk_name, sdk_version
from perdure.serving.session import session
from perdure.serving.settings import Settings
from perdure.wire import headers as names

_REGISTER_TIMEOUT: Final = 10.0
_TIMEOUT: Final = 30.0
_SHOWN: Final = 300
"""How much of an unexpected answer an error shows (characters)."""


class ServerError(PerdureError):
    """The server could not be reached, or did not do what it was asked for. `status` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Received(msgspec.Struct):
    """What the server answered."""

    status: int
    body: bytes

    def json(self) -> Json:
        """The body as JSON, None where it is none."""
        try:
            return decode(self.body)
        except InvalidJsonError:
            return None


class Reply(msgspec.Struct):
    """An answer whose body comes bit by bit, as it was sent. Header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    chunks: AsyncIterator[bytes]


class Outbound:
    """Requests of one app to its server. Works in any event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def register(self, document: Json, query: Mapping[str, str], framework: str) -> Received:
        """Registers the app; the server's answer, whatever it is. Raises `ServerError` when there is none."""
        suffix = f"?{urlencode(query)}" if query else ""
        url = f"{self._settings.api_url}/fn/register{suffix}"
        return await self._ask("POST", url, document, {names.FRAMEWORK: framework}, timeout=_REGISTER_TIMEOUT)

    async def checkpoint(self, run_id: str, report: Json) -> int:
        """Has steps recorded; the status of the answer. Raises `ServerError` when there is none."""
        url = f"{self._settings.api_url}/v1/checkpoint/{quote(run_id, safe='')}/async"
        return (await self._ask("POST", url, report)).status

    async def events_of(self, run_id: str) -> bytes:
        """The events of a run that were too large to be sent along (a JSON array). Raises `ServerError`."""
        return await self._fetch_state(run_id, "batch")

    async def steps_of(self, run_id: str) -> bytes:
        """The memos of a run that were too large to be sent along (a JSON object). Raises `ServerError`."""
        return await self._fetch_state(run_id, "actions")

    async def ask(self, method: str, path: str, body: Json = None) -> Received:
        """Asks the API; the answer, whatever it is. Raises `ServerError` when there is none."""
        return await self._ask(method, self._settings.api_url + path, body)

    @asynccontextmanager
    async def open(
        self, method: str, path: str, headers: Mapping[str, str], body: AsyncIterator[bytes] | None = None
    ) -> AsyncGenerator[Reply, None]:
        """A request that goes on: the answer's body is read while it comes, and `body` sent while it is made.

        Raises `ServerError` when there is no answer, or no end of one.
        """
        import aiohttp

        client = await session()
        url = self._settings.api_url + path
        try:
            async with client.request(
                method,
                url,
                data=body,
                headers={**self._headers(), **headers},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT),
                allow_redirects=False,
                auto_decompress=False,
            ) as response:
                # As bytes, which any may be in a header; the client's own text of them is a guess.
                found = [
                    (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers
                ]
                yield Reply(response.status, found, response.content.iter_any())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unanswered(url, error) from error

    @property
    def authorizations(self) -> list[dict[str, str]]:
        """The headers that prove who asks, each to be tried when the one before it is refused."""
        return [{"authorization": f"Bearer {key.bearer}"} for key in self._settings.keys] or [{}]

    async def _fetch_state(self, run_id: str, what: str) -> bytes:
        url = f"{self._settings.api_url}/v0/runs/{quote(run_id, safe='')}/{what}"
        found = await self._ask("GET", url)
        if found.status != 200:
            raise ServerError(f"{url} answered {found.status}: {_shown(found.body)}", found.status)
        return found.body

    async def send_events(self, events: list[dict[str, Json]], millis: int, entropy: bytes) -> list[str]:
        """Sends events; their ids, which the server makes from the seed: sent twice, they are stored once.

        Raises `EventError` when the server says what is wrong with them, `ServerError`.
        """
        key = self._settings.event_key
        if key is None and not self._settings.is_dev:
            raise NonRetriableError(
                "event_key: is required for sending events: give it to serve, or set INNGEST_EVENT_KEY"
            )
        url = f"{self._settings.event_url}/e/{quote(key or NO_EVENT_KEY, safe='')}"
        seed = f"{millis},{base64.b64encode(entropy).decode()}"
        # The key in the path is all that is asked for, and no other one needs to travel.
        found = await self._request("POST", url, encode(events), {names.EVENT_ID_SEED: seed}, _TIMEOUT)
        body = found.json()
        if found.status == 200 and isinstance(body, dict) and isinstance(body.get("ids"), list):
            ids: list[str] = body["ids"]
            return ids
        # The URL holds the event key.
        where = f"{self._settings.event_url}/e/..."
        if found.status == 400 and isinstance(body, dict) and body.get("error"):
            raise EventError(str(body["error"]))
        raise ServerError(f"{where} answered {found.status}: {_shown(found.body)}", found.status)

    async def send_signal(self, signal: str, data: Json) -> bool:
        """Sends a signal; whether a run waited for it. Raises `ServerError`."""
        url = f"{self._settings.api_url}/v1/signals"
        found = await self._ask("POST", url, {"signal": signal, "data": data})
        if found.status in (200, 404):
            return found.status == 200
        raise ServerError(f"{url} answered {found.status}: {_shown(found.body)}", found.status)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        """Performs the request of a `step.fetch`. Raises `OSError` when there is no answer."""
        return await fetch(await session(), request)

    async def _ask(
        self,
        method: str,
        url: str,
        body: Json = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = _TIMEOUT,
    ) -> Received:
        """A request with the signing key, and then with the fallback key if that is refused."""
        data = None if method == "GET" else encode(body)
        given = dict(headers or {})
        keys = self._settings.keys or (None,)
        found = Received(0, b"")
        for key in keys:
            if key is not None:
                given["authorization"] = f"Bearer {key.bearer}"
            found = await self._request(method, url, data, given, timeout)
            if found.status not in (401, 403):
                break
        return found

    async def _request(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Received:
        import aiohttp

        client = await session()
        sent = {**self._headers(), **headers}
        if data is not None:
            sent["content-type"] = "application/json"
        try:
            async with client.request(
                method, url, data=payload(data), headers=sent, timeout=aiohttp.ClientTimeout(total=timeout)
            ) as response:
                return Received(response.status, await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unanswered(url, error) from error

    def _unanswered(self, url: str, error: Exception) -> ServerError:
        reason = str(error) or type(error).__name__
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        return ServerError(
            f"no answer from the server at {origin}: {reason}; is it running there? "
            "(base_url, or INNGEST_BASE_URL, says where it is)"
        )

    def _headers(self) -> dict[str, str]:
        found = {
            names.SDK: sdk_name(),
            names.REQ_VERSION: str(REQUEST_VERSION),
            "user-agent": f"perdure/{sdk_version()} ({SDK_LANGUAGE})",
        }
        if self._settings.env:
            found[names.ENV] = self._settings.env
        return found


def _shown(body: bytes) -> str:
    return body[:_SHOWN].decode("utf-8", "replace")
