"""The `stream` namespace: what a run says while it goes on, to whoever follows it.

What a step says counts once the step is recorded, and is taken back when its attempt fails. Outside of runs, and
where a handler only repeats itself, nobody is told.
"""

from __future__ import annotations

import asyncio
import codecs
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Final, TypeAlias

from perdure.model import values
from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.sdk.execution import Scope, streaming
from perdure.sdk.port import StreamSink

Source: TypeAlias = Json
"""What can be piped: a text or bytes, an (async) iterable of them, a file, a response of httpx, aiohttp or requests,
or a function without arguments that gives one of these."""

_READ: Final = 16 * 1024


class StreamNamespace:
    """What `perdure.stream` offers."""

    def push(self, data: object) -> None:
        """Says something: any value that a step may return. From coroutines and from threads.

        Raises `UnserializableError`, and `StreamTooLargeError` when the stream would hold more than the node allows.

        >>> stream.push({"percent": 50})
        """
        _push(data)

    async def pipe(self, source: Source) -> str:
        """Says the texts of a source one by one, waiting where they come too fast; returns them as one text.

        Outside of a run it is not read, and the text is empty. Bytes are UTF-8. Blocking sources are read in a thread.

        >>> async def write(ctx: Context) -> str:
        ...     return await step.run("write", lambda: stream.pipe(model.stream(ctx.event.data["prompt"])))
        """
        found = streaming()
        if found is None:
            return ""
        opened = await _open(source)
        if isinstance(opened, AsyncIterator):
            return await _pump(opened, *found)
        loop = asyncio.get_running_loop()
        return await found[1].execution.host.in_thread(partial(_pump_plain, opened, *found, loop))


def pipe_plain(source: Source) -> str:
    """`pipe` for plain functions, which run in threads."""
    found = streaming()
    if found is None:
        return ""
    if callable(source) and not hasattr(source, "read") and not isinstance(source, Iterable):
        source = source()
    return _pump_plain(_plain_pieces(source), *found, found[1].execution.loop)


def _push(data: object) -> None:
    found = streaming()
    if found is not None:
        sink, scope = found
        sink.push(scope.step_id, values.encode(data, where="a chunk of the stream"))


stream: Final = StreamNamespace()
"""What a run says while it goes on: `from perdure import stream`."""


class _Joined:
    """The texts of a source: what each piece adds to them."""

    def __init__(self, sink: StreamSink, scope: Scope) -> None:
        self._sink = sink
        self._scope = scope
        # A character may come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._texts: list[str] = []

    def say(self, piece: object) -> None:
        if isinstance(piece, bytes | bytearray | memoryview):
            piece = self._decoder.decode(bytes(piece))
        elif not isinstance(piece, str):
            raise PerdureError(
                f"stream.pipe takes texts and bytes, and the source gave {type(piece).__name__}: "
                "push other values with stream.push"
            )
        self._append(piece)

    def end(self) -> str:
        self._append(self._decoder.decode(b"", final=True))
        return "".join(self._texts)

    def _append(self, text: str) -> None:
        if text:
            self._texts.append(text)
            if not self._scope.over:
                self._sink.push(self._scope.step_id, values.encode(text, where="a chunk of the stream"))


async def _pump(source: AsyncIterator[object], sink: StreamSink, scope: Scope) -> str:
    joined = _Joined(sink, scope)
    try:
        async for piece in source:
            joined.say(piece)
            if sink.full:
                await sink.drained()
    finally:
        if inspect.isasyncgen(source):
            async with aclosing(source):
                pass
    return joined.end()


def _pump_plain(source: Iterator[object], sink: StreamSink, scope: Scope, loop: asyncio.AbstractEventLoop) -> str:
    """`pipe` in a thread; `loop` is that of the run."""
    joined = _Joined(sink, scope)
    for piece in source:
        joined.say(piece)
        if sink.full:
            asyncio.run_coroutine_threadsafe(sink.drained(), loop).result()
        if scope.over:
            # Nobody can interrupt a thread: it stops by itself where its step was given up.
            break
    return joined.end()


async def _open(source: Source) -> AsyncIterator[object] | Iterator[object]:
    if callable(source) and not hasattr(source, "read") and not isinstance(source, Iterable | AsyncIterable):
        source = source()
    if inspect.isawaitable(source):
        source = await source
    over_time = _async_pieces(source)
    return over_time if over_time is not None else _plain_pieces(source)


def _async_pieces(source: Source) -> AsyncIterator[object] | None:
    content: Json = getattr(source, "content", None)
    if hasattr(source, "aiter_bytes") and not hasattr(getattr(source, "stream", None), "__iter__"):
        # httpx.
        return _aiter(source.aiter_bytes())
    for chunks in (source, content):
        if hasattr(chunks, "iter_any"):
            # aiohttp, whose readers would give lines.
            return _aiter(chunks.iter_any())
    if isinstance(source, AsyncIterable):
        return _aiter(source)
    body: Json = getattr(source, "body_iterator", None)
    if isinstance(body, AsyncIterable):
        # Starlette.
        return _aiter(body)
    read: Json = getattr(source, "read", None)
    if inspect.iscoroutinefunction(read):
        return _read_all(read)
    return None


def _aiter(source: AsyncIterable[object]) -> AsyncIterator[object]:
    return source.__aiter__()


async def _read_all(read: Callable[[int], Json]) -> AsyncIterator[object]:
    while piece := await read(_READ):
        yield piece


def _plain_pieces(source: Source) -> Iterator[object]:
    """The pieces of a blocking source. Raises `PerdureError` for what is none."""
    if isinstance(source, str | bytes | bytearray | memoryview):
        return iter([source])
    for method in ("iter_content", "iter_bytes"):
        if hasattr(source, method):
            # requests, httpx.
            pieces: Iterable[object] = getattr(source, method)()
            return iter(pieces)
    if hasattr(source, "read"):
        read: Callable[[int], object] = getattr(source, "read1", source.read)
        return iter(lambda: read(_READ) or b"", b"")
    if isinstance(source, Iterable):
        return iter(source)
    raise PerdureError(
        f"stream.pipe cannot read {type(source).__name__}: give it a text, an iterable of texts or bytes, a file, a "
        "response, or a function without arguments that gives one"
    )
