"""MCP at `/mcp` of a server: its tools answer as its API does, in every revision of the protocol."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest
from jsonschema import Draft202012Validator

from perdure import embedded
from perdure.model.json import Json
from perdure.model.keys import ApiKey, EventKey, Keys, SigningKey
from perdure.model.roles import Role
from perdure.server import Guard, make_app
from perdure.server.catalogue import V1, V2
from perdure.server.mcp.asking import ASKER, Asker, inside
from tests.support.mcp import LEGACY, MODERN, Rpc
from tests.support.wire import Wire, wire_app

PEERS = {
    "cancel_run", "get_app", "get_apps", "get_event_runs", "get_function", "get_run", "get_run_status", "get_run_trace",
    "health", "invoke_function", "invoke_function_sync", "list_function_runs", "list_functions", "list_runs",
    "poll_run_status", "rerun", "send_event", "list_docs", "read_doc", "grep_docs",
}  # fmt: skip
OWN = {"list_events", "get_event", "list_run_jobs", "explain_run_failure", "list_stuck_runs", "send_signal"}


@pytest.fixture
def rpc(wire: Wire) -> Rpc:
    return Rpc(wire.http)


@pytest.mark.parametrize("revision", [MODERN, *LEGACY])
async def test_every_revision_lists_and_calls(wire: Wire, revision: str) -> None:
    rpc = Rpc(wire.http, revision=revision)
    names = {each["name"] for each in (await rpc.result("tools/list"))["tools"]}
    assert names >= PEERS | OWN | {each.tool for each in (*V1, *V2) if each.tool}
    health = await rpc.call("health")
    assert health["structuredContent"]["data"] == {"status": "ok"}
    assert not health.get("isError")


async def test_an_older_client_initializes_without_a_session(wire: Wire) -> None:
    rpc = Rpc(wire.http, revision="2025-11-25")
    info = {"name": "test", "version": "1"}
    for asked in ("2024-11-05", "2025-11-25"):
        result = await rpc.result("initialize", protocolVersion=asked, capabilities={}, clientInfo=info)
        assert (result["protocolVersion"], result["serverInfo"]["name"]) == (asked, "perdure")
        assert result["instructions"].startswith("A perdure server")


async def test_tools_are_told_with_schemas_and_effects(rpc: Rpc) -> None:
    listed = await rpc.result("tools/list")
    assert listed["ttlMs"] > 0 and listed["cacheScope"] == "private"
    tools = {each["name"]: each for each in listed["tools"]}
    assert list(tools) == sorted(tools)
    for name, tool in tools.items():
        Draft202012Validator.check_schema(tool["inputSchema"])
        Draft202012Validator.check_schema(tool["outputSchema"])
        assert tool["inputSchema"]["additionalProperties"] is False, name
        assert tool["title"] and tool["description"] and "readOnlyHint" in tool["annotations"], name
        assert "components/schemas" not in str(tool), name
    assert tools["get_event"]["inputSchema"]["required"] == ["eventId"]
    assert tools["list_run_jobs"]["inputSchema"]["required"] == ["runId"]
    assert tools["cancel_run"]["annotations"]["destructiveHint"] is True
    assert tools["list_runs"]["annotations"]["readOnlyHint"] is True


async def test_tools_answer_as_the_api_does(wire: Wire, rpc: Rpc) -> None:
    run_id = await wire.start("t/two")
    event = (await wire.http.get("/v1/events")).json()["data"][0]["internal_id"]
    pairs: dict[str, tuple[dict[str, Json], str]] = {
        "get_run": ({"runId": run_id, "includeOutput": True}, f"/v2/runs/{run_id}?includeOutput=true"),
        "get_run_trace": ({"runId": run_id}, f"/v2/runs/{run_id}/trace"),
        "list_runs": (
            {"status": ["COMPLETED", "FAILED"], "limit": 2, "functionId": ["two"]},
            "/v2/runs?status=COMPLETED&status=FAILED&limit=2&functionId=two",
        ),
        "list_function_runs": ({"appId": "shop", "functionId": "two"}, "/v2/apps/shop/functions/two/runs"),
        "get_event_runs": ({"eventId": event}, f"/v2/events/{event}/runs"),
        "get_event": ({"eventId": event}, f"/v1/events/{event}"),
        "list_events": ({"name": "t/two"}, "/v1/events?name=t/two"),
        "list_run_jobs": ({"runId": run_id}, f"/v1/runs/{run_id}/jobs"),
        "get_apps": ({}, "/v2/apps"),
        "get_app": ({"appId": "shop"}, "/v2/apps/shop"),
        "get_function": ({"appId": "shop", "functionId": "two"}, "/v2/apps/shop/functions/two"),
        "list_functions": ({"appId": "shop"}, "/v2/apps/shop/functions"),
    }
    schemas = {each["name"]: each["outputSchema"] for each in (await rpc.result("tools/list"))["tools"]}
    for name, (given, path) in pairs.items():
        result = await rpc.call(name, **given)
        native = await wire.http.get(path)
        assert result["structuredContent"] == native.json(), name
        assert result["content"][0]["text"] == native.text, name
        Draft202012Validator(schemas[name]).validate(result["structuredContent"])
    every = (await rpc.call("list_functions"))["structuredContent"]
    assert len(every["data"]) == len(wire_app().functions)


async def test_tools_change_what_the_api_changes(wire: Wire, rpc: Rpc) -> None:
    sent = await rpc.call("send_event", name="t/wait", data={"n": 1})
    await wire.node.settle()
    runs = await rpc.call("get_event_runs", eventId=sent["structuredContent"]["data"]["eventId"])
    run_id = runs["structuredContent"]["data"][0]["id"]
    stuck = (await rpc.call("list_stuck_runs", olderThan=0))["structuredContent"]["runs"]
    assert [(each["runId"], each["waitsFor"][0]["name"], each["waitsFor"][0]["stepOp"]) for each in stuck] == [
        (run_id, "nap", "SLEEP")
    ]
    assert (await rpc.call("list_stuck_runs"))["structuredContent"]["runs"] == []
    assert not (await rpc.call("cancel_run", runId=run_id)).get("isError")
    again = await rpc.call("cancel_run", runId=run_id)
    assert again["isError"] and "run_already_cancelled" in again["content"][0]["text"]
    assert (await rpc.call("get_run_status", runId=run_id))["structuredContent"]["status"] == "CANCELLED"
    explained = (await rpc.call("explain_run_failure", runId=run_id))["structuredContent"]
    assert explained["summary"] == f"Run {run_id} did not fail: it is CANCELLED."


async def test_a_function_is_invoked_and_awaited(wire: Wire, rpc: Rpc) -> None:
    done = await rpc.call("invoke_function_sync", functionId="shop-plain", data={"n": 1})
    assert done["structuredContent"]["output"] == {"got": {"n": 1}}
    failing = asyncio.create_task(rpc.call("invoke_function_sync", functionId="shop-boom"))
    await asyncio.sleep(0.05)
    await wire.node.drain()
    failed = await failing
    assert failed["isError"] and "boom" in failed["content"][0]["text"]
    slow = await rpc.call("invoke_function_sync", functionId="shop-waiter", timeout=1)
    assert slow["structuredContent"]["status"] == "RUNNING"
    run_id = slow["structuredContent"]["runId"]
    polled = await rpc.call("poll_run_status", runIds=[run_id], timeout=1, pollInterval=100)
    assert (polled["structuredContent"]["ended"], polled["structuredContent"]["waiting"]) == (0, 1)
    missing = await rpc.call("invoke_function_sync", functionId="none")
    assert missing["isError"] and "list_functions shows" in missing["content"][0]["text"]


async def test_a_failure_is_explained(wire: Wire, rpc: Rpc) -> None:
    run_id = await wire.start("t/boom")
    await wire.node.drain()
    explained = (await rpc.call("explain_run_failure", runId=run_id))["structuredContent"]
    assert explained["summary"] == "boom failed outside of any step with ValueError: boom."
    assert explained["error"]["name"] == "ValueError"
    assert explained["retry"] == {"tool": "rerun", "arguments": {"runId": run_id}}


@pytest.mark.parametrize(
    ("tool", "given", "text"),
    [
        ("get_run", {}, "'runId' is a required property"),
        ("get_run", {"runId": "x"}, "runId: 'x' does not match"),
        ("get_run", {"runId": "01HF7YAT000000000000000001", "run": 1}, "'run' was unexpected"),
        ("get_run", {"runId": "01HF7YAT000000000000000001"}, 'HTTP 404: {"errors":[{"code":"not_found"'),
        ("list_runs", {"limit": 1000}, "limit: 1000 is greater than the maximum of 100"),
        ("get_run_status", {"runId": "01HF7YAT000000000000000001"}, "There is no run"),
        ("send_event", {"name": ""}, "name: '' should be non-empty"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_to_the_agent(rpc: Rpc, tool: str, given: dict[str, Json], text: str) -> None:
    result = await rpc.call(tool, **given)
    assert result["isError"]
    assert text in result["content"][0]["text"]


async def test_what_there_is_not_is_an_error_of_the_protocol(rpc: Rpc) -> None:
    assert (await rpc.error("tools/call", name="nothing", arguments={}))["code"] == -32602
    gone = await rpc.error("resources/read", uri="run://01HF7YAT000000000000000001")
    assert (gone["code"], gone["data"]) == (-32602, {"uri": "run://01HF7YAT000000000000000001"})
    assert (await rpc.error("resources/read", uri="nowhere://x"))["code"] == -32602
    assert (await rpc.error("prompts/get", name="nothing"))["code"] == -32602
    assert (await rpc.error("prompts/get", name="debug_run", arguments={}))["message"] == "prompt debug_run needs runId"


async def test_resources_and_prompts(wire: Wire, rpc: Rpc) -> None:
    run_id = await wire.start("t/two")
    templates = {each["uriTemplate"] for each in (await rpc.result("resources/templates/list"))["resourceTemplates"]}
    assert templates == {"run://{runId}", "run://{runId}/trace", "event://{eventId}", "function://{appId}/{functionId}"}
    for uri, text in {
        f"run://{run_id}": '"status":"COMPLETED"',
        f"run://{run_id}/trace": '"rootSpan"',
        "function://shop/two": '"slug":"shop-two"',
    }.items():
        (content,) = (await rpc.result("resources/read", uri=uri))["contents"]
        assert (content["uri"], content["mimeType"]) == (uri, "application/json")
        assert text in content["text"]
    assert {each["name"] for each in (await rpc.result("prompts/list"))["prompts"]} == {"debug_run", "triage_failures"}
    prompt = await rpc.result("prompts/get", name="debug_run", arguments={"runId": run_id})
    assert run_id in prompt["messages"][0]["content"]["text"]


async def test_the_documentation_is_looked_up(rpc: Rpc) -> None:
    pages = (await rpc.call("list_docs"))["structuredContent"]["pages"]
    assert {"path": "steps.md", "title": "Steps"} in pages
    assert (await rpc.call("read_doc", path="steps"))["content"][0]["text"].startswith("# Steps")
    found = (await rpc.call("grep_docs", pattern="Wait_For_Signal", limit=1))["structuredContent"]
    assert len(found["hits"]) == 1 and found["total"] > 1
    assert "wait_for_signal" in found["hits"][0]["text"]
    for path in ("../pyproject.toml", "nothing"):
        assert "list_docs shows them" in (await rpc.call("read_doc", path=path))["content"][0]["text"]


async def test_toolsets_and_read_only_mode(wire: Wire) -> None:
    async def names(rpc: Rpc) -> set[str]:
        return {each["name"] for each in (await rpc.result("tools/list"))["tools"]}

    assert await names(Rpc(wire.http, "/mcp?toolsets=diagnose")) == {"explain_run_failure", "list_stuck_runs"}
    read_only = await names(Rpc(wire.http, "/mcp?readonly=1"))
    assert "list_runs" in read_only and not read_only & {"cancel_run", "send_event", "rerun"}
    headers = Rpc(wire.http, **{"x-mcp-toolsets": "events", "x-mcp-readonly": "true"})
    assert await names(headers) == {"list_events", "get_event"}
    assert (await headers.error("tools/call", name="send_event", arguments={"name": "x"}))["code"] == -32602
    refused = await wire.http.post("/mcp?toolsets=nothing", json={})
    assert (refused.status_code, refused.json()["error"]["message"][:26]) == (400, "there is no toolset nothin")


async def test_other_methods_of_http_are_refused(wire: Wire) -> None:
    for method in ("GET", "DELETE", "PUT"):
        answer = await wire.http.request(method, "/mcp", headers={"accept": "text/event-stream"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_with_keys_agents_show_the_signing_key() -> None:
    key = SigningKey.parse("signkey-test-" + "ab" * 32)
    async with embedded(wire_app(), db=":memory:") as node:
        application = make_app(node, Guard(Keys([EventKey.parse("orders")], [key])))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://perdure") as http:
            assert (await Rpc(http).ask("tools/list")).status_code == 401
            rpc = Rpc(http, authorization=f"Bearer {key.bearer}")
            assert (await rpc.call("health"))["structuredContent"]["data"] == {"status": "ok"}


async def test_tools_may_do_what_the_role_of_the_key_may(wire: Wire) -> None:
    secrets = {role: f"{role.word}-0123456789abcdef" for role in Role}
    api = [ApiKey.parse(f"{role.word}:{secret}") for role, secret in secrets.items()]
    keys = Keys([EventKey.parse("orders")], [SigningKey.parse("ab" * 32)], api)
    run_id = await wire.start("t/wait")
    transport = httpx2.ASGITransport(make_app(wire.node, Guard(keys)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://perdure") as http:
        viewer, operator, admin = (Rpc(http, authorization=f"Bearer {secrets[role]}") for role in Role)
        seen = {each["name"]: each for each in (await viewer.result("tools/list"))["tools"]}
        assert "list_runs" in seen and all(each["annotations"]["readOnlyHint"] for each in seen.values())
        assert (await viewer.error("tools/call", name="cancel_run", arguments={"runId": run_id}))["code"] == -32602
        assert not (await viewer.call("get_run", runId=run_id)).get("isError")
        assert (await viewer.error("tools/call", name="send_event", arguments={"name": "x"}))["code"] == -32602
        assert not (await operator.call("cancel_run", runId=run_id)).get("isError")
        assert {each["name"] for each in (await admin.result("tools/list"))["tools"]} > seen.keys()


async def test_what_a_tool_asks_past_the_guard_is_looked_at(wire: Wire) -> None:
    ask = inside(lambda: make_app(wire.node))
    asker = ASKER.set(Asker(Role.VIEWER))
    try:
        status, body = await ask("POST", "/v2/events", {}, {"name": "x"})
        assert (status, json.loads(body)["error"]) == (
            403, "this asks for the role operator; the key has the role viewer"
        )  # fmt: skip
        assert (await ask("GET", "/v2/health", {}, None))[0] == 200
    finally:
        ASKER.reset(asker)


async def test_without_keys_pages_and_other_names_are_refused() -> None:
    async with embedded(wire_app(), db=":memory:") as node:
        application = make_app(node, Guard(local_only=True))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(application), base_url="http://localhost") as http:
            assert (await Rpc(http).ask("tools/list")).status_code == 200
            for header in ({"host": "rebound.example"}, {"origin": "https://page.example"}):
                assert (await Rpc(http, **header).ask("tools/list")).status_code == 403


async def test_without_the_package_the_server_says_what_to_install(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.server.mcp.door.find_spec", lambda name: None)
    answer = await Rpc(wire.http, "/mcp?toolsets=apps").ask("tools/list")
    assert answer.status_code == 501
    assert "pip install 'perdure[mcp]'" in answer.json()["error"]["message"]


async def test_ids_are_completed(wire: Wire, rpc: Rpc) -> None:
    failed = await wire.start("t/boom")
    await wire.node.drain()
    newest = await wire.start("t/two")

    async def values(name: str, begun: str) -> list[str]:
        ref = {"type": "ref/prompt", "name": "debug_run"}
        found = await rpc.result("completion/complete", ref=ref, argument={"name": name, "value": begun})
        return list(found["completion"]["values"])

    assert await values("runId", failed[:6]) == [failed, newest]
    assert await values("appId", "sh") == ["shop"]
    assert "shop-two" in await values("functionId", "shop-t")
    assert await values("eventId", "zz") == await values("other", "") == []


async def test_whoever_waits_hears_that_time_passes(wire: Wire) -> None:
    rpc = Rpc(wire.http)
    given = {"functionId": "shop-waiter", "timeout": 1}
    answer = await rpc.ask("tools/call", name="invoke_function_sync", arguments=given, meta={"progressToken": "here"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"method":"notifications/progress"' in answer.text.replace(" ", "")
    assert '"message":"RUNNING"' in answer.text.replace(" ", "")
