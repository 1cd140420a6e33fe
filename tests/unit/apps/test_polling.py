"""Apps are asked to register: named ones, known ones and those that are found, and every fault is told apart."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest

from perdure.apps.asking import Asker
from perdure.apps.discovery import Discovery
from perdure.apps.places import same_place
from perdure.apps.polling import Poller
from perdure.apps.registry import Outcome
from perdure.apps.settings import Polling
from perdure.apps.syncing import Syncer
from perdure.model.json import Json, encode
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.node import Node
from perdure.testing.factory import EngineFactory
from perdure.wire.registration import RegistrationError, parse_registration
from tests.support.syncing_app import SyncingApp, syncing_app

KEYS = Keys([EventKey.parse("orders")], [SigningKey.parse("00ff")])


def registering(node: Node) -> Callable[[dict[str, Json]], Awaitable[Json]]:
    """What `POST /fn/register` does."""

    async def register(document: dict[str, Json]) -> Json:
        try:
            return await node.registry.sync(parse_registration(encode(document)))
        except RegistrationError as error:
            await node.registry.refused(error)
            return None

    return register


@asynccontextmanager
async def asking(node: Node, keys: Keys | None = None) -> AsyncGenerator[Asker]:
    asker = Asker("dev", keys, node.clock.now)
    try:
        yield asker
    finally:
        await asker.close()


@asynccontextmanager
async def polling(node: Node, *urls: str, interval: float = 0.01) -> AsyncGenerator[Poller]:
    poller = Poller(node.registry, Asker("dev", None, node.clock.now), Polling(urls, interval))
    poller.start()
    try:
        yield poller
    finally:
        await poller.close()


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that happens in other tasks and sockets."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def sync(node: Node, app: SyncingApp, mode: str, keys: Keys | None = None) -> Outcome:
    app.mode = mode
    async with asking(node, keys) as asker:
        return await Syncer(node.registry, asker).sync(app.url)


# One sync.


async def test_an_app_is_asked_as_the_protocol_has_it(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app:
        assert await sync(node, app, "out_of_band") == Outcome("shop")
        assert set(node.catalogue.functions) == {"shop-fulfil"}
        (asked,) = app.asked
        assert (asked.method, asked.body) == ("PUT", encode({"url": app.url}))
        assert asked.headers["x-inngest-server-kind"] == "dev"
        assert asked.headers["content-type"] == "application/json"
        assert "x-inngest-signature" not in asked.headers


async def test_with_keys_requests_are_signed(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app:
        await sync(node, app, "out_of_band", KEYS)
        asked = app.asked[0]
        assert KEYS.verify(asked.body, asked.headers["x-inngest-signature"], node.clock.now())


@pytest.mark.parametrize("mode", ["elsewhere", "unable"])
async def test_an_app_that_does_not_register_here_is_asked_in_band(
    perdure_engine: EngineFactory, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app:
        assert await sync(node, app, mode) == Outcome("shop")
        assert [asked.headers.get("x-inngest-sync-kind") for asked in app.asked] == [None, "in_band"]
    assert set(node.catalogue.functions) == {"shop-fulfil"}
    assert "app shop did not register here by itself: set INNGEST_DEV" in caplog.text


@pytest.mark.parametrize(
    ("told", "ours", "error"),
    [
        ("branch", "", "belongs to the environment branch"),
        ("", "branch", "belongs to the main environment"),
        ("a", "b", "belongs to the environment a"),
        ("main", "", ""),
        ("branch", "branch", ""),
    ],
)
async def test_an_app_of_another_environment_is_left_to_it(
    perdure_engine: EngineFactory, told: str, ours: str, error: str
) -> None:
    node = await perdure_engine([])
    asker = Asker("dev", None, node.clock.now, ours)
    async with syncing_app(registering(node)) as app:
        app.mode, app.environment = "elsewhere", told
        outcome = await Syncer(node.registry, asker).sync(app.url)
        await asker.close()
    assert outcome.error == ("other_environment" if error else "") and error in outcome.message
    assert bool(node.catalogue.functions) is not bool(error)


@pytest.mark.parametrize(
    ("mode", "error", "said"),
    [
        ("unauthorized", "missing_signing_key", "asks for a signing key"),
        ("forbidden", "forbidden", "something before the SDK refuses"),
        ("not_found", "url_not_found", "is that the path at which the app serves the SDK"),
        ("broken", "internal_server_error", "answered 500 (it is broken)"),
        ("no_sdk", "not_sdk", "no SDK did"),
        ("redirected", "unreachable", "cannot be reached"),
        ("invalid", "invalid_function", "function shop-fulfil: name: must be a text that is not empty"),
    ],
)
async def test_every_fault_has_a_word_and_a_remedy(
    perdure_engine: EngineFactory, mode: str, error: str, said: str
) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app:
        outcome = await sync(node, app, mode)
        assert outcome.error == error
        assert said in outcome.message
    assert node.catalogue.functions == {}


async def test_a_key_that_the_app_does_not_take_is_told(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app:
        assert (await sync(node, app, "unauthorized", KEYS)).error == "invalid_signing_key"


async def test_an_app_that_is_not_there_is_unreachable(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with asking(node) as asker:
        outcome = await Syncer(node.registry, asker).sync(f"http://127.0.0.1:{_closed_port()}/api/inngest")
        assert outcome.error == "unreachable"
        assert "Is the app running" in outcome.message
        assert (await Syncer(node.registry, asker).sync("file:///etc/passwd")).error == "unsupported_protocol"


def _closed_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


# Again and again.


async def test_named_and_known_apps_are_asked_again_and_again(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as named, syncing_app(registering(node), "store") as known:
        await known._register({"appName": "store", "url": known.url, "functions": []})
        async with polling(node, named.url):
            await until(lambda: min(len(named.asked), len(known.asked)) >= 3)
    assert set(node.catalogue.functions) == {"shop-fulfil", "store-fulfil"}
    assert [row.id for row in node.registry.apps()] == ["shop", "store"]


async def test_without_polling_a_named_app_is_asked_until_it_is_there(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as named, syncing_app(registering(node), "store") as known:
        await known._register({"appName": "store", "url": known.url, "functions": []})
        named.mode = "broken"
        async with polling(node, named.url, interval=0):
            await until(lambda: node.registry.apps()[-1].error == "internal_server_error")
            assert [row.id for row in node.registry.apps()] == ["store", named.url]
            named.mode = "out_of_band"
            await until(lambda: "shop-fulfil" in node.catalogue.functions)
            await until(lambda: [row.id for row in node.registry.apps()] == ["shop", "store"])
    assert known.asked == []


async def test_an_app_that_is_added_is_asked_at_once(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with syncing_app(registering(node)) as app, polling(node, interval=60):
        node.registry.add(app.url)
        await until(lambda: "shop-fulfil" in node.catalogue.functions)
        await until(lambda: [row.id for row in node.registry.apps()] == ["shop"])


async def test_an_app_that_goes_and_comes_back_is_told_of_once_each(
    perdure_engine: EngineFactory, caplog: pytest.LogCaptureFixture
) -> None:
    node = await perdure_engine([])
    caplog.set_level(logging.INFO, "perdure.apps")
    async with syncing_app(registering(node)) as app, polling(node, app.url):
        await until(lambda: "shop-fulfil" in node.catalogue.functions)
        app.mode = "broken"
        asked = len(app.asked)
        await until(lambda: len(app.asked) >= asked + 4)
        assert node.registry.apps()[0].error == "internal_server_error"
        app.mode = "out_of_band"
        await until(lambda: node.registry.apps()[0].error is None)
    told = [record.message.partition(app.url)[0] for record in caplog.records]
    assert told == ["app shop synced, 1 function at ", "app shop: ", "app shop is back, at "]


async def test_one_app_that_hangs_holds_up_nobody(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with syncing_app(registering(node)) as app, polling(node, f"http://127.0.0.1:{port}/api/inngest", app.url):
        await until(lambda: len(app.asked) >= 3 and bool(held))
    silent.close()
    for writer in held:
        writer.close()
        await writer.wait_closed()


# Discovery.


async def test_an_app_on_a_usual_port_is_found(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with asking(node) as asker, syncing_app(registering(node), path="/x/inngest") as app:
        port = int(app.url.split(":")[2].partition("/")[0])
        ports = (_closed_port(), port)
        assert await Discovery(asker, 0, ports=ports).scan(0) == [f"http://localhost:{port}/x/inngest"]
        assert await Discovery(asker, 0, app_port=str(port), ports=()).scan(0) == [f"http://localhost:{port}/x/inngest"]
        # Its own port is not asked, whoever is there.
        assert await Discovery(asker, port, ports=ports).scan(0) == []


async def test_a_port_without_an_sdk_is_asked_less_and_less(perdure_engine: EngineFactory) -> None:
    node = await perdure_engine([])
    async with asking(node) as asker, syncing_app(registering(node)) as app:
        app.mode = "no_sdk"
        port = int(app.url.split(":")[2].partition("/")[0])
        discovery = Discovery(asker, 0, ports=(port,))
        asked: list[int] = []
        for now in range(0, 120, 5):
            assert await discovery.scan(now) == []
            if len(app.asked) > len(asked):
                asked.append(now)
        assert asked == [0, 5, 15, 35, 75]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://localhost:3000/api", "http://127.0.0.1:3000/api/", True),
        ("http://[::1]:3000/api", "http://app.localhost:3000/api", True),
        ("http://shop.test/api", "http://shop.test:80/api", True),
        ("http://shop.test/api", "https://shop.test/api", False),
        ("http://shop.test/api", "http://shop.test/other", False),
        ("http://localhost:3000/api", "http://10.0.0.1:3000/api", False),
        ("", "", False),
        ("http://[broken", "http://[broken", True),
    ],
)
def test_urls_that_lead_to_one_app(one: str, other: str, same: bool) -> None:
    assert same_place(one, other) is same
