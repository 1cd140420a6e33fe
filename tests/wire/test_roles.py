"""Roles over HTTP: what keys of each role may do, what is said to one whose role is too small, and signing in."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx2
import pytest

from perdure.model.json import Json
from perdure.model.keys import ApiKey, EventKey, Keys, SigningKey
from perdure.model.roles import Role
from perdure.server import Guard, make_app
from perdure.server.catalogue import PROTOCOL, V1, V2
from perdure.server.permissions import role_for
from perdure.server.session import COOKIE, LIFETIME
from tests.support.wire import Wire, serving

SIGNING = "0123456789abcdef" * 4
SECRETS = {role: f"{role.word}-0123456789abcdef" for role in Role}
RUN = "01M811P18277Y0AMMWSQ8QVTTA"
HOST = "perdure.example"
OWN = {"origin": f"http://{HOST}"}


def keys(*roles: Role) -> Keys:
    api = [ApiKey.parse(f"{role.word}:{SECRETS[role]}") for role in roles or Role]
    return Keys([EventKey.parse("evtkey")], [SigningKey.parse(SIGNING)], api)


def client(wire: Wire, known: Keys | None, scheme: str = "http") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(make_app(wire.node, Guard(known, kind="cloud")))
    return httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://{HOST}")


@pytest.fixture
async def locked() -> AsyncGenerator[Wire, None]:
    async with serving() as plain, client(plain, keys()) as http:
        yield Wire(plain.node, plain.clock, http)


def bearer(role: Role) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[role]}"}


READS = ["/v1/events", "/v1/runs", "/v2/runs", "/api/v2/apps", "/v1/doctor", "/metrics", "/openapi.json", "/dev"]
ACTS = [
    ("POST", f"/v1/runs/{RUN}/cancel"),
    ("DELETE", f"/v1/runs/{RUN}"),
    ("DELETE", f"/v0/runs/{RUN}"),
    ("POST", f"/v2/runs/{RUN}/cancel"),
    ("POST", f"/api/v2/runs/{RUN}/rerun"),
    ("POST", "/v2/events"),
    ("POST", "/v1/signals"),
    ("POST", "/invoke/shop-plain"),
    ("POST", "/v2/apps/shop/functions/plain/pause"),
    ("POST", "/v1/cancellations"),
    ("POST", "/v1/realtime/publish?channel=a&topic=b"),
    ("POST", "/api/agents/a/generate"),
    ("DELETE", "/api/memory/threads/t"),
]
ADMINISTERS = [
    ("POST", "/fn/register"),
    ("DELETE", "/fn/remove?url=shop"),
    ("POST", "/v0/connect/start"),
    ("POST", "/v0/connect/flush"),
    ("POST", f"/v1/checkpoint/{RUN}/async"),
    ("POST", "/v1/http/runs"),
    ("POST", "/api/stored/agents"),
    ("PATCH", "/v2/no/such"),
    ("POST", "//v2/events"),
    ("POST", "/v2/events/"),
]


@pytest.mark.parametrize("path", READS)
async def test_whoever_has_a_role_may_read(locked: Wire, path: str) -> None:
    for role in Role:
        for method in ("GET", "HEAD"):
            assert (await locked.http.request(method, path, headers=bearer(role))).status_code == 200


@pytest.mark.parametrize(("method", "path"), ACTS + ADMINISTERS)
async def test_what_asks_for_more_is_refused_and_says_what_it_asks_for(locked: Wire, method: str, path: str) -> None:
    needed = Role.OPERATOR if (method, path) in ACTS else Role.ADMIN
    for role in Role:
        response = await locked.http.request(method, path, headers=bearer(role))
        assert (response.status_code == 403) is not role.allows(needed), response.text
        if response.status_code == 403:
            told = response.json()
            message = f"this asks for the role {needed.word}; the key has the role {role.word}"
            expected: Json = {"error": message, "data": None, "status": 403}
            if path.startswith(("/v2", "/api/v2")):
                expected = {"errors": [{"code": "forbidden", "message": message}]}
            elif path.startswith("/api/"):
                expected = {"error": message}
            assert told == expected


async def test_an_operation_asks_for_what_the_catalogue_says() -> None:
    for mount, operations in (("", PROTOCOL), ("", V1), ("/v2", V2), ("/api/v2", V2)):
        for operation in operations:
            path = mount + operation.path.replace("{", "").replace("}", "")
            assert role_for(operation.method, path) is operation.role, operation.id
            if operation.read_only:
                assert operation.role is Role.VIEWER


async def test_nothing_changes_what_a_viewer_asks_for(locked: Wire) -> None:
    event = {"name": "t/wait", "data": {}}
    assert (await locked.http.post("/e/evtkey", json=event)).status_code == 200
    await locked.node.settle()
    (run,) = (await locked.http.get("/v1/runs", headers=bearer(Role.VIEWER))).json()["data"]
    for role, status, after in ((Role.VIEWER, 403, "Running"), (Role.OPERATOR, 200, "Cancelled")):
        cancelled = await locked.http.post(f"/v1/runs/{run['run_id']}/cancel", headers=bearer(role))
        assert cancelled.status_code == status
        shown = await locked.http.get(f"/v1/runs/{run['run_id']}", headers=bearer(Role.VIEWER))
        assert shown.json()["data"]["status"] == after


@pytest.mark.parametrize("secret", [SECRETS[Role.ADMIN], SIGNING])
async def test_no_key_but_an_event_key_sends_in_the_path_of_events(locked: Wire, secret: str) -> None:
    response = await locked.http.post(f"/e/{secret}", json={"name": "a"}, headers=bearer(Role.ADMIN))
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("query", "needed"),
    [
        ("{ apps { id } }", Role.VIEWER),
        ("mutation { cancelRun(runID: $r) }", Role.VIEWER),  # invalid: what is told is what is wrong with it
        (f'mutation {{ cancelRun(runID: "{RUN}") {{ id }} }}', Role.OPERATOR),
        ('mutation { a: invokeFunction(functionSlug: "x") }', Role.OPERATOR),
        ('mutation { deleteAppByName(name: "x") }', Role.ADMIN),
        ('mutation { ...F } fragment F on Mutation { invokeFunction(functionSlug: "x") }', Role.ADMIN),
    ],
)
async def test_in_graphql_the_field_decides(locked: Wire, query: str, needed: Role) -> None:
    for role in Role:
        response = await locked.http.post("/v0/gql", json={"query": query}, headers=bearer(role))
        assert (response.status_code == 403) is not role.allows(needed), response.text
        if response.status_code == 403:
            assert needed.word in response.json()["errors"][0]["message"]


# Signing in.


async def test_a_page_signs_in_asks_and_signs_out(locked: Wire) -> None:
    http = locked.http
    assert (await http.get("/session")).json() == {"role": None, "signsIn": True}
    signed_in = await http.post("/session", json={"key": SECRETS[Role.VIEWER]}, headers=OWN)
    assert (signed_in.status_code, signed_in.json()) == (200, {"role": "viewer", "signsIn": True})
    cookie = signed_in.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"))
    assert "Secure" not in cookie and SECRETS[Role.VIEWER] not in cookie
    assert signed_in.headers["cache-control"] == "no-store"
    assert (await http.get("/session")).json()["role"] == "viewer"
    assert (await http.get("/v2/runs")).status_code == 200
    assert (await http.post(f"/v2/runs/{RUN}/cancel", headers=OWN)).status_code == 403
    assert (await http.delete("/session", headers=OWN)).status_code == 204
    assert (await http.get("/v2/runs")).status_code == 401


async def test_with_an_operators_session_a_page_acts(locked: Wire) -> None:
    await locked.http.post("/session", json={"key": SECRETS[Role.OPERATOR]})
    for headers in (OWN, {"sec-fetch-site": "same-origin"}):
        sent = await locked.http.post("/v2/events", json={"name": "a", "data": {}}, headers=headers)
        assert sent.status_code == 200


@pytest.mark.parametrize(
    ("headers", "reads"),
    [
        ({}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site", "origin": f"http://{HOST}"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": f"http://{HOST}:81"}, False),
        ({"origin": "null"}, False),
    ],
)
async def test_a_session_is_worth_nothing_elsewhere(locked: Wire, headers: dict[str, str], reads: bool) -> None:
    await locked.http.post("/session", json={"key": SIGNING})
    assert (await locked.http.get("/v2/runs", headers=headers)).status_code == (200 if reads else 401)
    acted = await locked.http.post("/v2/events", json={"name": "a", "data": {}}, headers=headers)
    assert acted.status_code == 401
    assert (await locked.http.delete("/session", headers=headers)).status_code == 403
    assert await _events(locked) == 0


async def _events(wire: Wire) -> int:
    found = await wire.http.get("/v1/events", headers={"authorization": f"Bearer {SIGNING}"})
    return len(found.json()["data"])


async def test_a_page_of_elsewhere_can_sign_nobody_in(locked: Wire) -> None:
    for headers in ({"origin": "http://elsewhere.example"}, {"sec-fetch-site": "same-site"}):
        response = await locked.http.post("/session", json={"key": SIGNING}, headers=headers)
        assert response.status_code == 403 and "set-cookie" not in response.headers


async def test_a_session_ends_after_its_time(locked: Wire) -> None:
    await locked.http.post("/session", json={"key": SIGNING})
    await locked.clock.advance((LIFETIME - 1000) / 1000)
    assert (await locked.http.get("/v2/runs")).status_code == 200
    await locked.clock.advance(1)
    assert (await locked.http.get("/v2/runs")).status_code == 401


async def test_a_session_ends_with_its_key_and_follows_its_role(locked: Wire) -> None:
    await locked.http.post("/session", json={"key": SECRETS[Role.OPERATOR]})
    cookie = locked.http.cookies[COOKIE]
    for known, status in ((keys(), 200), (keys(Role.VIEWER), 401)):
        async with client(locked, known) as http:
            assert (await http.get("/v2/runs", headers={"cookie": f"a=b; {COOKIE}={cookie}"})).status_code == status


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "perdure"])
async def test_a_cookie_that_the_server_did_not_make_is_nothing(locked: Wire, cookie: str) -> None:
    assert (await locked.http.get("/v2/runs", headers={"cookie": f"{COOKIE}={cookie}"})).status_code == 401


async def test_a_wrong_bearer_is_not_mended_by_a_cookie(locked: Wire) -> None:
    await locked.http.post("/session", json={"key": SIGNING})
    assert (await locked.http.get("/v2/runs", headers={"authorization": "Bearer wrong"})).status_code == 401


async def test_behind_https_the_cookie_is_secure(locked: Wire) -> None:
    async with client(locked, keys(), "https") as http:
        assert "Secure" in (await http.post("/session", json={"key": SIGNING})).headers["set-cookie"]
    behind = await locked.http.post("/session", json={"key": SIGNING}, headers={"x-forwarded-proto": "https"})
    assert "Secure" in behind.headers["set-cookie"]


async def test_who_guesses_must_wait_and_others_need_not(locked: Wire) -> None:
    for key in [*(f"guess-{i}" for i in range(9)), "evtkey"]:
        response = await locked.http.post("/session", json={"key": key})
        assert response.status_code == 401 and "set-cookie" not in response.headers
    held = await locked.http.post("/session", json={"key": SIGNING})
    assert (held.status_code, held.headers["retry-after"]) == (429, "6")
    other = httpx2.ASGITransport(make_app(locked.node, Guard(keys())), client=("192.0.2.7", 1))
    async with httpx2.AsyncClient(transport=other, base_url=f"http://{HOST}") as http:
        assert (await http.post("/session", json={"key": SIGNING})).status_code == 200
    await locked.clock.advance(6)
    assert (await locked.http.post("/session", json={"key": SIGNING})).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}", b'{"key": ""}', b'{"key": null}'])
async def test_no_key_is_no_key(locked: Wire, body: bytes) -> None:
    assert (await locked.http.post("/session", content=body)).status_code == 401


@pytest.mark.parametrize("body", [b"[]", b'{"key": 1}', b'{"key": "a", "more": 1}', b"{"])
async def test_a_malformed_body_is_told(locked: Wire, body: bytes) -> None:
    assert (await locked.http.post("/session", content=body)).status_code == 400


async def test_without_keys_everybody_is_an_admin_and_nobody_signs_in() -> None:
    async with serving() as wire:
        for response in (await wire.http.get("/session"), await wire.http.post("/session", json={})):
            assert (response.status_code, response.json()) == (200, {"role": "admin", "signsIn": False})
            assert "set-cookie" not in response.headers


async def test_the_files_of_the_page_ask_for_no_key_and_nothing_else_is_one(locked: Wire) -> None:
    for path in ("/", "/page/app.js"):
        assert (await locked.http.get(path)).status_code != 401
        assert (await locked.http.post(path)).status_code == 401
    for path in ("/page", "/pages/", "/page/../v2/runs"):
        assert (await locked.http.get(path)).status_code in (401, 404)
