"""Sessions of clients of the older revisions: they are asked, logged to, and told of what they watch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import mcp_types as types
import pytest
from mcp import Client

from perdure import Context, embedded, step
from perdure.model.json import Json
from perdure.server import make_app
from perdure.server.mcp import older
from tests.support.hosting import asgi_server
from tests.support.mcp import Rpc
from tests.support.wire import Wire, wire_app

OLD = "2025-11-25"
PATIENCE = 30.0


@asynccontextmanager
async def serving() -> AsyncGenerator[httpx2.AsyncClient, None]:
    """A server on a port, with a function that asks."""
    app = wire_app()

    @app.function("asks")
    async def asks(ctx: Context) -> Json:
        form = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
        await step.run("ask sure", lambda: {"message": "Really?", "requestedSchema": form})
        answer = await step.wait_for_signal("sure", signal=f"mcp/{ctx.run_id}/sure", timeout="1d")
        return answer.data if answer else None

    async with (
        embedded(app, db=":memory:") as node,
        asgi_server(make_app(node)) as url,
        httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http,
    ):
        yield http


@pytest.fixture(scope="module")
async def http() -> AsyncGenerator[httpx2.AsyncClient, None]:
    async with serving() as found:
        yield found


async def session(http: httpx2.AsyncClient, path: str = "/mcp", **capabilities: Json) -> Rpc:
    """A client that has a session."""
    info = {"name": "test", "version": "1"}
    plain = Rpc(http, path, revision=OLD)
    answer = await plain.ask("initialize", protocolVersion=OLD, capabilities=capabilities, clientInfo=info)
    assert answer.json()["result"]["capabilities"]["logging"] == {}
    assert answer.json()["result"]["capabilities"]["resources"]["subscribe"] is True
    return Rpc(http, path, revision=OLD, **{"mcp-session-id": answer.headers["mcp-session-id"]})


async def events(lines: AsyncIterator[str]) -> AsyncIterator[Json]:
    """The messages of a stream."""
    async for line in lines:
        if line.startswith("data: "):
            yield json.loads(line[6:])


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_what_a_run_asks_is_asked_of_the_person(http: httpx2.AsyncClient, mode: Json) -> None:
    asked: list[str] = []

    async def answer(context: Json, params: Json) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"ok": True})

    url = f"{http.base_url}/mcp?toolsets=run"
    async with asyncio.timeout(PATIENCE), Client(url, mode=mode, elicitation_callback=answer) as client:
        result = await client.call_tool("run_shop-asks", {})
    assert asked == ["Really?"]
    assert result.structured_content == {"action": "accept", "content": {"ok": True}}


async def test_a_client_that_cannot_be_asked_is_told_the_run(
    http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.server.mcp.functions.WAIT", 0.2)
    rpc = Rpc(http, "/mcp?toolsets=run", revision=OLD)
    found = (await rpc.call("run_shop-asks"))["structuredContent"]
    assert (found["status"], found["message"]) == ("RUNNING", "It has not ended yet: ask get_run_status.")


async def test_a_session_outlives_the_server_and_ends_when_its_client_says_so(http: httpx2.AsyncClient) -> None:
    rpc = await session(http)
    assert await rpc.result("ping") == {}
    with pytest.raises(AssertionError, match="Session not found"):
        await Rpc(http, revision=OLD, **{"mcp-session-id": "made.up"}).result("ping")
    assert (await http.request("DELETE", "/mcp", headers=rpc.headers)).status_code == 204
    assert (await rpc.ask("ping")).status_code == 404
    for method in ("GET", "DELETE", "PUT"):
        refused = await http.request(method, "/mcp", headers={"mcp-session-id": "made.up"})
        assert refused.status_code == (405 if method == "PUT" else 404)


async def test_a_client_that_says_much_of_itself_gets_a_short_id(http: httpx2.AsyncClient) -> None:
    rpc = await session(http, elicitation={"form": {"x": "y" * 5000}}, experimental={"z": {"z": "z" * 5000}})
    assert len(rpc.headers["mcp-session-id"]) < 1000
    assert await rpc.result("ping") == {}


async def test_another_server_with_the_same_database_knows_the_session(tmp_path: Path) -> None:
    async with embedded(wire_app(), db=tmp_path / "shop.db") as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as first:
            known = (await session(first)).headers
    async with embedded(wire_app(), db=tmp_path / "shop.db") as node:
        transport = httpx2.ASGITransport(make_app(node))
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as second:
            assert await Rpc(second, revision=OLD, **known).result("ping") == {}


async def test_what_is_watched_is_told_on_the_standing_stream(http: httpx2.AsyncClient) -> None:
    rpc = await session(http)
    sent = (await rpc.call("invoke_function_sync", functionId="shop-asks", timeout=1))["structuredContent"]
    uri = f"run://{sent['runId']}"
    assert await rpc.result("resources/subscribe", uri=uri) == {}
    headers = {"accept": "text/event-stream", **rpc.headers}
    async with asyncio.timeout(PATIENCE), http.stream("GET", "/mcp", headers=headers) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        await rpc.call("cancel_run", runId=sent["runId"])
        async for message in events(stream.aiter_lines()):
            assert message["method"] == "notifications/resources/updated"
            assert message["params"] == {"uri": uri}
            break
    assert await rpc.result("resources/unsubscribe", uri=uri) == {}
    alone = await Rpc(http, revision=OLD).error("resources/subscribe", uri=uri)
    assert "initialize first" in alone["message"]


async def test_whoever_listens_hears_of_runs_tasks_and_tools(http: httpx2.AsyncClient) -> None:
    knows: Json = {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {"io.modelcontextprotocol/clientCapabilities": knows}
    rpc = Rpc(http, "/mcp?toolsets=run,runs")
    task = (await rpc.result("tools/call", name="run_shop-asks", arguments={}, meta=meta))["taskId"]
    body = {
        "jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen",
        "params": {
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", **meta},
            "notifications": {"taskIds": [task], "resourceSubscriptions": [f"run://{task}"], "toolsListChanged": True},
        },
    }  # fmt: skip
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "subscriptions/listen",
    }
    heard: list[Json] = []
    async with asyncio.timeout(PATIENCE), http.stream("POST", rpc.path, json=body, headers=headers) as stream:
        async for message in events(stream.aiter_lines()):
            assert message["params"]["_meta"] == {"io.modelcontextprotocol/subscriptionId": "mine"}
            heard.append(message)
            if message["params"].get("status") == "input_required":
                answers: Json = {"sure": {"action": "decline"}}
                answering = Rpc(http, rpc.path, **{"mcp-name": task})
                await answering.result("tasks/update", taskId=task, inputResponses=answers, meta=meta)
            if {"completed", "run"} <= {
                each["params"].get("status", each["params"].get("uri", "")[:3]) for each in heard
            }:
                break
    assert heard[0]["method"] == "notifications/subscriptions/acknowledged"
    assert heard[0]["params"]["notifications"]["taskIds"] == [task]
    told = [each["params"] for each in heard if each["method"] == "notifications/tasks"]
    assert told[-1]["result"]["structuredContent"] == {"action": "decline"}
    undeclared = await rpc.error("subscriptions/listen", notifications={"taskIds": [task]})
    assert undeclared["code"] == -32021


async def test_streams_end_when_the_server_is_about_to_stop() -> None:
    stopping = False
    async with (
        embedded(wire_app(), db=":memory:") as node,
        asgi_server(make_app(node, draining=lambda: stopping)) as url,
        httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as http,
    ):
        rpc = await session(http)
        headers = {"accept": "text/event-stream", **rpc.headers}
        listening = asyncio.ensure_future(
            Rpc(http).ask("subscriptions/listen", notifications={"toolsListChanged": True})
        )
        async with asyncio.timeout(PATIENCE), http.stream("GET", "/mcp", headers=headers) as stream:
            stopping = True
            assert [message async for message in events(stream.aiter_lines())] == []
            told = (await listening).text
        acknowledged, last = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
        assert acknowledged["params"]["notifications"] == {"toolsListChanged": True}
        assert last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == last["id"]


async def test_logs_are_told_from_the_level_on_that_was_set(http: httpx2.AsyncClient) -> None:
    rpc = await session(http)
    for level, expected in (("info", True), ("error", False)):
        assert await rpc.result("logging/setLevel", level=level) == {}
        answer = await rpc.ask("tools/call", name="invoke_function_sync", arguments={"functionId": "shop-plain"})
        assert ("notifications/message" in answer.text) is expected
    assert "notifications/message" not in (await Rpc(http, revision=OLD).ask("ping")).text


async def test_a_request_can_be_cancelled(http: httpx2.AsyncClient) -> None:
    rpc = await session(http)
    given = {"functionId": "shop-asks", "timeout": 60}
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
    headers = {"accept": "application/json, text/event-stream", **rpc.headers}
    params = {"name": "invoke_function_sync", "arguments": given, "_meta": {"progressToken": "p"}}
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    last: Json = None
    request = http.stream("POST", "/mcp", json={**body, "params": params}, headers=headers)
    async with asyncio.timeout(PATIENCE), request as stream:
        async for last in events(stream.aiter_lines()):
            if "method" in last:
                assert (await http.post("/mcp", json=cancelled, headers=headers)).status_code == 202
    assert last["error"]["message"] == "the client cancelled this request"


async def test_an_answer_that_does_not_come_is_told(http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(older, "ANSWER_WITHIN", 0.1)
    rpc = await session(http, "/mcp?toolsets=run", elicitation={})
    answer = await rpc.ask("tools/call", name="run_shop-asks", arguments={})
    result = json.loads(answer.text.rpartition("data: ")[2])["result"]
    assert result["isError"] and "did not answer" in result["content"][0]["text"]
    late = {"jsonrpc": "2.0", "id": "ask-1", "result": {"action": "accept"}}
    headers = {"accept": "application/json", **rpc.headers}
    assert (await http.post("/mcp", json=late, headers=headers)).status_code == 404


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b"[1]", {}, 400),
        (b"1", {}, 400),
        (b'{"id": 1, "method": "ping"}', {}, 400),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', {}, 400),
        (b'{"jsonrpc": "2.0", "id": 1}', {}, 400),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', {}, 404),
        (b'{"jsonrpc": "2.0", "method": "notifications/initialized"}', {}, 202),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', {}, 200),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"accept": "text/html"}, 406),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"content-type": "text/plain"}, 415),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}', {"mcp-session-id": "x"}, 404),
        (b" " * (4 * 1024 * 1024 + 1), {}, 413),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused(wire: Wire, body: bytes, headers: dict[str, str], status: int) -> None:
    sent = {"content-type": "application/json", **headers}
    assert (await wire.http.post("/mcp", content=body, headers=sent)).status_code == status


async def test_several_requests_at_once(wire: Wire) -> None:
    body = [
        {"jsonrpc": "2.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": "b", "method": "nothing"},
    ]
    answers = (await wire.http.post("/mcp", json=body)).json()
    assert [each["id"] for each in answers] == [1, "b"]
    assert answers[0]["result"] == {} and answers[1]["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"content": b"{"}, 400),
        ({"content": b"[]"}, 400),
        ({"headers": {"accept": "text/html"}}, 406),
        ({"headers": {"mcp-method": "ping"}}, 400),
    ],
)
async def test_what_is_no_request_of_the_newest_revision_is_refused(wire: Wire, changes: Json, status: int) -> None:
    headers = {
        "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list", "content-type": "application/json",
        **changes.get("headers", {}),
    }  # fmt: skip
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    }  # fmt: skip
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    content = changes.get("content") or json.dumps(body).encode()
    assert (await wire.http.post("/mcp", content=content, headers=headers)).status_code == status
