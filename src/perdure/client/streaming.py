"""Calls a durable endpoint and hears what it says while it works: `fetch_with_stream`, `stream_events`.

The endpoint's own answer is heard first. If it ends without the final answer, because the run must wait, or breaks
off, the stream goes on at the relay of a server, from the last event that came in; a relay that breaks off is asked
again. No event is told twice that has an offset, and what a lost connection left undecided and no log can decide is
told as a rollback. Relay and poll get nothing that the caller sent: neither headers, nor cookies, nor credentials.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TypeAlias, TypeVar, Unpack

import aiohttp

from perdure.client.event_stream import EventStream, StreamOptions
from perdure.client.stream_shapes import Commit, Data, Metadata, Rollback, StreamEvent, StreamResponse

T = TypeVar("T")
Callback: TypeAlias = Callable[[T], Awaitable[None] | None]
"""Called in order, one after the other; what it returns is awaited if it can be."""


@asynccontextmanager
async def stream_events(
    url: str, *, client: aiohttp.ClientSession | None = None, **request: Unpack[StreamOptions]
) -> AsyncGenerator[EventStream]:
    """Opens a stream: iterate over it, then see `response`.

        async with stream_events("https://shop.example/write") as events:
            async for event in events:
                buffer.add(event)
            print(events.response.json())

    An answer that is no stream gives no events, and is in `response` at once (`streamed` is False). `request` is what
    `fetch_with_stream` takes. Leaving the block closes the connections; the run goes on without its listener.
    """
    async with AsyncExitStack() as owned:
        if client is None:
            client = await owned.enter_async_context(aiohttp.ClientSession())
        async with aclosing(EventStream(url, client, request)) as stream:
            await stream.open()
            yield stream


async def fetch_with_stream(
    url: str,
    *,
    on_metadata: Callback[Metadata] | None = None,
    on_data: Callback[Data] | None = None,
    on_commit: Callback[Commit] | None = None,
    on_rollback: Callback[Rollback] | None = None,
    on_stream_error: Callback[str] | None = None,
    on_done: Callable[[], Awaitable[None] | None] | None = None,
    client: aiohttp.ClientSession | None = None,
    **request: Unpack[StreamOptions],
) -> StreamResponse:
    """Calls an endpoint; returns its final answer, whichever way that comes.

    Callbacks may be plain or async. `on_stream_error` gets the body of the answer of a failed run (which is returned
    all the same), or the message of the error that is raised; `on_done` comes last, exactly once, if there was a
    stream. An error that a callback raises ends the call.

    `client` is the session to use; without one the call has its own. `request`: `method` ("GET"), `headers`, `json`
    or `content` (bytes or text), `timeout` (seconds for all of it; default: none), `resume` (True: what breaks off is
    taken up again), `patience` (60: seconds of failures in a row after which that is given up), `last_event_id` (the
    URL is that of a relay, which goes on after this event; "0" is its beginning).

    Raises `StreamError`, and `TimeoutError` after `timeout`.
    """
    async with stream_events(url, client=client, **request) as events:
        if not events.streamed:
            return await events.answer()
        try:
            try:
                async for event in events:
                    await _tell(event, on_metadata, on_data, on_commit, on_rollback)
                response = await events.answer()
            except Exception as error:
                if on_stream_error is not None:
                    await _settled(on_stream_error(str(error) or type(error).__name__))
                raise
            if response.failed and on_stream_error is not None:
                await _settled(on_stream_error(response.text))
            return response
        finally:
            if on_done is not None:
                await _settled(on_done())


async def _tell(
    event: StreamEvent,
    on_metadata: Callback[Metadata] | None,
    on_data: Callback[Data] | None,
    on_commit: Callback[Commit] | None,
    on_rollback: Callback[Rollback] | None,
) -> None:
    match event:
        case Data() if on_data is not None:
            await _settled(on_data(event))
        case Commit() if on_commit is not None:
            await _settled(on_commit(event))
        case Rollback() if on_rollback is not None:
            await _settled(on_rollback(event))
        case Metadata() if on_metadata is not None:
            await _settled(on_metadata(event))
        case _:
            pass


async def _settled(outcome: Awaitable[None] | None) -> None:
    if inspect.isawaitable(outcome):
        await outcome
