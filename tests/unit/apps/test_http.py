"""Calls over HTTP end as a reply or as an error that says what to do, whatever the app does (part C.3)."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import get_args

import pytest

from perdure.apps.http import HttpTransport
from perdure.apps.transport import Call, CallError, Reply
from perdure.model.json import decode
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.model.limits import MAX_REPLY_BYTES
from tests.support.hostile_app import HostileApp, Mode, hostile

BODY = b'{"a":1}'
KEYS = Keys([EventKey.parse("events")], [SigningKey.parse("signkey-test-1234")])
SDK = {"x-inngest-sdk": "inngest-py:v0.5.0"}
_MOST_MEMORY = 3 * MAX_REPLY_BYTES
"""An answer of the largest size, the bytes of it as they were read, and what the app itself holds."""

BROKEN = "http_broken_response"
REPLIES: dict[Mode, tuple[int, bytes]] = {
    "answers": (200, b'{"ok":true}'),
    "slow_answer": (200, b'{"ok":true}'),
    "drip": (200, b'{"ok":true}'),
    "empty": (200, b""),
    "not_json": (200, b"<html>"),
    "no_sdk": (200, b"<html>"),
    "not_utf8": (200, b'{"a":"\xff\xfe"}'),
    "switches": (101, b""),
    "early_answer": (200, b'{"ok":true}'),
    "answers_twice": (200, b'{"ok":true}'),
    "closes_after": (200, b'{"ok":true}'),
}
ERRORS: dict[Mode, tuple[str, str]] = {
    "silent": ("http_timeout", "did not answer within 0.3 s"),
    "drips_headers": ("http_timeout", "did not answer within 0.3 s"),
    "long_length": ("http_timeout", "did not answer within 0.3 s"),
    "closes_at_once": (BROKEN, "closed before the answer was complete"),
    "closes_in_headers": (BROKEN, "closed before the answer was complete"),
    "closes_in_body": (BROKEN, "not completed"),
    "closes_in_chunks": (BROKEN, "not completed"),
    "resets": (BROKEN, "not completed"),
    "half_closed": (BROKEN, "closed before the answer was complete"),
    "garbage": (BROKEN, "Bad status line"),
    "garbage_status": (BROKEN, "Invalid status code"),
    "short_length": (BROKEN, "Bad status line"),
    "negative_length": (BROKEN, "Content-Length"),
    "two_lengths": (BROKEN, "Content-Length"),
    "oversized": ("output_too_large", "return a reference"),
    "oversized_until_closed": ("output_too_large", "return a reference"),
    "oversized_chunks": ("output_too_large", "return a reference"),
    "endless_chunks": ("output_too_large", "return a reference"),
    "endless_body": ("output_too_large", "return a reference"),
    "gzip_bomb": ("output_too_large", "return a reference"),
    "endless_headers": (BROKEN, "Too many headers"),
    "many_headers": (BROKEN, "Too many headers"),
    "huge_header": (BROKEN, "8190 bytes"),
    "endless_line": (BROKEN, "8190 bytes"),
    "bad_gzip": (BROKEN, "gzip"),
    "bad_chunks": (BROKEN, "chunk size"),
    "redirects_for_ever": ("too_many_redirects", "again and again"),
    "redirects_nowhere": ("http_unreachable", "Is the app running"),
    "redirects_to_file": ("invalid_url", "file:///etc/hosts"),
    "continues": (BROKEN, "interim answers"),
}


def a_call(url: str) -> Call:
    headers = {"content-type": "application/json", "x-run-id": "run"}
    return Call(url, headers, BODY, "app", "app-fn", "run", "request", "step", "job")


@asynccontextmanager
async def transport(
    keys: Keys | None = None, *, timeout: float = 20, now: Callable[[], int] = lambda: 1_800_000_000_000
) -> AsyncGenerator[HttpTransport]:
    opened = HttpTransport(now, keys, timeout=timeout)
    try:
        yield opened
    finally:
        await opened.close()


async def error_of(http: HttpTransport, url: str) -> CallError:
    with pytest.raises(CallError) as caught:
        await http.call(a_call(url))
    return caught.value


def test_every_mode_is_told_what_becomes_of_it() -> None:
    assert sorted([*REPLIES, *ERRORS]) == sorted(get_args(Mode))


@pytest.mark.parametrize("mode", REPLIES)
async def test_what_is_an_answer_is_a_reply(mode: Mode) -> None:
    async with hostile(mode) as app, transport() as http:
        app.delay = 0.01
        reply = await http.call(a_call(app.url))
    assert (reply.status, reply.body) == REPLIES[mode]
    assert ("x-inngest-sdk" in reply.headers) == (mode not in ("no_sdk", "switches"))


@pytest.mark.parametrize("mode", ERRORS)
async def test_what_is_none_is_an_error_that_says_why(mode: Mode) -> None:
    code, says = ERRORS[mode]
    patience = 0.3 if code == "http_timeout" else 20
    async with hostile(mode) as app, transport(timeout=patience) as http:
        app.delay = 0.05
        gc.collect()
        tracemalloc.start()
        try:
            error = await error_of(http, app.url)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (error.code, says in error.message) == (code, True), error.message
    # What the app sent is quoted, but not at length.
    assert len(error.message) < 700
    assert most < _MOST_MEMORY


async def test_whoever_gives_up_hangs_up() -> None:
    async with hostile("silent") as app, transport(timeout=0.1) as http:
        await error_of(http, app.url)
        async with asyncio.timeout(5):
            while not app.hung_up:
                await asyncio.sleep(0)


async def test_a_port_where_nobody_listens_is_told_with_what_to_do() -> None:
    async with hostile() as app:
        url = app.url
    async with transport() as http:
        error = await error_of(http, url)
    assert error.code == "http_unreachable"
    assert url in error.message and "Is the app running" in error.message


@pytest.mark.parametrize(
    "url", ["", "http://", "http://[::1/x", "nowhere", "ftp://app.test/", "http://a b/", "http://h:99999999/"]
)
async def test_a_url_that_is_none_is_an_error(url: str) -> None:
    async with transport() as http:
        error = await error_of(http, url)
    assert error.code in ("invalid_url", "http_broken_response", "http_unreachable")


async def test_calls_are_signed_when_there_are_keys() -> None:
    async with hostile() as app, transport(KEYS) as http:
        await http.call(a_call(app.url))
        (head,) = app.heads
    lines = dict(line.split(": ", 1) for line in head.lower().split("\r\n") if ": " in line)
    assert lines["x-inngest-signature"] == KEYS.sign(BODY, 1_800_000_000_000)
    async with hostile() as app, transport() as http:
        await http.call(a_call(app.url))
        assert "x-inngest-signature" not in app.heads[0].lower()


async def test_one_connection_serves_calls_one_after_another() -> None:
    async with hostile() as app, transport() as http:
        for _ in range(5):
            await http.call(a_call(app.url))
        assert (len(app.requests), app.connections) == (5, 1)


async def test_nothing_is_left_of_an_answer_that_was_refused() -> None:
    """The rest of a broken answer must not be taken for the answer to the next call."""
    async with hostile("answers_twice") as app, transport() as http:
        app.body = b'"stale"'
        await http.call(a_call(app.url))
        app.mode, app.body = "answers", b'"fresh"'
        bodies = [(await http.call(a_call(app.url))).body for _ in range(3)]
        assert bodies == [b'"fresh"'] * 3
        for mode in ("short_length", "oversized_chunks", "bad_chunks"):
            app.mode = mode
            await error_of(http, app.url)
            app.mode = "answers"
            assert (await http.call(a_call(app.url))).body == b'"fresh"'


async def test_a_kept_connection_that_the_app_has_closed_costs_nothing() -> None:
    async with hostile("closes_after") as app, transport() as http:
        for _ in range(5):
            assert (await http.call(a_call(app.url))).status == 200
        assert len(app.requests) == 5


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncGenerator[str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/api?fnId=f&stepId=step"
    finally:
        server.close()


async def test_a_connection_that_closes_as_it_is_used_again_is_replaced() -> None:
    """The app closed it, and did not see the call: the call goes out once more, on a connection of its own."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")

    async with listening(serve) as url, transport() as http:
        for _ in range(4):
            assert (await http.call(a_call(url))).status == 200
        assert len(connections) == 4


async def test_a_call_that_a_new_connection_does_not_answer_is_not_repeated() -> None:
    """The app may have begun with it: whether to try again is for the run's attempts to say."""
    async with hostile("half_closed") as app, transport() as http:
        assert (await error_of(http, app.url)).code == BROKEN
        assert len(app.requests) == 1


@asynccontextmanager
async def redirecting(status: int, location: str) -> AsyncGenerator[tuple[HostileApp, HostileApp]]:
    """An app that redirects to another; `location` has its port to be filled in."""
    async with hostile() as first, hostile() as second:
        first.status, first.body = status, b""
        first.headers = {"location": location.format(second.port), **SDK}
        yield first, second


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_that_keeps_the_method_keeps_the_body(status: int) -> None:
    async with redirecting(status, "http://127.0.0.1:{}/moved?x=1") as (first, second), transport(KEYS) as http:
        assert (await http.call(a_call(first.url))).status == 200
        assert second.requests == [BODY]
        (head,) = second.heads
    assert head.startswith("POST /moved?x=1 ")
    assert KEYS.sign(BODY, 1_800_000_000_000) in head and "x-run-id: run" in head.lower()


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_other_redirects_are_followed_by_a_get(status: int) -> None:
    async with redirecting(status, "http://127.0.0.1:{}/login?x=1") as (first, second), transport() as http:
        assert (await http.call(a_call(first.url))).status == 200
        assert second.requests == [b""]
        assert second.heads[0].startswith("GET /login?x=1 ")


async def test_a_redirect_without_a_query_keeps_what_shall_run() -> None:
    async with redirecting(308, "http://127.0.0.1:{}/api/inngest/") as (first, second), transport() as http:
        await http.call(a_call(first.url))
        assert second.heads[0].startswith("POST /api/inngest/?fnId=app-fn&stepId=step ")


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", True), ("localhost", False)])
async def test_what_a_caller_showed_to_one_host_is_not_told_to_another(host: str, shown: bool) -> None:
    async with redirecting(307, f"http://{host}:{{}}/moved?x=1") as (first, second), transport() as http:
        call = a_call(first.url)
        call.headers |= {"authorization": "Bearer secret", "cookie": "a=secret"}
        assert (await http.call(call)).status == 200
        assert "secret" in first.heads[0]
        assert ("secret" in second.heads[0]) is shown
        assert "x-run-id: run" in second.heads[0].lower()


async def test_a_redirect_may_name_a_path_alone() -> None:
    async with hostile() as app, transport() as http:
        app.status, app.headers = 307, {"location": "/elsewhere", **SDK}
        error = await error_of(http, app.url)
        assert error.code == "too_many_redirects" and "/elsewhere" in error.message
        assert app.requests == [BODY] * 21 and app.connections == 1
        assert app.heads[-1].startswith("POST /elsewhere?fnId=app-fn&stepId=step ")


@pytest.mark.parametrize("location", ["", "http://", "http://[::1/", "javascript:alert(1)"])
async def test_a_redirect_to_what_is_no_url_is_an_error(location: str) -> None:
    async with hostile() as app, transport() as http:
        app.status, app.headers = 307, {"location": location, **SDK}
        error = await error_of(http, app.url)
    assert error.code in ("invalid_url", "too_many_redirects")


@pytest.mark.parametrize("status", [300, 304, 307])
async def test_a_3xx_that_leads_nowhere_is_a_reply(status: int) -> None:
    async with hostile() as app, transport() as http:
        app.status, app.body = status, b""
        assert (await http.call(a_call(app.url))).status == status


async def test_an_answer_in_gzip_is_unpacked() -> None:
    packer = zlib.compressobj(wbits=31)
    async with hostile() as app, transport() as http:
        app.body = packer.compress(b'{"packed":true}') + packer.flush()
        app.headers = {"content-encoding": "gzip", **SDK}
        assert decode((await http.call(a_call(app.url))).body) == {"packed": True}
        assert "accept-encoding: gzip" in app.heads[0].lower()


async def test_the_largest_answer_is_taken() -> None:
    async with hostile() as app, transport() as http:
        app.body = b"x" * MAX_REPLY_BYTES
        assert len((await http.call(a_call(app.url))).body) == MAX_REPLY_BYTES
        app.body += b"x"
        assert (await error_of(http, app.url)).code == "output_too_large"


async def test_hundreds_of_silent_calls_hold_up_no_other() -> None:
    async with hostile("silent") as dead, hostile() as alive, transport() as http:
        hanging = [asyncio.create_task(http.call(a_call(dead.url))) for _ in range(200)]
        async with asyncio.timeout(10):
            while len(dead.requests) < 200:
                await asyncio.sleep(0)
            replies: list[Reply] = [await http.call(a_call(alive.url)) for _ in range(20)]
        assert all(reply.status == 200 for reply in replies)
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_it_can_be_closed_before_it_was_used_and_used_after_it_was_closed() -> None:
    async with hostile() as app, transport() as http:
        await http.close()
        assert (await http.call(a_call(app.url))).status == 200
        await http.close()
        assert (await http.call(a_call(app.url))).status == 200
