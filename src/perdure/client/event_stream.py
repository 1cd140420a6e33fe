"""`EventStream`: one stream from its first byte to the final answer, over as many connections as that takes.

The endpoint's connection comes first, then the relay's; both are read by `_read`, and every event passes `_take`, the
one place that drops repetitions and remembers how far the stream is. The relay is asked for as soon as its address is
known, because a relay without a log tells nothing of what was said before it was asked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from http import HTTPStatus
from typing import Final, Self, TypedDict
from urllib.parse import urljoin

import aiohttp

from perdure.client.backoff import Backoff
from perdure.client.errors import StreamError, reason_of
from perdure.client.sse import ServerSentEvent, SseParser
from perdure.client.stream_shapes import Data, Metadata, RedirectInfo, Rollback, StreamEvent, StreamResponse, parse
from perdure.model.json import Json

_EVENT_STREAM: Final = "text/event-stream"
_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30)
_RELAY_LIMIT: Final = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
"""A relay says at least a comment every 15 seconds: one that is silent for four of them is gone."""
_LASTING: Final = 5.0
"""A connection that held for so many seconds was none that failed."""
_PAST_CREDENTIALS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class StreamOptions(TypedDict, total=False):
    """What a streamed request takes; `fetch_with_stream` says what each means."""

    method: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]]
    json: Json
    content: bytes | str
    timeout: float | None
    resume: bool
    patience: float
    last_event_id: str | None


class _Refused(Exception):
    """The relay answered with an error."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        super().__init__(f"Stream request failed: {response.status} {response.reason or ''}".rstrip())

    @property
    def lasting(self) -> bool:
        """Whether asking again would change nothing."""
        return self.status < 500 and self.status not in _PASSING


class EventStream:
    """An open stream: iterate over its events, each a `Metadata`, `Data`, `Commit` or `Rollback`.

    `response` is the final answer once there is one; `streamed` whether the endpoint answered with a stream at all;
    `run_id`, `relay_url` and `last_event_id` are what is needed to go on elsewhere, later.
    """

    def __init__(self, url: str, client: aiohttp.ClientSession | None, request: StreamOptions) -> None:
        self.response: StreamResponse | None = None
        self.streamed = False
        self.run_id: str | None = None
        self.relay_url: str | None = None
        self.last_event_id = request.get("last_event_id") or ""
        self._url = url
        self._request = request
        self._client = client
        self._owned: list[aiohttp.ClientSession] = []
        patience = request.get("patience", 60.0) if request.get("resume", True) else 0.0
        self._backoff = Backoff(patience, random.random)
        self._deadline: float | None = None
        self._direct: aiohttp.ClientResponse | None = None
        self._eager: asyncio.Task[aiohttp.ClientResponse] | None = None
        self._output_url: str | None = None
        self._offset = int(self.last_event_id) if self.last_event_id.isdecimal() else 0
        self._undecided: set[str] = set()
        self._wished_pause = 0.0
        self._broken = ""
        self._events = self._told()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        async with asyncio.timeout_at(self._deadline):
            return await anext(self._events)

    async def answer(self) -> StreamResponse:
        """The final answer; events that were not taken by then are passed over."""
        async for _ in self:
            pass
        if self.response is None:
            raise StreamError("the stream was closed before its final answer")
        return self.response

    async def open(self) -> None:
        """Makes the request. Raises `StreamError`, `TimeoutError`."""
        timeout = self._request.get("timeout")
        loop = asyncio.get_running_loop()
        self._deadline = None if timeout is None else loop.time() + timeout
        if self._client is None:
            self._client = aiohttp.ClientSession()
            self._owned.append(self._client)
        # Of its own, beside the caller's: that one may send cookies and keys with all that it asks.
        connector = self._client.connector
        self._relay = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=self._client.trust_env,
        )
        self._owned.insert(0, self._relay)
        if self._request.get("last_event_id") is not None:
            self.relay_url, self.streamed = self._url, True
            return
        async with asyncio.timeout_at(self._deadline):
            await self._call(self._client)

    async def aclose(self) -> None:
        """Closes what is open; may be repeated."""
        if self._eager is not None:
            self._eager.cancel()
            for outcome in await asyncio.gather(self._eager, return_exceptions=True):
                if isinstance(outcome, aiohttp.ClientResponse):
                    outcome.close()
            self._eager = None
        await self._events.aclose()
        if self._direct is not None:
            self._direct.close()
        while self._owned:
            await self._owned.pop(0).close()

    async def _call(self, client: aiohttp.ClientSession) -> None:
        headers, body = _head_and_body(self._request)
        method = self._request.get("method", "GET")
        try:
            response = await client.request(method, self._url, headers=headers, data=body, timeout=_NO_LIMIT)
            if _EVENT_STREAM in response.headers.get("content-type", "").lower():
                self._direct, self.streamed = response, True
            else:
                self.response = await _whole(response)
        except aiohttp.ClientError as error:
            raise StreamError(f"the endpoint did not answer: {reason_of(error)}") from error

    async def _told(self) -> AsyncGenerator[StreamEvent]:
        if self._direct is not None:
            async for event in self._read(self._direct):
                yield event
        if self.response is not None:
            return
        if self.relay_url is None:
            raise StreamError(self._broken or "No response: the stream ended before its answer")
        loop = asyncio.get_running_loop()
        while self.response is None:
            try:
                connection = await self._connected()
            except _Refused as refused:
                if refused.status in _PAST_CREDENTIALS and self._output_url is not None:
                    self.response = await self._polled(self._output_url)
                    return
                await self._pause_or_raise(StreamError(str(refused), refused.status), refused.lasting)
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._pause_or_raise(StreamError(f"the relay did not answer: {reason_of(error)}"))
            else:
                connected_at = loop.time()
                async for event in self._read(connection):
                    self._backoff.succeeded()
                    yield event
                if self.response is None:
                    if loop.time() - connected_at > _LASTING:
                        self._backoff.succeeded()
                    await self._pause_or_raise(StreamError(self._broken or "No response: the relay ended without one"))

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[StreamEvent]:
        """The events of one connection, until the final answer, or until it ends or breaks."""
        parser = SseParser(self.last_event_id)
        self._broken = ""
        try:
            async for data in response.content.iter_any():
                for sent in parser.feed(data):
                    event = self._take(sent, response)
                    if event is not None:
                        yield event
                    if self.response is not None:
                        return
                self.last_event_id = parser.last_id
                self._wished_pause = (parser.retry or 0) / 1000
        except (aiohttp.ClientError, TimeoutError) as error:
            self._broken = f"the stream broke off: {reason_of(error)}"
        finally:
            response.close()
        # Nobody will decide about these any more: they are in no log from which the stream could go on.
        for step in sorted(self._undecided):
            yield Rollback(step)
        self._undecided.clear()

    def _take(self, sent: ServerSentEvent, response: aiohttp.ClientResponse) -> StreamEvent | None:
        """What is to be told of an event that came in."""
        told = parse(sent)
        if sent.id is not None:
            self.last_event_id = sent.id
        match told:
            case None:
                return None
            case StreamResponse():
                self.response = told
                return None
            case RedirectInfo():
                self._follow(told, str(response.url))
                return None
            case Metadata():
                if told.run_id == self.run_id:
                    return None
                self.run_id = told.run_id
                return told
            case _:
                if self._repeated(sent.id):
                    return None
        if isinstance(told, Data):
            if told.step is not None and sent.id is None:
                self._undecided.add(told.step)
        elif told.step is None:
            self._undecided.clear()
        else:
            self._undecided.discard(told.step)
        return told

    def _repeated(self, event_id: str | None) -> bool:
        """Whether an event came in before. Ids are offsets in the run's log; others cannot be compared."""
        if event_id is None or not event_id.isdecimal():
            return False
        offset = int(event_id)
        if offset <= self._offset:
            return True
        self._offset = offset
        return False

    def _follow(self, info: RedirectInfo, base: str) -> None:
        self.relay_url = urljoin(base, info.url)
        if not self.relay_url.startswith(("http://", "https://")):
            raise StreamError("an event inngest.redirect_info has a url that is not of HTTP")
        if info.output_url is not None:
            self._output_url = urljoin(base, info.output_url)
        if self._eager is None:
            self._eager = asyncio.create_task(self._ask_relay())

    async def _connected(self) -> aiohttp.ClientResponse:
        """The connection to the relay that was asked for beforehand, or a new one."""
        if self._eager is None or self._eager.cancelled():
            return await self._ask_relay()
        try:
            return await asyncio.shield(self._eager)
        finally:
            if self._eager.done():
                # It stays, so that a later redirect_info asks for no other.
                self._eager = _spent()

    async def _ask_relay(self) -> aiohttp.ClientResponse:
        headers = {"accept": _EVENT_STREAM}
        if self.last_event_id:
            headers["last-event-id"] = self.last_event_id
        response = await self._relay.get(self.relay_url or "", headers=headers, timeout=_RELAY_LIMIT)
        if not response.ok:
            response.close()
            raise _Refused(response)
        return response

    async def _polled(self, url: str) -> StreamResponse:
        """The final answer from the output's address, which is asked until the run has ended."""
        while True:
            try:
                answer = await _whole(await self._relay.get(url, timeout=_NO_LIMIT))
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._pause_or_raise(StreamError(f"the answer cannot be asked for: {reason_of(error)}"))
                continue
            if not _still_running(answer):
                return answer
            self._backoff.succeeded()
            await asyncio.sleep(0.2)

    async def _pause_or_raise(self, error: StreamError, lasting: bool = False) -> None:
        pause = None if lasting else self._backoff.failed(asyncio.get_running_loop().time(), self._wished_pause)
        if pause is None:
            raise error
        await asyncio.sleep(pause)
