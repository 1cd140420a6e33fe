"""`EventStream`: one stream from its first byte to the final answer, over as many connections as that takes.

The endpoint's connection comes first, then the relay's; both are read by `_read`, and every event passes `_take`, the
one place that drops repetitions and remembers how far the stream is. The relay is asked for as soon as its address is
known, because a relay without a log tells nothing of what was said before it was asked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Final, Self, TypedDict
from urllib.parse import urljoin

import aiohttp
from multidict import CIMultiDict

from perdure.client.backoff import Backoff
from perdure.client.errors import StreamError, reason_of
from perdure.client.relay import EVENT_STREAM, NO_LIMIT, RefusedError, Relay, left_over, whole
from perdure.client.sse import ServerSentEvent, SseParser
from perdure.client.stream_shapes import Data, Metadata, RedirectInfo, Rollback, StreamEvent, StreamResponse, parse
from perdure.model.json import Json, encode

_LASTING: Final = 5.0
"""A connection that held for so many seconds was none that failed."""


class StreamOptions(TypedDict, total=False):
    """What a streamed request takes; `fetch_with_stream` says what each means."""

    method: str
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None
    json: Json
    content: bytes | str | None
    timeout: float | None
    resume: bool
    patience: float
    last_event_id: str | None


class EventStream:
    """An open stream: iterate over its events, each a `Metadata`, `Data`, `Commit` or `Rollback`.

    `response` is the final answer once there is one; `streamed` whether the endpoint answered with a stream at all;
    `run_id`, `relay_url` and `last_event_id` are what is needed to go on elsewhere, later.
    """

    def __init__(self, url: str, client: aiohttp.ClientSession, request: StreamOptions) -> None:
        if client.closed:
            raise ValueError("client is closed: give a session that is open, or none")
        self.response: StreamResponse | None = None
        self.streamed = False
        self.run_id: str | None = None
        self.last_event_id = request.get("last_event_id") or ""
        self._url = url
        self._client = client
        self._request = request
        self._relay = Relay(client)
        self._backoff = Backoff(request.get("patience", 60.0) if request.get("resume", True) else 0.0, random.random)
        self._deadline: float | None = None
        self._direct: aiohttp.ClientResponse | None = None
        self._offset = int(self.last_event_id) if self.last_event_id.isdecimal() else 0
        # Steps with chunks that no log has, and that are neither committed nor rolled back.
        self._undecided: set[str] = set()
        self._wished_pause = 0.0
        self._broken = ""
        self._events = self._told()

    @property
    def relay_url(self) -> str | None:
        """Where the stream can be listened to from anywhere, as soon as it is known. It holds a token."""
        return self._relay.url

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
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        if self._request.get("last_event_id") is not None:
            self._relay.url, self.streamed = self._url, True
            return
        headers, body = _head_and_body(self._request)
        method = self._request.get("method", "GET")
        try:
            async with asyncio.timeout_at(self._deadline):
                response = await self._client.request(method, self._url, headers=headers, data=body, timeout=NO_LIMIT)
                if EVENT_STREAM in response.headers.get("content-type", "").lower():
                    self._direct, self.streamed = response, True
                else:
                    self.response = await whole(response)
        except aiohttp.ClientError as error:
            raise StreamError(f"the endpoint did not answer: {reason_of(error)}") from error

    async def aclose(self) -> None:
        """Closes what is open."""
        await self._events.aclose()
        if self._direct is not None:
            self._direct.close()
        await self._relay.aclose()

    async def _told(self) -> AsyncGenerator[StreamEvent]:
        if self._direct is not None:
            async for event in self._read(self._direct):
                yield event
            if self.response is None and self._relay.url is None:
                raise StreamError(self._broken or "No response: the stream ended before its answer")
        while self.response is None:
            connection = await self._connected()
            if connection is None:
                continue
            connected_at = self._now()
            async for event in self._read(connection):
                self._backoff.succeeded()
                yield event
            if self.response is None:
                if self._now() - connected_at > _LASTING:
                    self._backoff.succeeded()
                await self._pause_after(StreamError(self._broken or "No response: the relay ended without one"))

    async def _connected(self) -> aiohttp.ClientResponse | None:
        """The relay; None when it did not answer this time, or when the final answer is here without it."""
        try:
            return await self._relay.connect(self.last_event_id)
        except RefusedError as refused:
            if (refused.expired or refused.is_over) and self._relay.output_url is not None:
                await self._poll()
                return None
            error = StreamError(str(refused), refused.status)
            if refused.lasting:
                raise error from None
            await self._pause_after(error)
        except (aiohttp.ClientError, TimeoutError) as lost:
            await self._pause_after(StreamError(f"the relay did not answer: {reason_of(lost)}"))
        return None

    async def _poll(self) -> None:
        """Waits for the final answer alone: the token of the output outlives that of the relay."""
        while self.response is None:
            try:
                self.response = await self._relay.output()
            except (aiohttp.ClientError, TimeoutError) as error:
                await self._pause_after(StreamError(f"the answer cannot be asked for: {reason_of(error)}"))
            else:
                self._backoff.succeeded()

    async def _read(self, response: aiohttp.ClientResponse) -> AsyncGenerator[StreamEvent]:
        """The events of one connection, until the final answer, or until it ends or breaks."""
        parser = SseParser(self.last_event_id)
        try:
            async for data in self._received(response):
                for sent in parser.feed(data):
                    event = self._take(sent, str(response.url))
                    if event is not None:
                        yield event
                    if self.response is not None:
                        return
                self.last_event_id = parser.last_id
                self._wished_pause = (parser.retry or 0) / 1000
        finally:
            response.close()
        # Nobody decides about these any more: they are in no log from which the stream could go on.
        undecided, self._undecided = self._undecided, set()
        for step in sorted(undecided):
            yield Rollback(step)

    async def _received(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """The bytes of a connection, all that came in before it broke included."""
        self._broken = ""
        try:
            async for data in response.content.iter_any():
                yield data
        except (aiohttp.ClientError, TimeoutError) as error:
            self._broken = f"the stream broke off: {reason_of(error)}"
            yield left_over(response.content)

    def _take(self, sent: ServerSentEvent, base: str) -> StreamEvent | None:
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
                self._follow(told, base)
                return None
            case Metadata():
                known, self.run_id = self.run_id, told.run_id
                return None if known == told.run_id else told
            case _ if self._repeated(sent.id):
                return None
            case Data():
                if told.step is not None and sent.id is None:
                    self._undecided.add(told.step)
            case _:
                self._undecided -= self._undecided.copy() if told.step is None else {told.step}
        return told

    def _repeated(self, event_id: str | None) -> bool:
        """Whether an event came in before. Ids are offsets in the run's log; others cannot be compared."""
        if event_id is None or not event_id.isdecimal():
            return False
        before, self._offset = self._offset, max(self._offset, int(event_id))
        return int(event_id) <= before

    def _follow(self, info: RedirectInfo, base: str) -> None:
        self._relay.url = _address(info.url, base)
        if info.output_url is not None:
            self._relay.output_url = _address(info.output_url, base)
        self._relay.ask_early(self.last_event_id)

    async def _pause_after(self, error: StreamError) -> None:
        """Waits before the next try; raises the error if there shall be none."""
        pause = self._backoff.failed(self._now(), self._wished_pause)
        if pause is None:
            raise error
        await asyncio.sleep(pause)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _address(url: str, base: str) -> str:
    found = urljoin(base, url)
    if not found.startswith(("http://", "https://")):
        raise StreamError("an event inngest.redirect_info has an address that is not one of HTTP")
    return found


def _head_and_body(request: StreamOptions) -> tuple[CIMultiDict[str], bytes | None]:
    headers = CIMultiDict(request.get("headers") or {})
    accepted = [*headers.popall("accept", ()), EVENT_STREAM]
    headers["accept"] = ", ".join(accepted)
    content, value = request.get("content"), request.get("json")
    if content is not None and value is not None:
        raise ValueError("give json or content, not both")
    if value is not None:
        headers.setdefault("content-type", "application/json")
        return headers, encode(value)
    return headers, content.encode() if isinstance(content, str) else content
