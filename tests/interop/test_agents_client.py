"""The published client of the agents protocol on a server of agents: it sees the fields and the order that it should.

`agents/client.mjs` calls every method that is served; `agents/expected.json` has what a server of that protocol
answers: field names, kinds of chunks in order, and errors. Ids and times are not compared.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure import embedded
from perdure.model.json import Json, decode
from tests.support.agents_http import agents_app, kinds
from tests.support.hosting import asgi_server
from tests.support.mcp_packages import install, node
from tests.support.sdk_apps import NotInstalled

FOLDER = Path(__file__).parent / "agents"
EXPECTED: Json = decode((FOLDER / "expected.json").read_bytes())
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def client() -> None:
    try:
        install(FOLDER)
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the client: {error}")


@pytest.fixture
async def url(client: None, tmp_path: Path) -> AsyncGenerator[str]:
    async with embedded(agents_app(), db=tmp_path / "agents.db") as engine, asgi_server(engine.asgi()) as found:
        yield found


async def seen(url: str, scenario: str) -> Json:
    """What the client saw."""
    code, printed, told = await node("client.mjs", url, scenario, folder=FOLDER)
    assert code == 0, told
    return decode(printed)


def failures(found: Json) -> list[Json]:
    """Statuses and texts of errors."""
    return [[each["status"], each["body"]["error"]] for each in found["failures"]]


async def test_agents_and_tools_are_told_of(url: str) -> None:
    found, expected = await seen(url, "discovery"), EXPECTED["discovery"]
    assert sorted(found["details"]) == expected["agent"]
    assert sorted(found["list"]["my-agent"]) == sorted([*expected["agent"], "hasDraft", "id"])
    assert sorted(found["tool"]) == expected["tool"]
    assert "inputSchema" not in found["partial"]["my-agent"]["tools"]["weather"]
    assert found["executed"] == {"city": "Paris", "temperature": 21} and found["refused"]["error"] is True
    assert failures(found) == expected["failures"]


async def test_results_have_the_shape_that_clients_know(url: str) -> None:
    found, expected = await seen(url, "generate"), EXPECTED["generate"]
    for name in ("text", "tool", "first", "durable"):
        assert sorted(found[name]) == expected["result"], name
    for step in found["tool"]["steps"]:
        assert sorted(step) == expected["step"] and sorted(step["response"]) == expected["response"]
    assert found["tool"]["steps"][1]["text"] == found["tool"]["text"]
    assert found["object"]["object"] == {"name": "Ada", "age": 36}
    assert [each["role"] for each in found["second"]["rememberedMessages"]] == ["user", "assistant"]
    assert found["durable"]["runId"] == "dur-1"
    assert failures(found) == expected["failures"]


async def test_streams_have_their_chunks_in_order(url: str) -> None:
    found = await seen(url, "stream")
    for name, order in EXPECTED["stream"].items():
        assert kinds(found[name]) == order, name
    assert failures(found) == [[404, "Agent with id nope not found"]]


async def test_questions_are_answered(url: str) -> None:
    found = await seen(url, "approval")
    for name, order in EXPECTED["approval"].items():
        assert kinds(found[name]) == order, name
    assert found["listed"]["total"] == 1 and found["suspended"]["finishReason"] == "suspended"
    assert found["generated"]["toolResults"][0]["payload"]["result"] == {"deleted": "b"}
    # A client tries a 5xx again; nothing of this would be better then.
    assert [found[name]["status"] for name in ("wrong", "twice", "unknown")] == [404, 410, 404]


async def test_the_client_carries_its_own_tools_out(url: str) -> None:
    found = await seen(url, "clientTools")
    for name, order in EXPECTED["clientTools"].items():
        assert kinds(found[name]) == order, name
    assert found["colors"] == ["red", "green", "blue", "grey", "pink", "black"]
    assert '"success":true' in found["generated"]["text"]
    assert "Rome" in found["mixed"][-1]["payload"]["output"]["text"]


async def test_durable_runs_are_read_again(url: str) -> None:
    found, expected = await seen(url, "durable"), EXPECTED["durable"]
    assert kinds(found["whole"]) == kinds(found["recovered"]) == expected["whole"]
    assert kinds(found["approved"]) == expected["approved"]
    assert [each["data"]["type"] for each in found["observed"]] == [each["type"] for each in found["whole"]]
    assert found["rest"][0] == {**found["observed"][3], "createdAt": found["rest"][0]["createdAt"]}
    assert found["refused"]["status"] == 400


async def test_networks_are_streamed(url: str) -> None:
    found = await seen(url, "network")
    for name, order in EXPECTED["network"].items():
        assert kinds(found[name]) == order, name
    assert found["refused"]["status"] == 400


async def test_threads_are_kept(url: str) -> None:
    found, expected = await seen(url, "memory"), EXPECTED["memory"]
    assert sorted(found["created"]) == expected["created"]
    for thread in (found["listed"]["threads"][0], found["updated"], found["got"]):
        assert sorted(thread) == expected["thread"]
    assert sorted(found["messages"]) == expected["messages"] and found["messages"]["total"] == 2
    assert [each["role"] for each in found["last"]["messages"]] == ["assistant"] and found["last"]["hasMore"]
    assert sorted(found["cloned"]) == expected["cloned"] and len(found["cloned"]["messageIdMap"]) == 2
    assert found["saved"]["messages"][0]["id"] == "s1" and found["forgotten"]["success"]
    assert found["notes"]["workingMemory"] == "# Name: Bob" and found["gone"] == {"result": "Thread deleted"}
    assert found["status"] == [{"result": True, "memoryType": "local"}, {"result": False}]
    assert failures(found) == expected["failures"]
