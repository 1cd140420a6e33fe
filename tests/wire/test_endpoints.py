"""Requests that become runs, over HTTP: reports, what others see of them, and tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import jwt
import pytest

from perdure.model.json import Json, decode, encode
from perdure.model.keys import EventKey, Keys, SigningKey
from perdure.model.limits import DAY
from perdure.model.records import RunStatus
from perdure.server import Guard
from tests.support.endpoint_world import (
    DOMAIN,
    EndpointWorld,
    api_result,
    complete,
    ended,
    endpoint_world,
    never,
    sleep,
    thrown,
)
from tests.support.hosting import asgi_server
from tests.support.remote_app import done, op

KEY = "signkey-test-00ff"
PREFIXES = ["/v1/checkpoint", "/v1/http/runs"]
ENVIRONMENT = "00000000-0000-4000-b000-000000000000"


@pytest.fixture
async def world() -> AsyncGenerator[EndpointWorld, None]:
    async with endpoint_world(lambda call: ended()) as started:
        yield started


def locked() -> Guard:
    return Guard(Keys([EventKey.parse("evtkey")], [SigningKey.parse(KEY)]))


def claims(token: str) -> Json:
    return jwt.decode(token, options={"verify_signature": False})


async def begun(world: EndpointWorld, run_id: str, *steps: Json) -> dict[str, str]:
    told: dict[str, str] = (await world.post("/v1/checkpoint", world.body(run_id, *steps)))["data"]
    return told


async def nobody_waits(world: EndpointWorld) -> None:
    async with asyncio.timeout(5):
        while world.node.runner.ended._listeners:
            await asyncio.sleep(0.001)


# Reports.


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_a_request_is_reported_as_its_sdk_does(world: EndpointWorld, prefix: str) -> None:
    run_id = world.id()
    response = await world.http.post(prefix, json=world.body(run_id, done("a", 1)))
    assert response.status_code == 200 and response.headers["content-type"] == "application/json"
    told = response.json()
    assert told["metadata"]["fetched_at"].startswith("2027-01-15T08:00:00")
    assert told["data"].keys() == {"fn_id", "app_id", "run_id", "token", "realtime_token"}
    assert all(told["data"].values()) and told["data"]["run_id"] == run_id
    response = await world.http.post(f"{prefix}/{run_id}/steps", json={"steps": [complete()]})
    assert (response.status_code, response.content) == (200, b"")
    output = await world.http.get(f"{prefix}/{run_id}/output", params={"token": told["data"]["token"]})
    assert (output.status_code, output.text) == (200, "null")


async def test_a_report_is_not_asked_for_the_type_of_its_content(world: EndpointWorld) -> None:
    body = encode(world.body(world.id(), complete()))
    assert (await world.http.post("/v1/checkpoint", content=body)).status_code == 200


async def test_every_report_of_a_run_is_told_the_same(world: EndpointWorld) -> None:
    run_id = world.id()
    first = await begun(world, run_id)
    for steps in ([done("a", 1)], [done("a", 1)], [complete()], [complete()]):
        assert await begun(world, run_id, *steps) == first
    other = await begun(world, world.id())
    assert (other["fn_id"], other["app_id"]) == (first["fn_id"], first["app_id"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the report cannot be read"),
        (b"{", "the report cannot be read"),
        (b"[" * 200_000, "the report cannot be read"),
        (b"\xff", "the report cannot be read"),
        (encode({"event": {"data": {}}}), "run_id"),
        (encode({"run_id": "x", "event": {"data": {}}}), "run_id: must be a ULID"),
    ],
)
async def test_a_malformed_first_report(world: EndpointWorld, content: bytes, message: str) -> None:
    response = await world.http.post("/v1/checkpoint", content=content)
    told = response.json()
    assert (response.status_code, told["data"], told["status"]) == (400, None, 400)
    assert message in told["error"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"op": "Brew", "id": "a"}, "opcode that is not known: Brew"),
        ({"id": "a"}, "has no opcode"),
        ({"op": "StepRun"}, "has no id"),
        (5, "cannot be read"),
        ({"op": "Sleep", "id": "a", "name": "a while"}, "neither a duration nor a date"),
        ({"op": "Sleep", "id": "a", "name": "400d"}, "at most one year"),
    ],
)
async def test_a_malformed_operation(world: EndpointWorld, step: Json, message: str) -> None:
    run_id = await world.begin(done("a", 1))
    told = await world.report(run_id, step, status=400)
    assert message in told["error"]
    told = await world.post("/v1/checkpoint", world.body(world.id(), step), 400)
    assert message in told["error"]
    await world.report(run_id, complete())


@pytest.mark.parametrize("path", ["/v1/checkpoint", "/v1/checkpoint/{id}/steps"])
async def test_a_body_may_be_so_large(world: EndpointWorld, path: str) -> None:
    run_id = await world.begin()
    large = b"x" * (8 * 1024 * 1024 + 1)
    response = await world.http.post(path.format(id=run_id), content=large)
    assert response.status_code == 413, response.text

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield large[: len(large) // 2]
        yield large[len(large) // 2 :]

    assert (await world.http.post(path.format(id=run_id), content=chunks())).status_code == 413
    await world.report(run_id, complete())


async def test_reports_on_what_is_no_such_run(world: EndpointWorld) -> None:
    run_id = world.id()
    told = await world.report(run_id, done("a", 1), status=404)
    assert told["error"] == f"there is no run {run_id} that began with a request"
    await world.report("run-1", done("a", 1), status=400)
    for method in ("GET", "PUT", "DELETE"):
        assert (await world.http.request(method, f"/v1/checkpoint/{run_id}/steps")).status_code == 405


async def test_reports_ask_for_the_key_where_there_is_one(world: EndpointWorld) -> None:
    async with world.client(locked()) as http:
        for path in ("/v1/checkpoint", f"/v1/checkpoint/{world.id()}/steps"):
            for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer signkey-test-00fe"}):
                response = await http.post(path, json=world.body(world.id()), headers=headers)
                assert (response.status_code, response.text) == (401, "Authentication failed\n")
        good = {"authorization": f"Bearer {SigningKey.parse(KEY).bearer}"}
        response = await http.post("/v1/checkpoint", json=world.body(world.id(), complete()), headers=good)
        assert response.status_code == 200
        told = response.json()["data"]
        # Who comes for the answer has the token of the run, and no key.
        output = f"/v1/http/runs/{told['run_id']}/output"
        assert (await http.get(output, params={"token": told["token"]})).status_code == 200
        assert (await http.get(output)).status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://evil.localhost.example:8288", "x"])
async def test_a_web_page_cannot_make_the_server_call_its_network(origin: str) -> None:
    """Pages may send simple requests anywhere, and the domain of a request is called again."""
    async with endpoint_world(never) as world:
        body = encode(world.body(world.id(), op("StepPlanned", "a"), domain="http://192.168.0.1"))
        headers = {"origin": origin, "content-type": "text/plain"}
        response = await world.http.post("/v1/checkpoint", content=body, headers=headers)
        assert response.status_code == 403 and response.json()["error"].startswith("a page of another origin may only")
        run_id = await world.begin(done("a", 1))
        response = await world.http.post(f"/v1/checkpoint/{run_id}/steps", content=b"{}", headers=headers)
        assert response.status_code == 403
        await world.clock.advance("1m")
        # Where there are keys, a page has none.
        async with world.client(locked()) as http:
            bearer = {"authorization": f"Bearer {KEY}"}
            assert (await http.post("/v1/checkpoint", content=body, headers=headers)).status_code == 401
            good = world.body(world.id(), complete())
            response = await http.post("/v1/checkpoint", json=good, headers={"origin": origin, **bearer})
            assert response.status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:8288", "http://perdure"])
async def test_a_page_of_this_machine_is_no_stranger(world: EndpointWorld, origin: str) -> None:
    body = world.body(world.id(), complete())
    assert (await world.http.post("/v1/checkpoint", json=body, headers={"origin": origin})).status_code == 200


# What SDKs fetch when the request is made again, and what others see.


async def test_the_state_of_a_run_is_told_as_the_sdk_reads_it(world: EndpointWorld) -> None:
    run_id = await world.begin(done("b", "hello"), query_params="q=1&z=a+b")
    await world.report(run_id, sleep("a", "1h"))
    batch = (await world.http.get(f"/v0/runs/{run_id}/batch")).json()
    assert [event["name"] for event in batch] == ["inngest/http.request"]
    assert batch[0].keys() >= {"name", "data", "id", "ts"} and batch[0]["data"]["query_params"] == "q=1&z=a+b"
    wanted = '{"e9d71f5ee7c92d6dc9e92ffdad17b8bd49418f98":{"data":"hello"}}'
    assert (await world.http.get(f"/v0/runs/{run_id}/actions")).text == wanted
    await world.clock.advance("1h")
    for path in ("batch", "actions"):
        response = await world.http.get(f"/v0/runs/{run_id}/{path}")
        assert (response.status_code, response.json()["status"]) == (410, 410)


async def test_such_a_run_is_a_run_like_all_others(world: EndpointWorld) -> None:
    run_id = await world.begin(done("a", 1), path="/users/17")
    run = (await world.http.get(f"/v1/runs/{run_id}")).json()["data"]
    assert (run["run_id"], run["status"]) == (run_id, "Running")
    await world.report(run_id, complete(api_result("17")))
    run = (await world.http.get(f"/v1/runs/{run_id}")).json()["data"]
    assert (run["status"], run["output"]) == ("Completed", api_result("17"))
    apps = (await world.http.get("/v2/apps")).json()["data"]
    assert [app["id"] for app in apps] == [DOMAIN]
    functions = (await world.http.get("/dev")).json()["functions"]
    assert [function["name"] for function in functions] == ["GET /users/:id"]


async def test_who_listens_for_the_end_of_runs_hears_of_it(world: EndpointWorld) -> None:
    run_id = await world.begin(thrown(final=True))
    run = (await world.http.get(f"/v1/runs/{run_id}")).json()["data"]
    assert run["status"] == "Failed"
    await nobody_waits(world)


# Tokens.


async def test_the_tokens_are_those_of_the_protocol_but_outlive_the_wait(world: EndpointWorld) -> None:
    run_id = world.id()
    told = await begun(world, run_id)
    now = world.clock.now()
    run, realtime = claims(told["token"]), claims(told["realtime_token"])
    assert run.items() >= {
        "iss": "api.inngest.com", "sub": "run-claim", "iat": now // 1000, "Env": ENVIRONMENT, "RunID": run_id,
    }.items()  # fmt: skip
    assert jwt.get_unverified_header(told["token"]) == {"alg": "HS256", "typ": "JWT"}
    topic = {"kind": "run", "env_id": ENVIRONMENT, "channel": run_id, "name": "$stream"}
    assert realtime.items() >= {
        "iss": "rt.inngest.com", "sub": "00000000-0000-4000-a000-000000000000", "env": ENVIRONMENT, "topics": [topic],
        "publish": False,
    }.items()  # fmt: skip
    for token in (run, realtime):
        assert token["exp"] * 1000 > now + 366 * DAY


async def test_a_token_is_good_after_the_longest_wait() -> None:
    async with endpoint_world(lambda call: ended()) as world:
        run_id = world.id()
        token = (await begun(world, run_id, sleep("a year", "365d")))["token"]
        await world.clock.advance("365d")
        response = await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": token})
        assert response.status_code == 200


async def test_a_token_is_good_after_a_restart_and_on_no_other_server(tmp_path: Path) -> None:
    async with endpoint_world(db=tmp_path / "a.db") as world:
        run_id = world.id()
        token = (await begun(world, run_id, complete()))["token"]
        clock = world.clock
    path = f"/v1/http/runs/{run_id}/output"
    async with endpoint_world(db=tmp_path / "a.db", clock=clock) as world:
        assert (await world.http.get(path, params={"token": token})).status_code == 200
    async with endpoint_world(db=tmp_path / "b.db", clock=clock) as world:
        await begun(world, run_id, complete())
        assert (await world.http.get(path, params={"token": token})).status_code == 401


def _claims(world: EndpointWorld, run_id: str, **other: Json) -> dict[str, Json]:
    now = world.clock.now() // 1000
    found = {"iss": "api.inngest.com", "sub": "run-claim", "RunID": run_id, "iat": now, "exp": now + 3600, **other}
    return {name: value for name, value in found.items() if value is not None}


def _own(world: EndpointWorld, run_id: str, **other: Json) -> str:
    return jwt.encode(_claims(world, run_id, **other), world.node.secret("run"), "HS256")


BAD_TOKENS: dict[str, Callable[[EndpointWorld, str, str], str]] = {
    "none": lambda world, run_id, token: "",
    "garbage": lambda world, run_id, token: "bad",
    "not ascii": lambda world, run_id, token: "é.b.\x00",
    "huge": lambda world, run_id, token: "e30." * 5000,
    "deep": lambda world, run_id, token: "W1tb" * 5000 + ".e30.AAAA",
    "unsigned": lambda world, run_id, token: jwt.encode(_claims(world, run_id), "", "none"),
    "signature gone": lambda world, run_id, token: token.rpartition(".")[0] + ".",
    "signature changed": lambda world, run_id, token: token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:],
    "claims changed": lambda world, run_id, token: ".".join(
        [token.split(".")[0], _own(world, world.id()).split(".")[1], token.split(".")[2]]
    ),
    "known secret": lambda world, run_id, token: jwt.encode(_claims(world, run_id), "dev-mode-is-not-secret", "HS256"),
    "other algorithm": lambda world, run_id, token: jwt.encode(
        _claims(world, run_id), world.node.secret("run"), "HS512"
    ),
    "expired": lambda world, run_id, token: _own(world, run_id, exp=world.clock.now() // 1000),
    "without end": lambda world, run_id, token: _own(world, run_id, exp=None),
    "from the future": lambda world, run_id, token: _own(world, run_id, iat=world.clock.now() // 1000 + 60),
    "other issuer": lambda world, run_id, token: _own(world, run_id, iss="rt.inngest.com"),
    "other subject": lambda world, run_id, token: _own(world, run_id, sub="account"),
    "of another run": lambda world, run_id, token: _own(world, world.id()),
    "of no run": lambda world, run_id, token: _own(world, run_id, RunID=None),
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("which", BAD_TOKENS)
async def test_a_bad_token_opens_nothing(world: EndpointWorld, which: str) -> None:
    run_id = world.id()
    token = (await begun(world, run_id, complete(api_result('"secret"'))))["token"]
    path = f"/v1/http/runs/{run_id}/output"
    response = await world.http.get(path, params={"token": BAD_TOKENS[which](world, run_id, token)})
    assert response.status_code == 401
    assert response.json() == {"error": "Unable to find run with auth token", "data": None, "status": 401}
    assert (await world.http.get(path, params={"token": token})).text == '"secret"'
    assert (await world.http.get(path, headers={"authorization": f"Bearer {token}"})).status_code == 401


async def test_tokens_are_good_for_their_purpose_only(world: EndpointWorld) -> None:
    first, second = world.id(), world.id()
    told, other = await begun(world, first, complete()), await begun(world, second, complete())
    output = f"/v1/http/runs/{first}/output"
    assert (await world.http.get(output, params={"token": told["realtime_token"]})).status_code == 401
    assert (await world.http.get(output, params={"token": other["token"]})).status_code == 401
    sse = await world.http.get("/v1/realtime/sse", params={"token": told["token"]})
    assert sse.status_code == 401


async def test_a_run_that_was_deleted_is_not_there(world: EndpointWorld) -> None:
    run_id = world.id()
    response = await world.http.get(f"/v1/http/runs/{run_id}/output", params={"token": _own(world, run_id)})
    assert (response.status_code, response.json()["error"]) == (404, f"there is no run {run_id}")


async def test_repeated_requests_are_signed_where_there_are_keys() -> None:
    """As the app in the protocol's recordings: over nothing for GET, over canonical JSON for POST."""
    keys = Keys([EventKey.parse("evtkey")], [SigningKey.parse(KEY)])
    received: list[tuple[str, str, bytes]] = []

    async def app(scope: Json, receive: Json, send: Json) -> None:
        if scope["type"] != "http":
            return
        body = (await receive())["body"]
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        received.append((scope["method"], headers["x-inngest-signature"], body))
        reply = ended()
        signed = {**reply.headers, "x-inngest-signature": keys.sign(reply.body, server.clock.now())}
        start = [(name.encode(), value.encode()) for name, value in signed.items()]
        await send({"type": "http.response.start", "status": 206, "headers": start})
        await send({"type": "http.response.body", "body": reply.body})

    async with asgi_server(app) as url, endpoint_world(keys=keys) as server:
        server.node.endpoints._transport = server.node._remote._http
        for method, body in (("GET", ""), ("POST", '{"b": 1, "a": 2}'), ("PATCH", '{"b":1}')):
            steps = op("StepFailed", "a") | {"error": {"message": "no"}}
            run_id = await server.begin(steps, domain=url, method=method, body=body)
            while (await server.run(run_id)).output is None:
                await asyncio.sleep(0.001)
        now = server.clock.now()
    signed = [(method, signature) for method, signature, _ in received]
    assert signed == [
        ("GET", keys.sign(b"", now)), ("POST", keys.sign(b'{"a":2,"b":1}', now)), ("PATCH", keys.sign(b"", now)),
    ]  # fmt: skip
    assert [body for _, _, body in received] == [b"", b'{"b": 1, "a": 2}', b'{"b":1}']


@pytest.mark.parametrize("signature", ["", "t=1&s=" + "0" * 64, "of another key", "of another answer"])
async def test_an_answer_that_no_key_signed_is_none(signature: str) -> None:
    """Whoever calls an endpoint names its host: where a run is called again, something else may listen."""
    keys, others = (Keys([EventKey.parse("evtkey")], [SigningKey.parse(key)]) for key in (KEY, "11aa"))

    async def somebody(scope: Json, receive: Json, send: Json) -> None:
        if scope["type"] != "http":
            return
        await receive()
        reply, now = ended({"status": 200, "body": "forged"}), server.clock.now()
        made = {"of another key": others.sign(reply.body, now), "of another answer": keys.sign(b"{}", now)}
        headers = {**reply.headers, "x-inngest-signature": made.get(signature, signature)}
        start = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 206, "headers": start})
        await send({"type": "http.response.body", "body": reply.body})

    async with asgi_server(somebody) as url, endpoint_world(keys=keys) as server:
        server.node.endpoints._transport = server.node._remote._http
        run_id = server.id()
        failed = op("StepFailed", "a") | {"error": {"message": "no"}}
        await server.post("/v1/checkpoint", server.body(run_id, failed, retries=0, domain=url))
        while (await server.run(run_id)).output is None:
            await asyncio.sleep(0.001)
        run = await server.run(run_id)
    told = decode(run.output or b"")
    assert run.status == RunStatus.FAILED and told["name"] == "unsigned_answer" and "serve_origin" in told["message"]
