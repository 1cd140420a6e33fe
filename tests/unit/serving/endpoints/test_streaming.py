"""Where chunks go: order, room, and readers that are slow or gone."""

from __future__ import annotations

import asyncio

import pytest

from perdure.serving import streaming
from perdure.serving.endpoints.streaming import CallerChannel
from perdure.serving.streaming import ChannelSink, NoChannel, Pipe
from tests.support.endpoint_server import events_in


async def read(pipe: Pipe) -> bytes:
    return b"".join([piece async for piece in pipe.read()])


async def test_what_is_written_is_read_in_order() -> None:
    pipe = Pipe()
    reading = asyncio.ensure_future(read(pipe))
    for n in range(1000):
        pipe.write(b"%d," % n)
        if n % 100 == 0:
            await asyncio.sleep(0)
    pipe.close()
    assert await reading == b"".join(b"%d," % n for n in range(1000))


async def test_a_source_that_can_wait_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ROOM", 10)
    pipe = Pipe()
    pipe.write(b"x" * 11)
    waiting = asyncio.ensure_future(pipe.drained())
    await asyncio.sleep(0)
    assert pipe.full and not waiting.done()
    pipe.close()
    assert await read(pipe) == b"x" * 11
    await waiting


async def test_a_reader_that_is_gone_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "ROOM", 10)
    pipe = Pipe()
    pipe.write(b"x" * 11)
    waiting = asyncio.ensure_future(pipe.drained())
    await asyncio.sleep(0)
    pipe.give_up()
    await waiting
    pipe.write(b"more")
    assert not pipe.full and await read(pipe) == b""


async def test_a_reader_that_is_too_slow_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "MOST", 100)
    pipe = Pipe()
    for _ in range(11):
        pipe.write(b"x" * 10)
    assert pipe.given_up and await read(pipe) == b""


async def test_a_rollback_is_told_once_and_only_of_what_streamed() -> None:
    channel = CallerChannel("R")
    channel.rollback("quiet")
    channel.push("loud", b"1")
    channel.rollback("loud")
    channel.rollback("loud")
    channel.push("loud", b"2")
    channel.commit("loud")
    channel.rollback("loud")
    channel.redirect("http://a.test")
    channel.redirect("http://b.test")
    channel.end()
    names = [name for name, _ in events_in((await read(channel.pipe)).decode())]
    assert names == ["metadata", "stream", "rollback", "stream", "commit", "redirect_info"]


async def test_nothing_is_sent_before_something_is_pushed() -> None:
    channel = CallerChannel("R")
    channel.commit("a")
    assert not channel.active.is_set()
    channel.push(None, b"1")
    channel.end()
    found = events_in((await read(channel.pipe)).decode())
    assert [name for name, _ in found] == ["metadata", "commit", "stream"]
    assert found[-1][1] == {"data": 1}


async def test_threads_may_push() -> None:
    channel = CallerChannel("R")
    sink = ChannelSink(channel)

    def push() -> None:
        for n in range(100):
            sink.push("a", b"%d" % n)
        sink.rollback("a")

    await asyncio.to_thread(push)
    channel.end()
    found = events_in((await read(channel.pipe)).decode())
    assert [data["data"] for name, data in found if name == "stream"] == list(range(100))
    assert found[-1][0] == "rollback"


async def test_callers_without_a_stream_cost_nothing() -> None:
    sink = ChannelSink(NoChannel())
    sink.push("a", b"1")
    assert not sink.full
    await sink.drained()
