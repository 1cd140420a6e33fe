"""`perdure.stream`: what can be said and piped, from coroutines and threads, inside of runs and outside."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure import App, Context, RunFailedError, step, stream
from perdure import sync as plain
from perdure.model.values import UnserializableError
from tests.unit.engine.harness import running


async def said(call: Callable[[], Any]) -> tuple[object, list[object]]:
    """What a step returns, and the chunks that count of it."""
    app = App("t")

    @app.function("talk", trigger="go", retries=0)
    async def talk(ctx: Context) -> object:
        return await step.run("say", call)

    async with running(app) as node:
        run = await node.trigger("t-talk")
        chunks = [event.data async for event in run.stream() if event.kind == "data"]
        return await run.result(), chunks


async def words() -> AsyncIterator[str]:
    for word in ("one ", "", "two"):
        yield word
        await asyncio.sleep(0)


async def halves() -> AsyncIterator[bytes]:
    for byte in "é!".encode():
        yield bytes([byte])


async def later() -> AsyncIterator[str]:
    return words()


class Httpx:
    """As responses of httpx are, of a client that awaits or one that blocks."""

    def __init__(self, stream: object) -> None:
        self.stream = stream
        self.content = b""

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        return halves()

    def iter_bytes(self) -> Iterator[bytes]:
        return iter([b"blocking"])


class Aiohttp:
    """As responses of aiohttp are."""

    class Content:
        def iter_any(self) -> AsyncIterator[bytes]:
            return halves()

    content = Content()


class Requests:
    content = b"not this"

    def iter_content(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])


class AsyncFile:
    def __init__(self) -> None:
        self._left = [b"x", b"y"]

    async def read(self, size: int) -> bytes:
        return self._left.pop(0) if self._left else b""


@pytest.mark.parametrize(
    ("source", "chunks"),
    [
        (lambda: "text", ["text"]),
        (lambda: b"bytes", ["bytes"]),
        (lambda: ["a", b"b", ""], ["a", "b"]),
        (lambda: (word for word in "xy"), ["x", "y"]),
        (lambda: words(), ["one ", "two"]),
        (lambda: words, ["one ", "two"]),
        (lambda: later, ["one ", "two"]),
        (lambda: lambda: ["made"], ["made"]),
        (lambda: halves(), ["é", "!"]),
        (lambda: io.StringIO("a file"), ["a file"]),
        (lambda: io.BytesIO(b"a file"), ["a file"]),
        (lambda: AsyncFile(), ["x", "y"]),
        (lambda: Httpx(halves()), ["é", "!"]),
        (lambda: Httpx([b""]), ["blocking"]),
        (lambda: Aiohttp(), ["é", "!"]),
        (lambda: Requests(), ["a", "b"]),
        (lambda: [], []),
        (lambda: [b"\xff"], ["\ufffd"]),
    ],
)
async def test_sources_are_piped_and_come_back_as_one_text(source: Callable[[], Any], chunks: list[str]) -> None:
    async def pipe() -> str:
        return await stream.pipe(source())

    assert await said(pipe) == ("".join(chunks), chunks)


async def test_a_plain_step_pushes_and_pipes_in_its_thread() -> None:
    def talk() -> str:
        plain.stream.push({"percent": 50})
        stream.push([1])
        return plain.stream.pipe(lambda: ["a", "b"])

    assert await said(talk) == ("ab", [{"percent": 50}, [1], "a", "b"])


async def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100_000)

    async def pipe() -> int:
        with (tmp_path / "large").open("rb") as file:
            return len(await stream.pipe(file))

    length, chunks = await said(pipe)
    assert length == 100_000 and len(chunks) > 3


@pytest.mark.parametrize(
    ("source", "problem"), [(lambda: [1], "gave int.*stream.push"), (lambda: 7, "cannot read int")]
)
async def test_what_cannot_be_piped_is_an_error_of_the_step(source: Callable[[], Any], problem: str) -> None:
    with pytest.raises(RunFailedError, match=problem):
        await said(lambda: stream.pipe(source()))


async def test_what_is_no_json_is_refused_where_it_is_pushed() -> None:
    caught: list[str] = []

    def talk() -> None:
        for value in (object(), float("nan"), {1, object}):
            try:
                stream.push(value)
            except UnserializableError as error:
                caught.append(str(error))
        stream.push("fine")

    assert (await said(talk))[1] == ["fine"]
    assert len(caught) == 3 and all("a chunk of the stream" in text for text in caught)


async def test_outside_of_runs_nothing_is_said_and_nothing_read() -> None:
    stream.push(object())
    source = words()
    assert await stream.pipe(source) == ""
    assert [word async for word in source] == ["one ", "", "two"]
    assert plain.stream.pipe(["a"]) == ""


async def test_a_thread_that_outlives_its_attempt_is_not_heard() -> None:
    app = App("t")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    tries: list[int] = []

    def endless() -> Iterator[str]:
        tries.append(1)
        number = len(tries)
        while not (number == 1 and len(tries) > 1):
            yield f"{number}"
            if number == 2:
                break
        loop.call_soon_threadsafe(ended.set)

    @app.function("talk", trigger="go", retries=1)
    async def talk(ctx: Context) -> str:
        return await step.with_(timeout="100ms").run("say", lambda: plain.stream.pipe(endless()))

    async with running(app) as node:
        run = await node.trigger("t-talk")
        kinds = [
            event.data if event.kind == "data" else event.kind async for event in _drained(node, run) if event.offset
        ]
        assert kinds[-3:] == ["2", "commit", "response"]
        assert await run.result() == "2"


async def _drained(node: Any, run: Any) -> AsyncIterator[Any]:
    await node.drain()
    async for event in run.stream():
        yield event


async def test_a_source_is_closed_when_its_step_is_cancelled() -> None:
    app = App("t")
    closed = asyncio.Event()
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                begun.set()
                await asyncio.sleep(3600)
        finally:
            closed.set()

    @app.function("talk", trigger="go")
    async def talk(ctx: Context) -> str:
        return await step.run("say", lambda: stream.pipe(endless()))

    async with running(app) as node:
        run = await node.trigger("t-talk")
        await asyncio.wait_for(begun.wait(), 3)
        await run.cancel()
        await asyncio.wait_for(closed.wait(), 3)
