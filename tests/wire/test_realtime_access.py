"""Who may listen and publish: tokens, keys, hosts and origins, and how a handshake is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Iterable

import pytest
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from perdure.cli.serving import _is_news
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from perdure.server.realtime import issue_token, read_token
from perdure.server.tokens import Claims, sign
from perdure.wire.realtime import Topic
from tests.support.realtime import ENVIRONMENT, RUN, claims, connect, event_stream, frame, listening, token
from tests.support.sockets import Served, served

DEVELOPMENT = b"dev-mode-is-not-secret"
SIGNING = "signkey-prod-" + "0123456789abcdef" * 4
TOPIC = Topic("c", "t")


@pytest.fixture
async def server() -> AsyncGenerator[Served, None]:
    async with served() as started:
        yield started


@pytest.fixture
async def locked() -> AsyncGenerator[Served, None]:
    guard = Guard(Keys([EventKey.parse("events")], [SigningKey.parse(SIGNING)]), kind="cloud")
    async with served(lambda node: make_app(node, guard)) as started:
        yield started


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


def bad_tokens(now: int, secret: bytes) -> Iterable[str]:
    good = issue_token([TOPIC], secret, now=now, token_id="1")
    head, body, _ = good.split(".")
    yield ""
    yield "nonsense"
    yield "a.b.c"
    yield issue_token([TOPIC], b"another secret", now=now, token_id="1")
    # What servers of other makes sign with, and everybody knows.
    yield issue_token([TOPIC], DEVELOPMENT, now=now, token_id="1")
    yield issue_token([TOPIC], secret, now=now - 60_001, token_id="1")
    yield issue_token([TOPIC], secret, now=now + 60_000, token_id="1")
    # Without a signature, as "none" would have it.
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    yield f"{none}.{body}."
    yield f"{head}.{body}."
    for extra in ({"env": "another"}, {"topics": "all"}, {"topics": [{"channel": "c"}]}):
        merged = {"env": ENVIRONMENT, "topics": [], **extra}
        yield sign(Claims("rt.inngest.com", "", "", merged), secret, now=now, lifetime=60_000)
    yield sign(Claims("connect.inngest.com", "", "", {"env": ENVIRONMENT}), secret, now=now, lifetime=60_000)


async def test_nobody_listens_without_a_good_token(server: Served) -> None:
    now = server.node.clock.now()
    secret = server.node.secret("realtime")
    for jwt in bad_tokens(now, secret):
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
    good = issue_token([TOPIC], secret, now=now, token_id="1")
    assert (await server.http.get("/v1/realtime/connect", params={"token": good})).status_code == 426


def test_a_token_is_read_as_it_was_issued() -> None:
    topics = [Topic("c", "t"), Topic("c", "u", run_id=RUN)]
    jwt = issue_token(topics, DEVELOPMENT, now=10**12, token_id="1")
    assert read_token(jwt, DEVELOPMENT, now=10**12 + 59_999) == topics


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


async def test_a_refused_handshake_is_no_error_of_the_server(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(server, "bad"):
            pass
    await server.stop()
    assert [record.msg for record in caplog.records if _is_news(record)] == []


async def test_handshakes_are_counted(server: Served) -> None:
    async with listening(server, ("c", "t")) as socket:
        server.node.realtime.publish("c", "t", 1)
        await frame(socket)
    with pytest.raises(InvalidStatus):
        async with connect(server, "bad"):
            pass
    # A connection is counted when it is over, and the server learns of that in its own time.
    exposed = ""
    while 'perdure_http_requests_total{area="/v1",method="GET",status="101"} 1.0' not in exposed:
        exposed = (await server.http.get("/metrics")).text
    assert 'perdure_http_requests_total{area="/v1",method="GET",status="401"} 1.0' in exposed


async def test_without_keys_pages_of_any_origin_listen_with_a_token_and_are_no_workers(server: Served) -> None:
    page = Origin("https://shop.example")
    async with connect(server, await token(server, ("c", "t")), origin=page) as socket:
        await server.http.post("/v1/realtime/publish?channel=c&topic=t", json=1)
        assert (await frame(socket))["data"] == 1
    with pytest.raises(InvalidStatus) as refused:
        async with connect_socket(server.ws("/v0/connect"), proxy=None, origin=page):
            pass
    assert refused.value.response.status_code == 403
