"""Realtime over sockets: what subscribers hear, what publishers are told, and who may listen.

The frames are compared with what a server of the protocol was seen to send.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from perdure.bus.realtime import TOO_SLOW, Hub
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from perdure.server.realtime import issue_token, read_token
from perdure.server.tokens import Claims, sign
from perdure.wire.realtime import MAX_MESSAGE_BYTES, MAX_STREAM_BYTES, Topic
from tests.support.sockets import Served, served

ENVIRONMENT = "00000000-0000-4000-b000-000000000000"
DEVELOPMENT = b"dev-mode-is-not-secret"
SIGNING = "signkey-prod-" + "0123456789abcdef" * 4
RUN = "01M812G5DBRMY8JK6C1F20EN4A"


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


@pytest.fixture
async def locked() -> AsyncGenerator[Served, None]:
    guard = Guard(Keys([EventKey.parse("events")], [SigningKey.parse(SIGNING)]), kind="cloud")
    async with served(lambda node: make_app(node, guard)) as started:
        yield started


async def token(server: Served, *topics: tuple[str, str], bearer: str = "") -> str:
    asked = [{"channel": channel, "name": name, "kind": "run"} for channel, name in topics]
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    response = await server.http.post("/v1/realtime/token", json=asked, headers=headers)
    assert response.status_code == 201
    jwt: str = response.json()["jwt"]
    return jwt


def connect(server: Served, jwt: str, **options: Any) -> AbstractAsyncContextManager[ClientConnection]:
    return connect_socket(server.ws(f"/v1/realtime/connect?token={jwt}"), proxy=None, **options)


@asynccontextmanager
async def listening(server: Served, *topics: tuple[str, str]) -> AsyncGenerator[ClientConnection, None]:
    async with connect(server, await token(server, *topics)) as socket:
        yield socket


async def frame(socket: ClientConnection) -> dict[str, Any]:
    text = await socket.recv()
    assert isinstance(text, str)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def claims(jwt: str) -> dict[str, Any]:
    part = jwt.split(".")[1]
    parsed: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return parsed


# Tokens.


async def test_a_token_says_who_made_it_for_what_and_until_when(server: Served) -> None:
    said = claims(await token(server, ("c", "topic")))
    now = server.node.clock.now() // 1000
    assert len(said.pop("jti")) == 26
    assert said == {
        "iss": "rt.inngest.com",
        "sub": "00000000-0000-4000-a000-000000000000",
        "env": ENVIRONMENT,
        "iat": now,
        "exp": now + 60,
        "topics": [{"kind": "run", "env_id": ENVIRONMENT, "channel": "c", "name": "topic"}],
        "publish": False,
    }


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"channel": "c"}', "Invalid request: must provide a list of topics"),
        (b"", "Invalid request: must provide a list of topics: "),
        (b'["c"]', "topics[0] must be an object"),
        (b'[{"channel": "c", "name": ""}]', "topics[0].name must be a string that is not empty"),
        (b'[{"channel": 1, "name": "t"}]', "topics[0].channel must be a string"),
        (b'[{"channel": "c", "name": "t", "kind": "event"}]', 'topics[0].kind must be "run"'),
        (b'[{"channel": "c", "name": "t", "run_id": 1}]', "topics[0].run_id must be a string"),
        (b"[" + b'{"channel":"c","name":"t"},' * 1000 + b'{"channel":"c","name":"t"}]', "1001 topics are too many"),
    ],
)
async def test_what_is_no_list_of_topics_gets_no_token(server: Served, body: bytes, told: str) -> None:
    response = await server.http.post("/v1/realtime/token", content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("Invalid request: must provide a list of topics")
    assert told in response.json()["error"] and response.json()["status"] == 400


def other_token(**changed: Any) -> str:
    now = 10**12
    extra = {"env": ENVIRONMENT, "topics": [{"channel": "c", "name": "t"}], **changed}
    return sign(Claims("rt.inngest.com", "", "", extra), DEVELOPMENT, now=now, lifetime=60_000)


TOPIC = Topic("c", "t")


def bad_tokens(now: int) -> Iterable[str]:
    good = issue_token([TOPIC], DEVELOPMENT, now=now, token_id="1")
    head, body, _ = good.split(".")
    yield ""
    yield "nonsense"
    yield "a.b.c"
    yield issue_token([TOPIC], b"another secret", now=now, token_id="1")
    yield issue_token([TOPIC], DEVELOPMENT, now=now - 60_001, token_id="1")
    yield issue_token([TOPIC], DEVELOPMENT, now=now + 60_000, token_id="1")
    # Without a signature, as "none" would have it.
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    yield f"{none}.{body}."
    yield f"{head}.{body}."
    for extra in ({"env": "another"}, {"topics": "all"}, {"topics": [{"channel": "c"}]}):
        merged = {"env": ENVIRONMENT, "topics": [], **extra}
        yield sign(Claims("rt.inngest.com", "", "", merged), DEVELOPMENT, now=now, lifetime=60_000)
    yield sign(Claims("connect.inngest.com", "", "", {"env": ENVIRONMENT}), DEVELOPMENT, now=now, lifetime=60_000)


async def test_nobody_listens_without_a_good_token(server: Served) -> None:
    now = server.node.clock.now()
    for jwt in bad_tokens(now):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server, jwt):
                pass
        assert refused.value.response.status_code == 401
        body = json.loads(refused.value.response.body or b"")
        assert body == {"error": "Not authenticated", "data": None, "status": 401}
        for path in ("sse", "connect"):
            response = await server.http.get(f"/v1/realtime/{path}", params={"token": jwt})
            assert (response.status_code, response.json()) == (401, body)
    with pytest.raises(InvalidStatus):
        async with connect_socket(server.ws("/v1/realtime/connect"), proxy=None):
            pass
    good = issue_token([TOPIC], DEVELOPMENT, now=now, token_id="1")
    assert (await server.http.get("/v1/realtime/connect", params={"token": good})).status_code == 426


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
            "created_at": "2026-01-01T00:00:00.000Z",
            "channel": "chan",
            "env_id": ENVIRONMENT,
            "topic": "top",
            "run_id": RUN,
        }
        both = publish.format("chan", "top") + "&topic=second&metadata=%7B%22a%22%3A1%7D"
        await server.http.post(both, json=None)
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
            server.server.should_exit = True
            assert [piece async for piece in events] == []
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code in (1001, 1012)


# Event streams.


@asynccontextmanager
async def event_stream(server: Served, jwt: str, **headers: str) -> AsyncGenerator[AsyncIterator[bytes], None]:
    async with server.http.stream("GET", f"/v1/realtime/sse?token={jwt}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["access-control-allow-origin"] == headers.get("origin", "*")
        yield response.aiter_raw()


async def test_an_event_stream_begins_at_once_and_carries_the_frames(server: Served) -> None:
    async with event_stream(server, await token(server, ("c", "t")), origin="https://shop.example") as events:
        assert await anext(events) == b":\n\n"
        await server.http.post("/v1/realtime/publish?channel=c&topic=t", content=b'{\n "price":\r\n 1.50 }')
        piece = await anext(events)
        assert piece.startswith(b'data: {"kind":"data","data":{  "price":   1.50 },"created_at":')
        assert piece.endswith(b"\n\n") and piece.count(b"\n") == 2


async def test_the_bytes_of_a_response_pass_as_they_are(server: Served) -> None:
    jwt = await token(server, (RUN, "$stream"))
    async with event_stream(server, jwt) as events, connect(server, jwt) as socket:
        assert await anext(events) == b":\n\n"
        sent = b'event: inngest.stream\ndata: {"data":"h\xc3\xa9"}\n\n'
        response = await server.http.post(f"/v1/realtime/publish/tee?channel={RUN}", content=sent)
        assert (response.status_code, response.content) == (200, b"")
        assert await anext(events) == sent
        assert await socket.recv() == sent
    assert (await server.http.post("/v1/realtime/publish/tee", content=b"x")).status_code == 400


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
        common = {"channel": "c2", "topic": "x", "env_id": ENVIRONMENT, "created_at": "2026-01-01T00:00:00.000Z"}
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
        heard = await frame(socket)
        assert (heard["kind"], heard["metadata"]) == (
            "datastream-end",
            {"error": "the publisher left before its end"},
        )


# Keys, hosts and origins.


async def test_with_keys_tokens_and_publishing_are_for_callers_with_the_signing_key(locked: Served) -> None:
    for path in ("token", "publish?channel=c&topic=t", "publish/tee?channel=c"):
        assert (await locked.http.post(f"/v1/realtime/{path}", json=[])).status_code == 401
    # What is signed with the secret of development is worth nothing here.
    forged = issue_token([TOPIC], DEVELOPMENT, now=locked.node.clock.now(), token_id="1")
    with pytest.raises(InvalidStatus) as refused:
        async with connect(locked, forged):
            pass
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["x-inngest-server-kind"] == "cloud"
    bearer = SigningKey.parse(SIGNING).bearer
    jwt = await token(locked, ("c", "t"), bearer=bearer)
    async with connect(locked, jwt, origin=Origin("https://shop.example")) as socket:
        headers = {"authorization": f"Bearer {bearer}"}
        published = await locked.http.post("/v1/realtime/publish?channel=c&topic=t", json=1, headers=headers)
        assert published.status_code == 200
        assert (await frame(socket))["data"] == 1
    async with event_stream(locked, jwt) as events:
        assert await anext(events) == b":\n\n"


@pytest.mark.parametrize(("path", "locked_status"), [("/v1/events", 401), ("/no/such/socket", 401), ("/", 401)])
async def test_no_other_path_takes_a_websocket(server: Served, locked: Served, path: str, locked_status: int) -> None:
    for started, status in ((server, 403), (locked, locked_status)):
        with pytest.raises(InvalidStatus) as refused:
            async with connect_socket(started.ws(path), proxy=None):
                pass
        assert refused.value.response.status_code == status


async def test_a_local_server_takes_no_websocket_under_a_foreign_name() -> None:
    async with served(lambda node: make_app(node, Guard(local_only=True))) as server:
        jwt = await token(server, ("c", "t"))
        async with connect(server, jwt):
            pass
        for address in ("rebound.example:8288", "192.168.1.7"):
            with pytest.raises(InvalidStatus) as refused:
                await connect_under(server, jwt, address)
            assert refused.value.response.status_code == 403


async def connect_under(server: Served, jwt: str, name: str) -> None:
    host, port = server.address.split(":")
    async with connect_socket(f"ws://{name}/v1/realtime/connect?token={jwt}", proxy=None, host=host, port=int(port)):
        pass


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


async def test_handshakes_are_counted(server: Served) -> None:
    async with listening(server, ("c", "t")) as socket:
        server.node.realtime.publish("c", "t", 1)
        await frame(socket)
    with pytest.raises(InvalidStatus):
        async with connect(server, "bad"):
            pass
    counted = 0
    while not counted:
        exposed = (await server.http.get("/metrics")).text
        counted = exposed.count('perdure_http_requests_total{area="/v1",method="GET",status="101"} 1.0')
    assert 'perdure_http_requests_total{area="/v1",method="GET",status="401"} 1.0' in exposed


def test_a_token_is_read_as_it_was_issued() -> None:
    topics = [Topic("c", "t"), Topic("c", "u", run_id=RUN)]
    jwt = issue_token(topics, DEVELOPMENT, now=10**12, token_id="1")
    assert read_token(jwt, DEVELOPMENT, now=10**12 + 59_999) == topics
