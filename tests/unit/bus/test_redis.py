"""The bus over Valkey: what it brings, and that whoever is on it knows when it brings nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from perdure.bus import RedisBus
from tests.support.tcp_proxy import TcpProxy
from tests.support.valkey import ValkeyServer


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


class Member:
    """One who is on a bus, and notes what it hears and how often the bus changed."""

    def __init__(self, url: str, channel: str) -> None:
        self.bus = RedisBus(url)
        self.heard: list[str] = []
        self.changes: list[bool] = []
        self.bus.start(channel, self.heard.append, lambda: self.changes.append(self.bus.up))


@asynccontextmanager
async def members(*on: tuple[str, str]) -> AsyncGenerator[list[Member]]:
    """Members by URL and channel, once their buses are up."""
    made = [Member(url, channel) for url, channel in on]
    try:
        await soon(lambda: all(member.bus.up for member in made))
        yield made
    finally:
        for member in made:
            await member.bus.stop()


async def test_what_one_publishes_the_others_hear_in_order(valkey_server: ValkeyServer) -> None:
    url = valkey_server.url
    said = [f"é {number}" for number in range(2000)]
    async with members((url, "a"), (url, "a"), (url, "b")) as (one, other, elsewhere):
        assert one.bus.identity == other.bus.identity
        one.bus.publish(said[:1000])
        one.bus.publish(said[1000:])
        await soon(lambda: len(other.heard) == len(said))
        assert other.heard == said
        other.bus.publish(["x" * 3_000_000])
        await soon(lambda: len(one.heard) == 1)
        assert (len(one.heard[0]), elsewhere.heard) == (3_000_000, [])


async def test_a_server_that_is_killed_is_missed_and_found_again() -> None:
    server = ValkeyServer()
    server.start()
    try:
        async with members((server.url, "a"), (server.url, "a")) as (one, other):
            server.stop()
            await soon(lambda: not (one.bus.up or other.bus.up))
            one.bus.publish(["lost"])
            server.start()
            await soon(lambda: one.bus.up and other.bus.up and one.bus.identity == other.bus.identity)
            one.bus.publish(["kept"])
            await soon(lambda: other.heard == ["kept"])
            assert one.changes[:3] == [True, False, True]
    finally:
        server.remove()


async def test_a_server_that_falls_silent_is_missed() -> None:
    server = ValkeyServer()
    server.start()
    try:
        async with members((server.url, "a")) as (one,):
            server.signal(signal.SIGSTOP)
            await soon(lambda: not one.bus.up)
            server.signal(signal.SIGCONT)
            await soon(lambda: one.bus.up)
    finally:
        server.remove()


async def test_another_server_behind_the_same_name_is_another_bus(valkey_server: ValkeyServer) -> None:
    second = ValkeyServer()
    second.start()
    proxy = TcpProxy(valkey_server.port)
    try:
        url = f"redis://127.0.0.1:{await proxy.start()}"
        async with members((url, "a")) as (one,):
            before = one.bus.identity
            proxy.target = second.port
            proxy.cut()
            await soon(lambda: one.bus.identity not in (None, before))
    finally:
        await proxy.stop()
        second.remove()


@pytest.mark.parametrize("url", ["redis:", "http://cache:6379", "cache:6379", "redis://cache:many"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must be a URL of Redis or Valkey"):
        RedisBus(url)


async def test_what_cannot_be_taken_in_ends_nothing(
    valkey_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    from redis.asyncio import Redis

    def take(text: str) -> None:
        heard.append(text)
        if text == "poison":
            raise LookupError("nobody knows what that is")

    heard: list[str] = []
    async with members((valkey_server.url, "p"), (valkey_server.url, "p")) as (one, other):
        other.bus._heard = take
        client = Redis.from_url(valkey_server.url)
        await client.publish("perdure:p", b"\xff\xfe \xff")
        await client.aclose()
        one.bus.publish(["poison", "good"])
        await soon(lambda: heard[-1:] == ["good"])
        assert other.bus.up
    assert "nobody knows what that is" in caplog.text


@pytest.mark.parametrize("password", ["se/cret", "se#cret", "se?cret", "se@cret", "6379/secret"])
def test_a_password_that_breaks_the_url_is_not_shown_either(password: str) -> None:
    try:
        told = RedisBus(f"redis://app:{password}@cache:6379").shown
    except ValueError as error:
        told = str(error)
        assert "percent" in told
        assert error.__cause__ is None
        assert error.__suppress_context__
    assert "cret" not in told


def test_the_password_is_not_shown() -> None:
    assert RedisBus("valkeys://app:secret@cache:6380/2?ssl_cert_reqs=none").shown == "valkeys://***@cache:6380/2"
