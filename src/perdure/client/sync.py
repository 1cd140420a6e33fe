"""The clients for code that does not await: `from perdure.client.sync import Client, fetch_with_stream`.

A call has an event loop of its own, which runs in the caller's thread while the caller waits: callbacks are called
there too, and nothing goes on between two events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeAlias, TypeVar, Unpack

from perdure.client import streaming
from perdure.client.blocking import BlockingClient
from perdure.client.event_stream import EventStream, StreamOptions
from perdure.client.stream_shapes import Commit, Data, Metadata, Rollback, StreamEvent, StreamResponse

Client = BlockingClient
"""`perdure.client.Client`, blocking."""
T = TypeVar("T")
Callback: TypeAlias = Callable[[T], None]


def fetch_with_stream(
    url: str,
    *,
    on_metadata: Callback[Metadata] | None = None,
    on_data: Callback[Data] | None = None,
    on_commit: Callback[Commit] | None = None,
    on_rollback: Callback[Rollback] | None = None,
    on_stream_error: Callback[str] | None = None,
    on_done: Callable[[], None] | None = None,
    **request: Unpack[StreamOptions],
) -> StreamResponse:
    """`perdure.client.fetch_with_stream`, blocking. Raises `RuntimeError` where an event loop runs."""
    with _loop() as runner:
        return runner.run(
            streaming.fetch_with_stream(
                url,
                on_metadata=on_metadata,
                on_data=on_data,
                on_commit=on_commit,
                on_rollback=on_rollback,
                on_stream_error=on_stream_error,
                on_done=on_done,
                **request,
            )
        )


class BlockingEventStream:
    """`EventStream`, blocking: iterate over its events."""

    def __init__(self, stream: EventStream, runner: asyncio.Runner) -> None:
        self._stream = stream
        self._runner = runner

    @property
    def response(self) -> StreamResponse | None:
        """The final answer, once there is one."""
        return self._stream.response

    @property
    def streamed(self) -> bool:
        """Whether the endpoint answered with a stream at all."""
        return self._stream.streamed

    @property
    def run_id(self) -> str | None:
        """The run that answers."""
        return self._stream.run_id

    @property
    def relay_url(self) -> str | None:
        """Where the stream can be listened to from anywhere. It holds a token."""
        return self._stream.relay_url

    @property
    def last_event_id(self) -> str:
        """How far the stream is."""
        return self._stream.last_event_id

    def __iter__(self) -> Iterator[StreamEvent]:
        while True:
            try:
                yield self._runner.run(self._next())
            except StopAsyncIteration:
                return

    def answer(self) -> StreamResponse:
        """The final answer; events that were not taken by then are passed over."""
        return self._runner.run(self._stream.answer())

    async def _next(self) -> StreamEvent:
        return await anext(self._stream)


@contextmanager
def stream_events(url: str, **request: Unpack[StreamOptions]) -> Generator[BlockingEventStream]:
    """`perdure.client.stream_events`, blocking. Raises `RuntimeError` where an event loop runs."""
    with _loop() as runner:
        opened = streaming.stream_events(url, **request)
        stream = runner.run(opened.__aenter__())
        try:
            yield BlockingEventStream(stream, runner)
        finally:
            runner.run(opened.__aexit__(None, None, None))


@contextmanager
def _loop() -> Generator[asyncio.Runner]:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            yield runner
    else:
        raise RuntimeError("an event loop runs in this thread: await what perdure.client has of the same name")
