"""The MCP adapters of capabilities, against a real server and against one that answers from a table."""

from __future__ import annotations

import re

import httpx2
import pytest

from perdure.capability.mcp import CapabilityDoor
from perdure.capability.upstream import Reply, UpstreamError
from perdure.model.json import Json
from tests.support.mcp import LEGACY, MODERN, Rpc
from tests.support.upstreams import FakeUpstream, ServerUpstream, faces, running
from tests.support.wire import Wire

GET_CREW = {"imo_number": 7, "assignedCrew": ["b"], "dimensions": {"length": 12}}


def client(*names: str, upstream: FakeUpstream | ServerUpstream) -> httpx2.AsyncClient:
    found = [
        face
        for name in names
        for face in faces(running(name, upstream, **({} if name == "fleet.yaml" else _given(name))), "mcp")
    ]
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(CapabilityDoor(found)), base_url="http://localhost")


def _given(name: str) -> dict[str, str]:
    return {"EVENTS_TOKEN": "a"} if name == "events-api.yaml" else {"WORKFLOW_SIGNING_KEY": "b"}


def plain(text: str) -> str:
    """An answer without the time at which it was made."""
    return re.sub(r'"fetched_?[aA]t":"[^"]*"', "", text)


@pytest.mark.parametrize("revision", [MODERN, LEGACY[0]])
async def test_all_tools_of_both_documents_answer_as_the_server_does(wire: Wire, revision: str) -> None:
    async with client("events-api.yaml", "workflow.yaml", upstream=ServerUpstream(wire.node)) as http:
        rpc = Rpc(http, revision=revision)
        tools = {each["name"]: each for each in (await rpc.result("tools/list"))["tools"]}
        assert len(tools) == 13
        sent = await rpc.call("sendevents", eventKey="k", body=[{"name": "t/plain"}])
        (event_id,) = sent["structuredContent"]["ids"]
        started = await rpc.call("trigger-workflow", eventKey="k", body={"name": "t/wait"})
        await wire.node.settle()
        run_id = (await wire.http.get(f"/v1/events/{event_id}/runs")).json()["data"][0]["run_id"]
        for name, given, native in [
            ("listevents", {"limit": 1}, "/v1/events?limit=1"),
            ("getevent", {"eventId": event_id}, f"/v1/events/{event_id}"),
            ("listeventruns", {"eventId": event_id}, f"/v1/events/{event_id}/runs"),
            ("getrun", {"runId": run_id}, f"/v1/runs/{run_id}"),
            ("listrunjobs", {"runId": run_id}, f"/v1/runs/{run_id}/jobs"),
            ("listfunctions", {}, "/v1/functions"),
            ("discover-functions", {}, "/v1/functions"),
            ("get-canonical-run", {"runId": run_id}, f"/v2/runs/{run_id}"),
            ("get-run-trace", {"runId": run_id}, f"/v2/runs/{run_id}/trace"),
        ]:
            result = await rpc.call(name, **given)
            answer = await wire.http.get(native)
            assert plain(result["content"][0]["text"]) == plain(answer.text), name
            assert result["structuredContent"].keys() == answer.json().keys()
        waiting = (await wire.http.get(f"/v1/events/{started['structuredContent']['ids'][0]}/runs")).json()
        for name in ("cancel-workflow", "cancelrun"):
            cancelled = await rpc.call(name, runId=waiting["data"][0]["run_id"])
            assert cancelled["structuredContent"]["data"]["status"] == "Cancelled"


async def test_each_adapter_is_served_for_itself_too() -> None:
    async with client("events-api.yaml", "workflow.yaml", upstream=FakeUpstream(lambda request: {})) as http:
        rpc = Rpc(http, "/workflow-mcp", revision=LEGACY[0])
        info = {"name": "t", "version": "1"}
        about = await rpc.result("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        assert (about["serverInfo"]["name"], about["instructions"]) == ("workflow-mcp", "Workflows for agents.")
        assert len((await rpc.result("tools/list"))["tools"]) == 5


async def test_schemas_and_hints_follow_the_document() -> None:
    async with client("events-api.yaml", "workflow.yaml", upstream=FakeUpstream(lambda request: {})) as http:
        tools = {each["name"]: each for each in (await Rpc(http).result("tools/list"))["tools"]}
        skills = (await Rpc(http).result("skills/list"))["skills"]
        assert [each["frontmatter"]["name"] for each in skills] == ["events-api", "durable-workflow"]
    send = tools["sendevents"]
    assert send["inputSchema"]["required"] == ["eventKey"]
    assert set(send["inputSchema"]["properties"]) == {"eventKey", "x-inngest-env", "body"}
    assert send["annotations"] == {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False}
    assert tools["listevents"]["inputSchema"]["required"] == []
    assert tools["trigger-workflow"]["inputSchema"]["required"] == ["eventKey", "body"]
    body = tools["trigger-workflow"]["inputSchema"]["properties"]["body"]
    assert body["anyOf"] == [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]
    assert tools["cancel-workflow"]["annotations"] == {"destructiveHint": True}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Reply(404, {"content-type": "application/json"}, b'{"error":"gone"}'), 'HTTP 404: {"error":"gone"}'),
        (Reply(500, {}, b"oops"), "HTTP 500: oops"),
        (Reply(302, {"location": "/login"}, b""), "HTTP 302: it leads to /login, and redirects are not followed"),
        ({"error": "Unable to load", "data": None, "status": 500}, "HTTP 500: "),
        (UpstreamError("unreachable", "cannot reach http://x"), "upstream_unreachable: events: cannot reach"),
        (Reply(200, {"content-type": "text/html"}, b"<h1>"), "unreadable_answer: getrun: the upstream answered 200"),
    ],
)
async def test_failures_are_told_to_the_agent(answer: Json, text: str) -> None:
    async with client("events-api.yaml", upstream=FakeUpstream(lambda request: answer)) as http:
        result = await Rpc(http).call("getrun", runId="x")
    assert result["isError"] and result["content"][0]["text"].startswith(text)


async def test_wrong_arguments_send_nothing() -> None:
    upstream = FakeUpstream(lambda request: {})
    async with client("events-api.yaml", upstream=upstream) as http:
        rpc = Rpc(http)
        for given in ({}, {"runId": 1}, {"runId": "x", "more": 1}, {"runId": ".."}):
            assert (await rpc.call("getrun", **given))["isError"]
        assert (await rpc.error("tools/call", name="nothing", arguments={}))["code"] == -32602
    assert upstream.requests == []


async def test_flows_mocks_resources_and_prompts() -> None:
    answers: dict[str, Json] = {
        "http://registry.test/api/ships/7": GET_CREW,
        "http://registry.test/api/crew": {"crew": [{"crewId": "b", "fullName": "Bo"}]},
    }

    def answer(request: Json) -> Json:
        return answers.get(request.url, Reply(404, {}, b"none"))

    async with client("fleet.yaml", upstream=FakeUpstream(answer)) as http:
        rpc = Rpc(http)
        tools = {each["name"]: each for each in (await rpc.result("tools/list"))["tools"]}
        assert tools["ship-with-crew"]["annotations"]["readOnlyHint"] is True
        assert set(tools["ship-with-crew"]["outputSchema"]["properties"]) == {"imo", "size", "crew"}
        crew = await rpc.call("ship-with-crew", imo="7")
        assert crew["structuredContent"] == {"imo": "7", "size": {"length": 12}, "crew": [{"fullName": "Bo"}]}
        assert (await rpc.call("mocked", imo="9"))["structuredContent"] == {"imo": "9", "crew": 12}
        (template,) = (await rpc.result("resources/templates/list"))["resourceTemplates"]
        assert template["uriTemplate"] == "ship://{imo}"
        (content,) = (await rpc.result("resources/read", uri="ship://7"))["contents"]
        assert '"imo_number":7' in content["text"]
        assert (await rpc.error("resources/read", uri="ship://8"))["code"] == -32602
        (skill,) = (await rpc.result("skills/list"))["skills"]
        assert (skill["uri"], skill["frontmatter"]["license"]) == ("skill://fleet-ops/SKILL.md", "Apache-2.0")
        (manifest,) = (await rpc.result("resources/read", uri=skill["uri"]))["contents"]
        assert manifest["text"].startswith("---\nname: fleet-ops\n")
        prompt = await rpc.result("prompts/get", name="inspect-ship", arguments={"imo": "7"})
        assert prompt["messages"][0]["content"]["text"] == "Inspect ship 7."


async def test_tools_of_the_same_name_are_told_apart() -> None:
    from perdure.capability.mcp import offering

    (one,) = faces(running("fleet.yaml", FakeUpstream(lambda request: {})), "mcp")
    (two,) = faces(running("fleet.yaml", FakeUpstream(lambda request: {})), "mcp")
    two.exposure.namespace = "other"
    assert [each.name for each in offering([one, two]).tools] == [
        "fleet-tools-ship-with-crew", "fleet-tools-mocked", "other-ship-with-crew", "other-mocked",
    ]  # fmt: skip
