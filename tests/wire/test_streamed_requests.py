"""What the Python streaming client sends, how it is used, and that it leaves nothing open."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from perdure.client import Commit, Data, Metadata, RollbackBuffer, StreamError, fetch_with_stream, stream_events, sync
from perdure.client.event_stream import StreamOptions
from tests.support.replaying import Case, Expected, Replaying, Reply, replaying
from tests.support.stream_cases import CASES, DONE, JSON, META, REDIRECT, chunk, commit

NOTHING = Expected([])


def playing(*endpoint: str, then: str = "end", relay: list[Reply] | None = None) -> Case:
    return Case("", [Reply(list(endpoint), then=then)], NOTHING, relay or [])


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer k", "Accept": "a/b"}, [("Authorization", "Bearer k"), ("accept", "a/b")]]
)
async def test_what_the_caller_sends_goes_to_the_endpoint_alone(
    headers: dict[str, str] | list[tuple[str, str]],
) -> None:
    case = playing(META, REDIRECT, relay=[Reply([DONE])])
    async with replaying(case) as server, aiohttp.ClientSession(headers={"X-Key": "k"}, cookies={"c": "1"}) as client:
        response = await fetch_with_stream(server.url, client=client, method="POST", headers=headers, json={"a": None})
        assert (response.status_code, response.json()) == (200, "done")
        assert not client.closed
        (sent,), (asked,) = server.requests["endpoint"], server.requests["relay"]
    assert server.methods == [("POST", b'{"a":null}')]
    expected = {"content-type": "application/json", "accept": "a/b, text/event-stream", "authorization": "Bearer k"}
    assert {key: sent[key] for key in expected} == expected
    assert (sent["x-key"], sent["cookie"]) == ("k", "c=1")
    assert asked["accept"] == "text/event-stream"
    assert not {"authorization", "x-key", "cookie", "last-event-id"} & {key.lower() for key in asked}


@pytest.mark.parametrize(
    ("request_", "body", "kind"),
    [
        ({"method": "PUT", "content": "é"}, "é".encode(), None),
        ({"method": "PUT", "content": b"\xff", "headers": {"content-type": "x/y"}}, b"\xff", "x/y"),
        (
            {"method": "PUT", "json": [1], "headers": {"Content-Type": "application/x+json"}},
            b"[1]",
            "application/x+json",
        ),
    ],
)
async def test_bodies(request_: StreamOptions, body: bytes, kind: str | None) -> None:
    async with replaying(playing(DONE)) as server:
        await fetch_with_stream(server.url, **request_)
    assert server.methods == [("PUT", body)]
    if kind is not None:
        assert server.requests["endpoint"][0]["content-type"] == kind


async def test_two_bodies_are_refused() -> None:
    with pytest.raises(ValueError, match="json or content, not both"):
        await fetch_with_stream("http://127.0.0.1:1/", json=1, content=b"x")


async def test_a_closed_session_is_refused() -> None:
    async with aiohttp.ClientSession() as client:
        pass
    with pytest.raises(ValueError, match="client is closed"):
        await fetch_with_stream("http://127.0.0.1:1/", client=client)


async def test_an_endpoint_that_is_not_there_is_an_error_and_no_stream() -> None:
    done: list[bool] = []
    with pytest.raises(StreamError, match="the endpoint did not answer: connection refused"):
        await fetch_with_stream("http://127.0.0.1:1/?token=secret", on_done=lambda: done.append(True))
    assert done == []


async def test_events_can_be_iterated_over() -> None:
    async with replaying(CASES["parallel"]) as server:
        buffer = RollbackBuffer()
        async with stream_events(server.url) as events:
            async for event in events:
                buffer.add(event)
            assert events.response is not None
            assert (events.streamed, events.run_id, events.response.json()) == (True, "R", "done")
            assert await events.answer() is events.response
        assert (buffer.committed, buffer.pending) == ([2, 4], [])
        await server.closed()


async def test_an_answer_that_is_no_stream_has_no_events() -> None:
    async with replaying(CASES["plain"]) as server, stream_events(server.url) as events:
        assert [event async for event in events] == []
        assert events.streamed is False
        assert (await events.answer()).status_code == 418


@pytest.mark.parametrize("phase", ["direct", "relay"])
async def test_who_leaves_closes_the_connections(phase: str) -> None:
    relay = [Reply([chunk(2)], then="hang")]
    case = playing(META, chunk(1), commit(), REDIRECT, then="hang" if phase == "direct" else "end", relay=relay)
    wanted = Data(1, "a") if phase == "direct" else Data(2, "a")
    async with replaying(case) as server:
        async with stream_events(server.url) as events:
            async for event in events:
                if event == wanted:
                    break
        await server.closed()
        with pytest.raises(StreamError, match="was closed before"):
            await events.answer()


@pytest.mark.parametrize("phase", ["direct", "relay"])
async def test_a_call_that_is_cancelled_closes_the_connections(phase: str) -> None:
    case = playing(
        META, REDIRECT, chunk(1), then="hang" if phase == "direct" else "end", relay=[Reply([], then="hang")]
    )
    heard, done = asyncio.Event(), asyncio.Event()
    async with replaying(case) as server:
        call = asyncio.create_task(fetch_with_stream(server.url, on_data=lambda event: heard.set(), on_done=done.set))
        await heard.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert done.is_set()
        await server.closed()


@pytest.mark.parametrize("phase", ["headers", "direct", "relay"])
async def test_a_timeout_is_that_of_all_of_it(phase: str) -> None:
    case = playing(META, REDIRECT, then="hang" if phase == "direct" else "end", relay=[Reply([":\n\n"], then="hang")])
    said: list[str] = []
    async with replaying(case) as server:
        if phase == "headers":
            case.endpoint = [Reply(["x"], headers=JSON, then="hang")]
        with pytest.raises(TimeoutError):
            await fetch_with_stream(server.url, timeout=0.2, on_stream_error=said.append)
        assert len(said) == (0 if phase == "headers" else 1)
        await server.closed()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_error_of_a_callback_ends_the_call(asynchronous: bool) -> None:
    said: list[str] = []

    def fail(event: Data) -> None:
        raise LookupError("mine")

    async def fail_later(event: Data) -> None:
        await asyncio.sleep(0)
        fail(event)

    async with replaying(playing(META, REDIRECT, chunk(1), then="hang", relay=[Reply(then="hang")])) as server:
        with pytest.raises(LookupError, match="mine"):
            await fetch_with_stream(
                server.url,
                on_data=fail_later if asynchronous else fail,
                on_stream_error=said.append,
                on_done=lambda: said.append("done"),
            )
        await server.closed()
    assert said == ["mine", "done"]


async def test_callbacks_are_called_one_after_the_other() -> None:
    order: list[str] = []

    async def slow(event: Data) -> None:
        order.append(f"begin {event.data}")
        await asyncio.sleep(0)
        order.append(f"end {event.data}")

    async with replaying(playing(META, chunk(1), chunk(2), commit(), DONE)) as server:
        await fetch_with_stream(server.url, on_data=slow, on_commit=lambda event: order.append("commit"))
    assert order == ["begin 1", "end 1", "begin 2", "end 2", "commit"]


async def test_without_resuming_the_relay_is_asked_once() -> None:
    async with replaying(CASES["relay_fails_once"]) as server:
        with pytest.raises(StreamError, match="Stream request failed: 500") as raised:
            await fetch_with_stream(server.url, resume=False)
        assert raised.value.status == 500
        assert len(server.requests["relay"]) == 1


async def test_patience_ends() -> None:
    relay = [Reply([":\n\n"])]
    async with replaying(playing(META, REDIRECT, relay=relay)) as server:
        with pytest.raises(StreamError, match="No response: the relay ended without one"):
            await fetch_with_stream(server.url, patience=0.3)
        assert len(server.requests["relay"]) > 1


async def test_a_relay_that_falls_silent_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.client.relay._RELAY_LIMIT", aiohttp.ClientTimeout(total=None, sock_read=0.1))
    relay = [Reply([chunk(1, id=1)], then="hang"), Reply([commit(id=2), DONE])]
    async with replaying(playing(META, REDIRECT, relay=relay)) as server:
        assert (await fetch_with_stream(server.url)).json() == "done"
        assert [headers.get("last-event-id") for headers in server.requests["relay"]] == [None, "1"]
        await server.closed()


async def test_a_stream_can_be_joined_later() -> None:
    case = playing(META, chunk(1, id=1), REDIRECT, relay=[Reply([chunk(2, id=2), commit(id=3), DONE])])
    async with replaying(case) as server:
        async with stream_events(server.url) as events:
            async for event in events:
                if isinstance(event, Data):
                    break
            # What comes before is read with the next event: the address of the relay is known by then.
            assert await anext(events) == Data(2, "a")
            relay, seen = events.relay_url, events.last_event_id
        assert relay is not None
        async with stream_events(relay, last_event_id=seen) as joined:
            assert [event async for event in joined] == [Commit("a")]
        assert server.requests["relay"][1]["last-event-id"] == "2"
        async with stream_events(relay, last_event_id="0") as joined:
            assert [event async for event in joined] == [Data(2, "a"), Commit("a")]


async def test_addresses_that_are_not_of_http_are_refused() -> None:
    redirect = REDIRECT.replace("{origin}/relay", "file:///etc/passwd")
    async with replaying(playing(META, redirect)) as server:
        with pytest.raises(StreamError, match="not one of HTTP"):
            await fetch_with_stream(server.url)


async def test_a_redirect_is_followed() -> None:
    async with replaying(CASES["parallel"]) as target:
        moved = Case("", [Reply(status=302, headers={"location": target.url})], NOTHING)
        async with replaying(moved) as server:
            assert (await fetch_with_stream(server.url)).json() == "done"


async def test_blocking_events() -> None:
    def listen(server: Replaying) -> None:
        with sync.stream_events(server.url) as events:
            kinds = [type(event) for event in events]
            assert kinds == [Metadata, Data, Data, Commit]
            assert (events.run_id, events.streamed, events.last_event_id) == ("R", True, "4")
            assert events.response is not None and events.response is events.answer()
            assert events.relay_url == server.origin + "/relay"
        with sync.stream_events(server.url) as events:
            assert next(iter(events)) == Metadata("R")

    async with replaying(CASES["unterminated_then_relay"]) as server:
        await asyncio.to_thread(listen, server)
        await server.closed()


async def test_blocking_needs_a_thread_without_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match=r"await what perdure\.client has"):
        sync.fetch_with_stream("http://127.0.0.1:1/")
