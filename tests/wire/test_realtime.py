"""Realtime over sockets: what subscribers hear, and what publishers are told.

The frames are compared with what a server of the protocol was seen to send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from perdure.bus.realtime import TOO_SLOW, Hub
from perdure.server.realtime.events import Timing
from perdure.server.realtime.events import event_stream as stream_of
from perdure.wire.realtime import MAX_MESSAGE_BYTES, MAX_STREAM_BYTES, Topic
from tests.support.realtime import ENVIRONMENT, RUN, connect, event_stream, frame, listening, token
from tests.support.sockets import Served, served


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


# Subscribing.


async def test_a_subscriber_hears_its_topics_and_no_others(server: Served) -> None:
    async with listening(server, ("chan", "top"), ("chan", "second")) as socket:
        publish = "/v1/realtime/publish?channel={}&topic={}"
        await server.http.post(publish.format("other", "top"), json=0)
        await server.http.post(publish.format("chan", "other"), json=0)
        response = await server.http.post(publish.format("chan", "top") + f"&run_id={RUN}", json={"hello": 1})
        assert (response.status_code, response.content) == (200, b"")
        assert await frame(socket) == {
            "kind": "data",
            "data": {"hello": 1},
            "created_at": "2027-01-15T08:00:00.000Z",
            "channel": "chan",
            "env_id": ENVIRONMENT,
            "topic": "top",
            "run_id": RUN,
        }
        both = publish.format("chan", "top") + "&topic=second&metadata=%7B%22a%22%3A1%7D"
        await server.http.post(both, content=b"null")
        heard = [await frame(socket), await frame(socket)]
        assert [(one["topic"], one["data"], one["metadata"]) for one in heard] == [
            ("top", None, {"a": 1}),
            ("second", None, {"a": 1}),
        ]


async def test_names_with_any_characters_keep_apart(server: Served) -> None:
    async with listening(server, ("a:b", "c")) as socket:
        server.node.realtime.publish("a", "b:c", 1)
        server.node.realtime.publish("a:b", "c", 2)
        assert (await frame(socket))["data"] == 2


async def test_code_in_the_process_publishes_what_a_step_may_return(server: Served) -> None:
    async with listening(server, ("orders", "status")) as socket:
        server.node.realtime.publish("orders", "status", {"paid": True}, run_id=RUN)
        heard = await frame(socket)
        assert (heard["data"], heard["run_id"]) == ({"paid": True}, RUN)


async def test_a_connection_outlives_its_token(server: Served) -> None:
    async with listening(server, ("c", "t")) as socket:
        await server.wire.clock.advance("10m")
        server.node.realtime.publish("c", "t", 1)
        assert (await frame(socket))["data"] == 1


async def test_topics_are_added_with_a_token_and_given_up_without(server: Served) -> None:
    async with listening(server, ("c", "first")) as socket:
        await socket.send(json.dumps({"kind": "sub", "data": await token(server, ("c", "second"))}))
        topic = {"kind": "run", "env_id": ENVIRONMENT, "channel": "c", "name": "second"}
        assert await frame(socket) == {"kind": "sub", "data": {"topics": [topic]}}
        await socket.send(json.dumps({"kind": "unsub", "data": [{"channel": "c", "name": "first"}]}))
        assert (await frame(socket))["kind"] == "unsub"
        server.node.realtime.publish("c", "first", 1)
        server.node.realtime.publish("c", "second", 2)
        assert (await frame(socket))["data"] == 2


async def test_what_a_subscriber_may_not_have_it_is_told_and_goes_on(server: Served) -> None:
    async with listening(server, ("c", "t")) as socket:
        for data in ("nonsense", 1, None, [{"channel": "c", "name": "secret"}]):
            await socket.send(json.dumps({"kind": "sub", "data": data}))
            assert "token" in (await frame(socket))["data"]["error"]
        await socket.send(json.dumps({"kind": "unsub", "data": "all"}))
        assert "list of topics" in (await frame(socket))["data"]["error"]
        # None of these asks for anything.
        for text in ("", "{", "[]", '"sub"', '{"kind": 1}', '{"kind": "event", "data": 1}', '{"kind": "ping"}'):
            await socket.send(text)
        await socket.send(b'{"kind": "unsub", "data": []}')
        server.node.realtime.publish("c", "secret", 1)
        server.node.realtime.publish("c", "t", 2)
        assert (await frame(socket))["data"] == 2


async def test_a_subscriber_that_left_is_forgotten(server: Served) -> None:
    async with listening(server, ("c", "t")), listening(server, ("c", "t")) as other:
        pass
    async with listening(server, ("c", "t")) as socket:
        server.node.realtime.publish("c", "t", 1)
        await frame(socket)
        with pytest.raises(ConnectionClosed):
            await other.recv()
    hub: Hub = server.node.realtime
    # The server learns of it when it reads the end of the connection.
    while hub._subscriptions:
        await asyncio.sleep(0)
    assert hub._bus._listeners == {}


async def test_a_subscriber_who_does_not_read_is_given_up_and_others_hear_on(server: Served) -> None:
    jwt = await token(server, ("c", "t"))
    async with connect(server, jwt, max_queue=1, ping_interval=None) as slow, connect(server, jwt) as quick:
        text = "x" * 400_000
        for number in range(40):
            server.node.realtime.publish("c", "t", {"number": number, "text": text})
            assert (await frame(quick))["data"]["number"] == number
        heard = 0
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await slow.recv()
                heard += 1
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1013, TOO_SLOW)
        assert heard < 40
        server.node.realtime.publish("c", "t", "on")
        assert (await frame(quick))["data"] == "on"


async def test_when_the_server_stops_subscribers_are_told(server: Served) -> None:
    jwt = await token(server, ("c", "t"))
    async with connect(server, jwt) as socket:
        async with event_stream(server, jwt) as events:
            assert await anext(events) == b":\n\n"
            stopping = asyncio.create_task(server.stop())
            assert [piece async for piece in events] == []
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code in (1001, 1012)
        await stopping


# Event streams.


async def test_an_event_stream_begins_at_once_and_carries_the_frames(server: Served) -> None:
    async with event_stream(server, await token(server, ("c", "t")), origin="https://shop.example") as events:
        assert await anext(events) == b":\n\n"
        await server.http.post("/v1/realtime/publish?channel=c&topic=t", content=b'{\n "price":\r\n 1.50 }')
        piece = await anext(events)
        assert piece.startswith(b'data: {"kind":"data","data":{  "price":   1.50 },"created_at":')
        assert piece.endswith(b"\n\n") and piece.count(b"\n") == 2


# Publishing.


@pytest.mark.parametrize(
    ("query", "content", "status", "told"),
    [
        ("topic=t", b"1", 400, "'channel' is missing"),
        ("channel=c", b"1", 400, "'topic' is missing"),
        ("channel=&topic=t", b"1", 400, "'channel' is missing"),
        ("channel=c&topic=t&run_id=zzz", b"1", 400, "'run_id' must be the id of a run"),
        ("channel=c&topic=t&metadata={", b"1", 400, "'metadata' is not valid JSON"),
        ("channel=c&topic=t", b"\xff\xfe", 400, "neither JSON nor text"),
        ("channel=c&topic=t", b'"' + b"x" * MAX_MESSAGE_BYTES + b'"', 413, "larger than 524288 bytes"),
        ("channel=c&topic=t", b'"\n' * (MAX_MESSAGE_BYTES // 2), 413, "at most 524288 are allowed"),
    ],
)
async def test_what_cannot_be_published_is_refused_and_nobody_hears_of_it(
    server: Served, query: str, content: bytes, status: int, told: str
) -> None:
    async with listening(server, ("c", "t")) as socket:
        response = await server.http.post(f"/v1/realtime/publish?{query}", content=content)
        assert response.status_code == status
        assert told in response.json()["error"] and response.json()["status"] == status
        server.node.realtime.publish("c", "t", "the next")
        assert (await frame(socket))["data"] == "the next"


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"plain text", "plain text"),
        (b"{", "{"),
        (b"", ""),
        (b'"quoted"', "quoted"),
        (b"12345678901234567890123", 12345678901234567890123),
        ('"é\\ud83d\\ude00"'.encode(), "é😀"),
    ],
)
async def test_sdks_send_texts_as_they_are(server: Served, body: bytes, data: object) -> None:
    async with listening(server, ("c", "t")) as socket:
        response = await server.http.post(
            "/v1/realtime/publish?channel=c&topic=t", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 200
        assert (await frame(socket))["data"] == data


async def test_a_message_of_the_largest_size_arrives_whole(server: Served) -> None:
    text = "x" * (MAX_MESSAGE_BYTES - 2)
    async with listening(server, ("c", "t")) as socket:
        assert (await server.http.post("/v1/realtime/publish?channel=c&topic=t", json=text)).status_code == 200
        assert (await frame(socket))["data"] == text


async def pieces(*texts: bytes) -> AsyncGenerator[bytes, None]:
    for text in texts:
        yield text


async def published_stream(server: Served, *texts: bytes) -> httpx2.Response:
    return await server.http.post(
        "/v1/realtime/publish?channel=c2&topic=x",
        content=pieces(*texts),
        headers={"content-type": "text/stream"},
    )


async def test_a_stream_is_told_piece_by_piece(server: Served) -> None:
    async with listening(server, ("c2", "x")) as socket:
        # The é comes in two pieces.
        assert (await published_stream(server, b"hell\xc3", b"\xa9" + b"y" * 1024)).status_code == 200
        start = await frame(socket)
        stream_id = start["data"]
        common = {"channel": "c2", "topic": "x", "env_id": ENVIRONMENT, "created_at": "2027-01-15T08:00:00.000Z"}
        assert start == {"kind": "datastream-start", "data": stream_id, **common}
        text = ""
        while (heard := await frame(socket))["kind"] == "chunk":
            assert heard == {"kind": "chunk", "data": heard["data"], "stream_id": stream_id, **common}
            assert len(heard["data"]) <= 1024
            text += heard["data"]
        assert text == "hellé" + "y" * 1024
        assert heard == {"kind": "datastream-end", "data": stream_id, **common}


@pytest.mark.parametrize(
    ("texts", "status", "told"),
    [
        ([b"x" * 600_000, b"x" * 600_000], 413, f"at most {MAX_STREAM_BYTES} bytes"),
        ([b"ok \xff\xfe"], 400, "UTF-8"),
        ([b"ok \xc3"], 400, "UTF-8"),
    ],
)
async def test_a_stream_that_breaks_off_says_so_at_its_end(
    server: Served, texts: list[bytes], status: int, told: str
) -> None:
    async with listening(server, ("c2", "x")) as socket:
        response = await published_stream(server, *texts)
        assert response.status_code == status and told in response.json()["error"]
        while (heard := await frame(socket))["kind"] != "datastream-end":
            pass
        assert heard["metadata"]["error"]


async def test_a_stream_known_to_be_too_large_does_not_begin(server: Served) -> None:
    async with listening(server, ("c2", "x"), ("c2", "y")) as socket:
        headers = {"content-type": "text/stream; charset=utf-8"}
        address = "/v1/realtime/publish?channel=c2&topic=x"
        body = b"x" * (MAX_STREAM_BYTES + 1)
        assert (await server.http.post(address, content=body, headers=headers)).status_code == 413
        assert (await server.http.post(address + "&topic=y", content=b"x", headers=headers)).status_code == 400
        server.node.realtime.publish("c2", "x", "the next")
        assert (await frame(socket))["data"] == "the next"


async def test_a_publisher_that_leaves_ends_its_stream(server: Served) -> None:
    async with listening(server, ("c2", "x")) as socket:
        host, port = server.address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/realtime/publish?channel=c2&topic=x HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: text/stream\r\nContent-Length: 100\r\n\r\nhello"
        )
        assert (await frame(socket))["kind"] == "datastream-start"
        assert (await frame(socket))["data"] == "hello"
        writer.close()
        await writer.wait_closed()
        heard = await frame(socket)
        assert (heard["kind"], heard["metadata"]) == (
            "datastream-end",
            {"error": "the publisher left before its end"},
        )


async def test_a_quiet_event_stream_is_kept_alive_and_ends_in_time() -> None:
    hub = Hub(now=lambda: 0, new_id=lambda: "s")
    with hub.subscribed([Topic("c", "t"), Topic("c", "$stream")]) as subscription:
        events = stream_of(subscription, Timing(keepalive=0.001, longest=60))
        assert [await anext(events), await anext(events), await anext(events)] == [b":\n\n"] * 3
        # Between the pieces of an event there is no place for a comment.
        hub.tee("c", b"data: 1")
        assert await anext(events) == b"data: 1"
        asyncio.get_running_loop().call_later(0.02, hub.tee, "c", b"2\n\n")
        assert [await anext(events), await anext(events)] == [b"2\n\n", b":\n\n"]
        short = stream_of(subscription, Timing(keepalive=60, longest=0.001))
        assert [piece async for piece in short] == [b":\n\n", b":\n\n"]


async def test_a_defect_in_a_socket_closes_it_and_is_logged(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("perdure.server.realtime.sockets.parse_request", fail)
    async with listening(server, ("c", "t")) as socket:
        await socket.send("anything")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011
    assert "/v1/realtime/connect: the WebSocket failed unexpectedly" in caplog.text
    monkeypatch.setattr(server.node.realtime, "subscribed", fail)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(server, await token(server, ("c", "t"))):
            pass
    assert refused.value.response.status_code == 500
