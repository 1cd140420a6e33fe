"""The REST adapters of capabilities, against a real server and against one that answers from a table."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator

import httpx2
import pytest

from perdure.capability.rest import RestDoor
from perdure.capability.upstream import HttpUpstream, Reply, UpstreamError
from perdure.model.json import Json
from tests.support.hosting import asgi_server
from tests.support.upstreams import FakeUpstream, ServerUpstream, faces, opened, running
from tests.support.wire import Wire

SHIP = {"imo_number": 7, "assignedCrew": ["b", "x"], "dimensions": {"length": "12.5"}}


def client(*doors: RestDoor) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(doors[0]), base_url="http://localhost:8080")


@pytest.fixture
async def both(wire: Wire) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """Both documents on one port, over a real server."""
    upstream = ServerUpstream(wire.node)
    one = running("events-api.yaml", upstream, EVENTS_TOKEN="a")
    two = running("workflow.yaml", upstream, WORKFLOW_SIGNING_KEY="b")
    async with client(RestDoor([*faces(one, "rest"), *faces(two, "rest")])) as http:
        yield http


def told(response: httpx2.Response) -> tuple[int, str]:
    """An answer without the time at which it was made."""
    return response.status_code, re.sub(r'"fetched_?[aA]t":"[^"]*"', "", response.text)


async def test_all_operations_of_both_documents_answer_as_the_server_does(wire: Wire, both: httpx2.AsyncClient) -> None:
    sent = await both.post("/e/any", json={"name": "t/plain", "data": {"n": 1}})
    (event_id,) = sent.json()["ids"]
    waiting = (await both.post("/v1/workflows/trigger/any", json={"name": "t/wait"})).json()["ids"][0]
    assert len((await both.post("/e/any", json=[{"name": "a"}, {"name": "b"}])).json()["ids"]) == 2
    await wire.node.settle()
    run_id = (await wire.http.get(f"/v1/events/{event_id}/runs")).json()["data"][0]["run_id"]
    pairs = {
        "/v1/events?limit=2&name=t/plain": None,
        f"/v1/events/{event_id}": None,
        f"/v1/events/{event_id}/runs": None,
        f"/v1/runs/{run_id}": None,
        f"/v1/runs/{run_id}/jobs": None,
        "/v1/functions": None,
        "/v1/workflows/functions": "/v1/functions",
        f"/v1/workflows/runs/{run_id}": f"/v2/runs/{run_id}",
        f"/v1/workflows/runs/{run_id}/trace": f"/v2/runs/{run_id}/trace",
        "/v1/runs/01HF7YAT000000000000000001": None,
        "/v1/runs/none": None,
    }
    for path, native in pairs.items():
        assert told(await both.get(path)) == told(await wire.http.get(native or path)), path
    (waiter,) = (await wire.http.get(f"/v1/events/{waiting}/runs")).json()["data"]
    cancelled = await both.post(f"/v1/workflows/runs/{waiter['run_id']}/cancel")
    assert cancelled.json()["data"]["status"] == "Cancelled"
    assert told(await both.post(f"/v1/runs/{waiter['run_id']}/cancel")) == told(cancelled)


async def test_what_is_sent_is_what_the_document_says() -> None:
    upstream = FakeUpstream(lambda request: {})
    one = running("events-api.yaml", upstream, EVENTS_TOKEN="sesame")
    async with client(RestDoor(faces(one, "rest"))) as http:
        await http.post("/e/a%2Fb%20c", json={"name": "x"}, headers={"x-inngest-env": "branch", "x-other": "1"})
        sent = upstream.last
        assert (sent.method, sent.url, sent.body) == ("POST", "http://perdure/e/a%2Fb%20c", b'{"name":"x"}')
        assert sent.headers == {
            "accept": "application/json",
            "content-type": "application/json",
            "authorization": "Bearer sesame",
            "x-inngest-env": "branch",
        }
        await http.get("/v1/events?limit=3&unknown=1")
        assert upstream.last.query == [("limit", "3")]
        await http.post("/e/k", content=b"name=x", headers={"content-type": "application/x-www-form-urlencoded"})
        assert (upstream.last.body, upstream.last.headers["content-type"]) == (
            b"name=x",
            "application/x-www-form-urlencoded",
        )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/v1/events?limit=many", None, 400, "limit must be of type integer, not 'many'"),
        ("GET", "/v1/runs/..", None, 404, ""),
        ("GET", "/v1/runs/%2E%2E", None, 400, "runId must not be '..'"),
        ("GET", "/nowhere", None, 404, "nothing is exposed at /nowhere"),
        ("DELETE", "/v1/events", None, 405, "takes GET"),
        ("POST", "/e/k", b'{"a":', 400, "not valid JSON"),
        ("POST", "/e/k", b'"text"', 400, "body must be of type object or array"),
        ("POST", "/e/k", b"[" + b"1," * 6_000_000 + b"1]", 413, "larger than"),
    ],
)
async def test_what_is_wrong_is_told_and_nothing_is_sent(
    method: str, path: str, body: bytes | None, status: int, text: str
) -> None:
    upstream = FakeUpstream(lambda request: {})
    one = running("events-api.yaml", upstream, EVENTS_TOKEN="a")
    async with client(RestDoor(faces(one, "rest"))) as http:
        request = http.build_request(method, "/", content=body, headers={"content-type": "application/json"})
        request.url = request.url.copy_with(raw_path=path.encode())
        response = await http.send(request)
    assert (response.status_code, upstream.requests) == (status, [])
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (UpstreamError("unreachable", "cannot reach it"), 502, "upstream_unreachable"),
        (UpstreamError("timeout", "too slow"), 504, "upstream_timeout"),
        (Reply(200, {"content-type": "text/html"}, b"<h1>Hi</h1>"), 502, "unreadable_answer"),
        (Reply(200, {"content-type": "application/json"}, b'{"a":'), 502, "unreadable_answer"),
    ],
)
async def test_an_upstream_that_gives_nothing_usable(answer: Json, status: int, code: str) -> None:
    one = running("events-api.yaml", FakeUpstream(lambda request: answer), EVENTS_TOKEN="a")
    async with client(RestDoor(faces(one, "rest"))) as http:
        response = await http.get("/v1/functions")
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_an_upstream_of_http_that_is_down_slow_or_endless() -> None:
    async def application(scope: Json, receive: Json, send: Json) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"location", b"/x")]})
        await send({"type": "http.response.body", "body": b"x" * 5000})

    from perdure.capability.upstream import Request

    async with asgi_server(application) as url:
        upstream = HttpUpstream(timeout=0.2)
        try:
            assert (await upstream.send(Request(method="GET", url=f"{url}/a%2Fb"), 6000)).body == b"x" * 5000
            with pytest.raises(UpstreamError, match="did not answer within"):
                await upstream.send(Request(method="GET", url=f"{url}/slow"), 6000)
            with pytest.raises(UpstreamError, match="larger than 100 bytes"):
                await upstream.send(Request(method="GET", url=f"{url}/"), 100)
        finally:
            await upstream.close()
    upstream = HttpUpstream(timeout=2)
    # What stands in an address may be secret: told is where it leads to.
    for address in (f"{url}/bot-sesame/x", f"http://me:sesame@{url.partition('//')[2]}/", "http://me:sesame@[/"):
        with pytest.raises(UpstreamError, match="cannot reach") as caught:
            await upstream.send(Request(method="GET", url=address, headers={"authorization": "Bearer sesame"}), 100)
        assert "sesame" not in str(caught.value)
    await upstream.close()


@pytest.mark.parametrize("path", ["/v1/runs/%ff", "/v1/events?name=%ff"])
async def test_what_is_no_text_is_not_sent(path: str) -> None:
    upstream = FakeUpstream(lambda request: {})
    async with client(RestDoor(faces(running("events-api.yaml", upstream, EVENTS_TOKEN="a"), "rest"))) as http:
        response = await http.get(path)
    assert (response.status_code, response.json()["code"], upstream.requests) == (400, "invalid_parameter", [])


async def test_a_step_that_leads_elsewhere_has_failed() -> None:
    def answer(request: Json) -> Json:
        return Reply(302, {"location": "/login"}, b"") if "crew" in request.url else fleet_answers(request)

    async with client(RestDoor(faces(running("fleet.yaml", FakeUpstream(answer)), "rest"))) as http:
        response = await http.get("/ships/7/crew", headers={"authorization": "Bearer knock"})
    assert (response.status_code, response.json()["code"]) == (502, "step_failed")


def fleet_answers(request: Json) -> Json:
    path = request.url.partition("//")[2].partition("/")[2]
    return {
        "api/ships": {"ships": [{"imo_number": 7, "vessel name": "Star"}]},
        "api/ships/7": SHIP,
        "api/crew": [{"crewId": "a", "fullName": "Ann"}, {"crewId": "b", "fullName": "Bo", "role": "cook"}],
        "api/voyages": {"id": 1},
        "api/any/where": {"raw": True},
        "vessels": Reply(200, {"content-type": "text/xml"}, b"<f><vessel><name>A</name></vessel><vessel/></f>"),
    }.get(path, Reply(404, {"content-type": "application/json"}, b'{"error":"gone"}'))


async def test_mapped_orchestrated_and_forwarded_operations() -> None:
    upstream = FakeUpstream(fleet_answers)
    one = running("fleet.yaml", upstream)
    async with client(RestDoor(faces(one, "rest"))) as http:
        assert (await http.get("/ships")).status_code == 401
        http.headers["authorization"] = "Bearer knock"
        listed = await http.get("/ships?status=active")
        assert listed.json() == [{"imo": "7", "name": "Star", "kind": "ship"}]
        assert upstream.last.headers["authorization"] == "Bearer sesame"
        assert upstream.last.headers["registry-version"] == "7"
        assert (await http.get("/ships?status=ACTIVE")).json()["error"] == "status must match ^[a-z]+$"
        crew = await http.get("/ships/7/crew")
        assert crew.json() == {"imo": "7", "size": {"length": 12.5}, "crew": [{"fullName": "Bo"}]}
        missing = await http.get("/ships/8/crew")
        assert (missing.status_code, missing.json()["error"]) == (404, 'step get-ship: HTTP 404: {"error":"gone"}')
        assert (await http.get("/vessels")).json() == ["A", None]
        assert upstream.last.query == [("api_key", "sesame")]
        await http.post("/voyages", json={"ship": 'a "b"', "crewIds": ["x"]})
        assert upstream.last.body == b'{"ship": "a \\"b\\"", "crew": ["x"], "cargo": null}\n'
        raw = await http.put("/raw/any/where?q=1", content=b"{}", headers={"x-trace": "t", "x-secret": "s"})
        assert raw.json() == {"raw": True}
        assert (upstream.last.method, upstream.last.query) == ("PUT", [("q", "1")])
        assert upstream.last.headers["x-trace"] == "t" and "x-secret" not in upstream.last.headers
        assert upstream.last.headers["authorization"] == "Bearer sesame"


DIGEST = """
naftiko: 1.0.0-alpha2
capability:
  consumes:
  - type: http
    namespace: up
    baseUri: http://up
    authentication: {type: digest, username: Mufasa, password: Circle of Life}
    resources: [{name: r, path: "/dir/index.html", operations: [{name: get, method: GET}]}]
  exposes:
  - type: rest
    port: 1
    namespace: door
    resources: [{name: r, path: /r, operations: [{name: get, method: GET, call: up.get}]}]
"""


async def test_digest_answers_the_challenge_once() -> None:
    challenge = 'Digest realm="r", qop="auth", nonce="n", algorithm=SHA-256, opaque="o"'

    def answer(request: Json) -> Json:
        given = request.headers.get("authorization", "")
        ok = given.startswith('Digest username="Mufasa", realm="r", nonce="n", uri="/dir/index.html", response="')
        return {"ok": True} if ok else Reply(401, {"www-authenticate": challenge}, b"no")

    upstream = FakeUpstream(answer)
    async with client(RestDoor(faces(running(opened(DIGEST), upstream), "rest"))) as http:
        assert (await http.get("/r")).json() == {"ok": True}
    assert len(upstream.requests) == 2


async def test_callers_credentials_reach_an_upstream_without_credentials() -> None:
    upstream = FakeUpstream(lambda request: {})
    document = opened(
        DIGEST.replace("    authentication: {type: digest, username: Mufasa, password: Circle of Life}\n", "")
    )
    async with client(RestDoor(faces(running(document, upstream), "rest"))) as http:
        await http.get("/r", headers={"authorization": "Basic x", "traceparent": "00-a-b-01", "cookie": "c=1"})
    assert upstream.last.headers == {
        "accept": "application/json",
        "authorization": "Basic x",
        "traceparent": "00-a-b-01",
    }


async def test_an_adapter_without_credentials_is_for_this_machine() -> None:
    from perdure.capability.running import face

    one = running(opened(DIGEST), FakeUpstream(lambda request: {}))
    door = RestDoor([face(one, one.opened.capability.exposures[0], local_only=True)])
    async with client(door) as http:
        assert (await http.get("/r")).status_code == 200
        assert (await http.get("/r", headers={"host": "rebound.example"})).json()["code"] == "foreign_host"
        assert (await http.get("/r", headers={"origin": "https://page.example"})).json()["code"] == "foreign_page"
