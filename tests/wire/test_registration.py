"""`POST /fn/register` and its neighbours: every answer with the status that the protocol gives it."""

from __future__ import annotations

from uuid import UUID

import httpx2
import pytest

from perdure.model.json import Json
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.server import Guard, make_app
from tests.support.registrations import URL, function_object, npm_request, pypi_request
from tests.support.wire import Wire

KEY = SigningKey.parse("signkey-prod-00ff")


async def register(wire: Wire, document: Json, **headers: str) -> httpx2.Response:
    return await wire.http.post("/fn/register", json=document, headers=headers)


@pytest.mark.parametrize("make", [npm_request, pypi_request])
async def test_an_app_registers(wire: Wire, make: object) -> None:
    document = npm_request if make is npm_request else pypi_request
    response = await register(wire, document(function_object("cap-app-a"), app="cap-app"))
    assert response.status_code == 200
    body = response.json()
    assert list(body) == ["ok", "modified", "sync_id", "app_id"]
    assert (body["ok"], body["modified"]) == (True, True)
    # As the protocol makes it of the app's id.
    assert body["app_id"] == "8f20186b-30e2-5a81-b5cc-e2847bf30195"
    assert UUID(body["sync_id"]).version == 4
    assert response.headers["x-inngest-server-kind"] == "dev"


async def test_the_second_time_nothing_is_modified(wire: Wire) -> None:
    document = npm_request(function_object("store-a"), app="store")
    assert [(await register(wire, document)).json()["modified"] for _ in range(2)] == [True, False]
    changed = npm_request(function_object("store-a", name="A"), app="store")
    assert (await register(wire, changed)).json()["modified"] is True


async def test_a_registered_function_is_triggered(wire: Wire) -> None:
    await register(wire, npm_request(function_object("store-a"), app="store"))
    (event_id,) = (await wire.send({"name": "shop/paid"})).json()["ids"]
    (run,) = (await wire.http.get(f"/v1/events/{event_id}/runs")).json()["data"]
    assert run["event_id"] == event_id


async def test_an_app_of_the_other_kind_is_turned_away(wire: Wire) -> None:
    response = await register(wire, npm_request(app="store"), **{"X-Inngest-Expected-Server-Kind": "cloud"})
    assert response.status_code == 400
    assert response.json()["error"] == "Expected server kind cloud, got dev"
    assert response.json()["details"] == ["start the app with INNGEST_DEV=1"]
    response = await register(wire, npm_request(app="store"), **{"X-Inngest-Expected-Server-Kind": "dev"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (npm_request(function_object(name=""), app="store"), "At least one function is invalid"),
        (npm_request(function_object(priority={"run": "1 +"}), app="store"), "At least one function is invalid"),
        (
            npm_request(function_object(singleton={"mode": "bogus"}), app="store"),
            "Invalid request: bogus does not belong to SingletonMode values",
        ),
        ({}, "App ID required"),
        ([], "Invalid request: the body must be an object, got a list"),
        (npm_request(function_object("shop-x"), app="shop"), "App ID is taken"),
    ],
)
async def test_what_is_wrong_is_answered_with_400(wire: Wire, document: Json, error: str) -> None:
    response = await register(wire, document)
    assert response.status_code == 400
    body = response.json()
    assert (body["error"], body["data"], body["status"]) == (error, None, 400)
    assert error.startswith("Invalid request: the body") or body["details"]


async def test_a_body_that_is_no_json_or_too_large_is_refused(wire: Wire) -> None:
    response = await wire.http.post("/fn/register", content=b'{"appName"')
    assert response.status_code == 400
    assert response.json()["error"].startswith("Invalid request: the body is not JSON")
    response = await wire.http.post("/fn/register", content=b" " * (16 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert (await wire.http.get("/fn/register")).status_code == 405


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://evil.test", 403), ("null", 403), ("http://localhost:3000", 200), ("http://perdure", 200)],
)
async def test_a_page_of_another_origin_registers_nothing(wire: Wire, origin: str, status: int) -> None:
    response = await register(wire, npm_request(app="store"), origin=origin)
    assert response.status_code == status
    response = await wire.http.delete("/fn/remove", params={"url": URL}, headers={"origin": origin})
    assert response.status_code == status


async def test_an_app_is_removed_by_its_url(wire: Wire) -> None:
    await register(wire, npm_request(function_object("store-a"), app="store"))
    # Its id was another before.
    await register(wire, npm_request(function_object("stor-a"), app="stor"))
    assert (await wire.http.delete("/fn/remove")).status_code == 400
    response = await wire.http.delete("/fn/remove", params={"url": URL})
    assert (response.status_code, response.json()) == (200, {"ok": True})
    assert (await wire.http.delete("/fn/remove", params={"url": URL})).status_code == 404
    assert not {"store-a", "stor-a"} & wire.node.catalogue.functions.keys()


async def test_dev_tells_what_is_in_force(wire: Wire) -> None:
    await register(wire, npm_request(function_object("store-a"), app="store"))
    body = (await wire.http.get("/dev")).json()
    assert (body["authed"], body["isMissingSigningKey"], body["startOpts"]["autodiscover"]) == (False, False, False)
    functions = {function["slug"]: function for function in body["functions"]}
    assert len(functions) == 7
    assert functions["store-a"]["triggers"] == [{"event": "shop/paid"}]
    assert functions["store-a"]["steps"] == [
        {"id": "step", "name": "step", "uri": f"{URL}?fnId=store-a&stepId=step", "retries": 4}
    ]
    assert functions["shop-plain"]["name"] == "A plain function"
    assert functions["shop-plain"]["steps"][0]["uri"] == ""


async def test_v2_tells_how_an_app_is_reached(wire: Wire) -> None:
    await register(wire, npm_request(function_object("store-a"), app="store"))
    await register(wire, npm_request(app="empty", url=f"{URL}/empty"))
    apps = {app["id"]: app for app in (await wire.http.get("/v2/apps")).json()["data"]}
    assert list(apps) == ["empty", "shop", "store"]
    assert (apps["store"]["method"], apps["store"]["functionCount"], apps["empty"]["functionCount"]) == ("SERVE", 1, 0)
    sync = apps["store"]["latestSync"]
    assert (sync["framework"], sync["sdkLanguage"], sync["sdkVersion"]) == ("nodejs", "js", "v4.24.0")
    assert (sync["url"], "error" in sync) == (URL, False)
    assert "method" not in apps["shop"]
    await register(wire, npm_request(function_object("store-a", name=""), app="store"))
    sync = (await wire.http.get("/v2/apps/store")).json()["data"]["latestSync"]
    assert sync["error"]["code"] == "invalid_function"
    assert "function store-a: name" in sync["error"]["message"]
    assert (await wire.http.get("/v2/apps/empty/functions")).json()["data"] == []


async def test_with_keys_only_those_who_have_them_register(wire: Wire) -> None:
    guard = Guard(Keys([EventKey.parse("orders")], [KEY]), kind="cloud")
    transport = httpx2.ASGITransport(make_app(wire.node, guard))
    document = npm_request(function_object("store-a"), app="store")
    async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
        for method, path in (("POST", "/fn/register"), ("DELETE", "/fn/remove"), ("GET", "/dev")):
            response = await http.request(method, path)
            assert (response.status_code, response.text) == (401, "Authentication failed\n")
        headers = {"authorization": f"Bearer {KEY.bearer}", "x-inngest-expected-server-kind": "cloud"}
        assert (await http.post("/fn/register", json=document, headers=headers)).json()["modified"] is True
        assert (await http.get("/dev", headers=headers)).json()["authed"] is True
        headers["x-inngest-expected-server-kind"] = "dev"
        response = await http.post("/fn/register", json=document, headers=headers)
        assert response.json()["error"] == "Expected server kind dev, got cloud"
