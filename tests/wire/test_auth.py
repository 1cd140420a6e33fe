"""Keys over HTTP: which doors ask for which key, what a caller without one is told, and which hosts are answered."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx2
import pytest

from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from tests.support.wire import Wire, serving

SIGNING = "0123456789abcdef" * 4
HASHED = "4884fdaafea47c29fea7159d0daddd9c085d6200e1359e85bb81736af6b7c837"
FALLBACK = "00ff00ff"
EVENT = {"name": "ok/a", "data": {}}


@asynccontextmanager
async def guarded(guard: Guard) -> AsyncGenerator[Wire, None]:
    async with serving() as plain:
        transport = httpx2.ASGITransport(make_app(plain.node, guard))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure.example") as http:
            yield Wire(plain.node, plain.clock, http)


@pytest.fixture
async def locked() -> AsyncGenerator[Wire, None]:
    keys = Keys(
        [EventKey.parse("evtkey1"), EventKey.parse("evtkey2")],
        [SigningKey.parse("signkey-prod-" + SIGNING), SigningKey.parse(FALLBACK)],
    )
    async with guarded(Guard(keys, kind="cloud")) as wire:
        yield wire


@pytest.mark.parametrize("key", ["evtkey1", "evtkey2"])
async def test_each_event_key_lets_events_in(locked: Wire, key: str) -> None:
    response = await locked.http.post(f"/e/{key}", json=EVENT)
    assert response.status_code == 200 and response.json()["status"] == 200
    assert response.headers["x-inngest-server-kind"] == "cloud"


@pytest.mark.parametrize("key", ["bad", "evtkey", "EVTKEY1", "NO_EVENT_KEY_SET", SIGNING, ""])
async def test_an_unknown_event_key_is_refused_and_nothing_stored(locked: Wire, key: str) -> None:
    response = await locked.http.post(f"/e/{key}", json=EVENT, headers={"authorization": f"Bearer {SIGNING}"})
    assert response.status_code == 401
    assert response.json() == {"status": 401, "message": "", "error": "Event key not found"}
    stored = await locked.http.get("/v1/events", headers={"authorization": f"Bearer {SIGNING}"})
    assert stored.json()["data"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/events?limit=1"),
        ("GET", "/v1/doctor"),
        ("POST", "/v1/cancellations"),
        ("POST", "/v1/runs/01M811P18277Y0AMMWSQ8QVTTA/cancel"),
        ("GET", "/v2/runs?limit=1"),
        ("GET", "/v2/health"),
        ("GET", "/api/v2/runs"),
        ("GET", "/metrics"),
        ("POST", "/invoke/shop-plain"),
        ("POST", "/v0/gql"),
        ("GET", "/no/such/route"),
        ("GET", "/health/../metrics"),
        ("HEAD", "/v1/functions"),
    ],
)
async def test_everything_else_asks_for_the_signing_key(locked: Wire, method: str, path: str) -> None:
    response = await locked.http.request(method, path)
    assert response.status_code == 401
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-inngest-server-kind"] == "cloud"
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.text == ("" if method == "HEAD" else "Authentication failed\n")
    with_key = await locked.http.request(method, path, headers={"authorization": f"Bearer {HASHED}"})
    assert with_key.status_code != 401


@pytest.mark.parametrize(
    "bearer",
    [
        SIGNING,
        f"signkey-prod-{SIGNING}",
        f"signkey-test-{SIGNING}",
        HASHED,
        f"signkey-prod-{HASHED}",
        f"signkey-test-{HASHED}",
        FALLBACK,
        SigningKey.parse(FALLBACK).bearer,
    ],
)
async def test_each_spelling_of_each_signing_key_is_taken(locked: Wire, bearer: str) -> None:
    for scheme in ("Bearer", "bearer"):
        response = await locked.http.get("/v1/events?limit=1", headers={"authorization": f"{scheme} {bearer}"})
        assert response.status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer bad",
        f"Basic {SIGNING}",
        SIGNING,
        f"Bearer {SIGNING}{SIGNING}",
        "Bearer evtkey1",
    ],
)
async def test_no_other_credentials_are_taken(
    locked: Wire, authorization: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "perdure")
    response = await locked.http.get("/v1/events", headers={"authorization": authorization})
    assert (response.status_code, response.text) == (401, "Authentication failed\n")
    assert not caplog.records


async def test_the_log_of_a_failure_names_no_event_key(
    locked: Wire, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(locked.node, "ingest", fail)
    response = await locked.http.post("/e/evtkey1", json=EVENT)
    assert response.status_code == 500
    assert "POST /e/... failed unexpectedly" in caplog.text and "/e/evtkey1" not in caplog.text


@pytest.mark.parametrize("path", ["/health", "/health/"])
async def test_health_is_open(locked: Wire, path: str) -> None:
    response = await locked.http.get(path)
    assert (response.status_code, response.json()) == (200, {"status": 200, "message": "OK"})


async def test_the_module_for_pages_is_open_for_it_is_the_same_for_all(locked: Wire) -> None:
    assert (await locked.http.get("/perdure-stream.js")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/events", "/e/evtkey1"])
async def test_preflights_are_open_for_browsers_send_no_credentials_with_them(locked: Wire, path: str) -> None:
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    response = await locked.http.options(path, headers=asked)
    assert response.status_code == 200 and response.headers["access-control-allow-methods"] == "POST"


async def test_refused_requests_are_counted_by_status(locked: Wire) -> None:
    await locked.http.get("/v1/events")
    exposed = await locked.http.get("/metrics", headers={"authorization": f"Bearer {FALLBACK}"})
    assert 'perdure_http_requests_total{area="/v1",method="GET",status="401"} 1.0' in exposed.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8288", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8288", 200),
        ("127.8.8.8", 200),
        ("[::1]:8288", 200),
        ("[::1]", 200),
        ("shop.localhost:8288", 200),
        ("rebound.example:8288", 403),
        ("localhost.rebound.example", 403),
        ("127.0.0.1.rebound.example:8288", 403),
        ("192.168.1.7:8288", 403),
        ("0.0.0.0:8288", 200),
        ("[::]:8288", 200),
    ],
)
async def test_a_server_without_keys_answers_to_local_names_only(host: str, status: int) -> None:
    async with guarded(Guard(local_only=True)) as wire:
        for method, path in (("GET", "/health"), ("GET", "/v1/events"), ("POST", "/e/key"), ("OPTIONS", "/e/key")):
            body = EVENT if method == "POST" else None
            response = await wire.http.request(method, path, json=body, headers={"host": host})
            assert response.status_code == status
            assert response.headers["x-inngest-server-kind"] == "dev"
            if status == 403:
                assert "--allow-insecure-host" in response.json()["error"]
        stored = await wire.http.get("/v1/events", headers={"host": "localhost"})
        assert len(stored.json()["data"]) == (status == 200)


async def test_without_a_guard_any_name_and_any_key_will_do() -> None:
    async with guarded(Guard()) as wire:
        assert (await wire.http.post("/e/any", json=EVENT)).status_code == 200
        assert (await wire.http.get("/metrics")).status_code == 200


RUN = "01M811P18277Y0AMMWSQ8QVTTA"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost.evil.example:8288", "null", "evil"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v0/gql"),
        ("POST", "/v0/connect/start"),
        ("POST", f"/v1/checkpoint/{RUN}/async"),
        ("POST", f"/v1/runs/{RUN}/cancel"),
        ("POST", "/v1/signals"),
        ("POST", "/v1/realtime/token"),
        ("POST", "/v1/realtime/publish?channel=c&topic=t"),
        ("POST", f"/v2/runs/{RUN}/rerun"),
        ("POST", "/invoke/wired-plain"),
        ("GET", "/v1/events"),
        ("GET", "/metrics"),
        ("OPTIONS", "/v0/gql"),
    ],
)
async def test_without_keys_pages_of_other_origins_operate_nothing(origin: str, method: str, path: str) -> None:
    async with guarded(Guard()) as wire:
        # What a browser sends without a preflight.
        headers = {"origin": origin, "content-type": "text/plain"}
        response = await wire.http.request(method, path, headers=headers)
        assert response.status_code == 403 and "another origin" in response.text


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "http://127.0.0.1", "http://shop.localhost", "http://perdure.example"]
)
async def test_without_keys_pages_of_this_machine_may_do_all(origin: str) -> None:
    async with guarded(Guard()) as wire:
        response = await wire.http.get("/v1/events", headers={"origin": origin})
        assert response.status_code == 200 and response.headers["access-control-allow-origin"] == origin


async def test_without_keys_any_page_may_send_events(locked: Wire) -> None:
    page = {"origin": "https://shop.example"}
    async with guarded(Guard()) as wire:
        assert (await wire.http.post("/e/any", json=EVENT, headers=page)).status_code == 200
        assert (await wire.http.get("/health", headers=page)).status_code == 200
    # With keys, it is the key that counts.
    authorized = {"authorization": f"Bearer {HASHED}"}
    assert (await locked.http.get("/v1/events", headers=page | authorized)).status_code == 200
