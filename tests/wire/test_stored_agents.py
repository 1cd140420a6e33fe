"""Stored agents over HTTP: made, edited, run in the version that is meant, and how mistakes are answered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from perdure import App, embedded
from perdure.agents import tool
from perdure.agents.signals.signal import parse_message
from perdure.agents.storage import AgentRun, storage_of
from perdure.agents.stored import serve_stored_agents, stored_agents_of
from perdure.engine import reads
from perdure.engine.agents import runs
from perdure.model.json import Json, decode, encode
from perdure.server.agents import make_agents_app
from perdure.testing import ScriptedModel
from tests.support.agents_http import frames_of, kinds
from tests.support.stored_agents import FIRST, MODEL, StoredServer, serving_stored, stored_app

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[StoredServer]:
    async with serving_stored(tmp_path / "desk.db") as started:
        yield started


async def test_a_stored_agent_is_told_as_that_protocol_tells_it(server: StoredServer) -> None:
    assert await server.ask("GET", "") == {"agents": [], "total": 0, "page": 0, "perPage": 100, "hasMore": False}
    made = await server.create()
    version = made["activeVersionId"]
    times = {name: made[name] for name in ("createdAt", "updatedAt")}
    assert made == {
        **FIRST, **times, "status": "published", "activeVersionId": version, "authorId": None, "visibility": "public",
        "description": None, "skillsFormat": None, "resolvedVersionId": version,
    }  # fmt: skip
    assert await server.ask("GET", "/my-stored") == await server.ask("GET", "/my-stored?status=draft") == made
    assert (await server.ask("GET", ""))["agents"] == [made]
    found = await server.get("agents/my-stored")
    assert (found["source"], found["status"], found["modelId"]) == ("stored", "published", "acme/mock-model")
    assert found["defaultOptions"] == {"modelSettings": {}}
    listed = (await server.get("agents"))["my-stored"]
    assert listed["activeVersionId"] == version and listed["hasDraft"] is False


async def test_mistakes_in_a_new_agent_are_answered(server: StoredServer) -> None:
    await server.create()
    taken = await server.ask("POST", "", FIRST, 409)
    assert taken == {"error": "Agent with id my-stored already exists"}
    for fault in (
        {"name": None},
        {"instructions": 5},
        {"model": None},
        {"id": "no good"},
        {"id": "tasks"},
        {"tools": 1},
    ):
        body = {key: value for key, value in {**FIRST, "id": "x", **fault}.items() if value is not None}
        refused = await server.ask("POST", "", body, 400)
        assert refused["error"] == "Invalid request body" and refused["issues"][0]["field"] == next(iter(fault))
    recall = {"options": {"semanticRecall": True}}
    refused = await server.ask("POST", "", {**FIRST, "id": "x", "memory": recall}, 400)
    assert refused["error"] == "Semantic recall requires both vector and embedder to be configured"
    refused = await server.ask("POST", "", {**FIRST, "id": "x", "defaultOptions": {"toolChoice": 5}}, 400)
    assert "tool_choice" in refused["error"]
    response = await server.http.post("/api/stored/agents", content=b"{nope")
    assert response.status_code == 400 and response.json()["issues"][0]["field"] == "body"


async def test_an_agent_without_an_id_gets_one_of_its_name(server: StoredServer) -> None:
    body = {key: value for key, value in FIRST.items() if key != "id"}
    made = await server.ask("POST", "", {**body, "name": "Slug Me Please!", "autoPublish": False})
    assert (made["id"], made["status"], made["activeVersionId"]) == ("slug-me-please", "draft", None)
    # Nothing is in force: its newest version is the one that runs.
    assert (await server.get("agents/slug-me-please"))["status"] == "draft"
    assert await server.system("slug-me-please") == FIRST["instructions"]


async def test_agents_are_listed_by_page_order_and_kind(server: StoredServer) -> None:
    for place, id in enumerate(("a", "b", "c")):
        await server.create(id=id, autoPublish=id != "b", authorId=f"u{place % 2}", metadata={"n": place})

    async def ids(query: str) -> list[str]:
        return [each["id"] for each in (await server.ask("GET", f"?{query}"))["agents"]]

    assert (
        set(await ids("")) == {"a", "c"} and await ids("status=draft") == ["b"] and await ids("status=archived") == []
    )
    assert await ids("authorId=u1&status=draft") == ["b"] and await ids('metadata={"n":2}') == ["c"]
    await server.edit("a", metadata={"x": 1})
    assert await ids("orderBy[field]=updatedAt&orderBy[direction]=DESC") == ["a", "c"]
    page = await server.ask("GET", "?page=1&perPage=1")
    assert (len(page["agents"]), page["total"], page["page"], page["perPage"], page["hasMore"]) == (1, 2, 1, 1, False)
    assert (await server.ask("GET", "?perPage=0"))["agents"] == []
    for query in ("perPage=-1", "page=x", "status=lost", "orderBy[field]=name", "metadata=[", "visibility=private"):
        assert (await server.ask("GET", f"?{query}", status=400))["error"] == "Invalid query parameters"


async def test_an_edit_is_a_draft_until_it_is_published(server: StoredServer) -> None:
    made = await server.create()
    edited = await server.edit(instructions="Be brief.", tools={"weather": {"description": "Skies"}, "nope": {}})
    assert edited["activeVersionId"] == made["activeVersionId"] != edited["resolvedVersionId"]
    assert edited["instructions"] == "Be brief." and edited["metadata"] == {}
    assert [(each["field"], each["key"]) for each in edited["warnings"]] == [("tools", "nope")]
    assert await server.system() == FIRST["instructions"]
    assert (await server.get("agents"))["my-stored"]["hasDraft"] is True
    shown = await server.get("agents/my-stored?status=draft")
    assert shown["instructions"] == "Be brief." and shown["tools"]["weather"]["description"] == "Skies"
    published = await server.edit(description="d", changeMessage="mine", autoPublish=True)
    assert published["activeVersionId"] == published["resolvedVersionId"]
    assert await server.system() == "Be brief."
    result = await server.post("my-stored/generate", {"messages": '!tool weather {"city":"Oslo"}'})
    assert "Oslo" in result["text"]
    assert (await server.get("agents/my-stored/tools/weather"))["description"] == "Skies"
    await server.get(f"agents/my-stored/tools/weather?versionId={made['activeVersionId']}", 404)


async def test_an_edit_that_changes_nothing_makes_no_version(server: StoredServer) -> None:
    await server.create(memory={"options": {"lastMessages": 5}})
    await server.edit(name=FIRST["name"], metadata={"a": 1})
    assert (await server.ask("GET", "/my-stored/versions"))["total"] == 1
    cleared = await server.edit(memory=None, metadata={"b": 2})
    assert "memory" not in cleared and cleared["metadata"] == {"a": 1, "b": 2}
    (latest, _) = (await server.ask("GET", "/my-stored/versions"))["versions"]
    assert latest["changedFields"] == ["memory"] and latest["changeMessage"] == "Auto-saved after edit"
    refused = await server.ask("PATCH", "/my-stored", {"description": None}, 400)
    issue = {"field": "description", "message": "Invalid input: expected string, received null"}
    assert refused == {"error": "Invalid request body", "issues": [issue]}
    await server.ask("PATCH", "/my-stored", {"changeMessage": "x" * 501, "name": "y"}, 400)
    messages: list[Json] = [False, [], 0, "x" * 501]
    for message in messages:
        await server.ask("POST", "/my-stored/versions", {"changeMessage": message}, 400)
    missing = await server.ask("PATCH", "/nope", {"name": "x"}, 404)
    assert missing == {"error": "Stored agent with id nope not found"}


async def test_versions_are_listed_compared_restored_and_deleted(server: StoredServer) -> None:
    first = (await server.create())["activeVersionId"]
    await server.edit(name="Second", tools={"weather": {}})
    listed = await server.ask("GET", "/my-stored/versions")
    assert listed["versions"] == listed["items"] and [each["versionNumber"] for each in listed["versions"]] == [2, 1]
    assert {key: listed[key] for key in ("total", "page", "perPage", "hasMore")} == {
        "total": 2, "page": 0, "perPage": 20, "hasMore": False,
    }  # fmt: skip
    asc = await server.ask("GET", "/my-stored/versions?orderBy[field]=createdAt&orderBy[direction]=ASC&perPage=1")
    assert [each["id"] for each in asc["versions"]] == [first] and asc["hasMore"]
    second = listed["versions"][0]["id"]
    told = await server.ask("GET", f"/my-stored/versions/compare?from={first}&to={second}")
    assert (
        told["diffs"]
        == told["changes"]
        == [
            {"field": "name", "previousValue": "My Assistant", "currentValue": "Second"},
            {"field": "tools", "currentValue": {"weather": {}}},
        ]
    )
    assert (told["fromVersion"]["versionNumber"], told["toVersion"]["versionNumber"]) == (1, 2)
    taken = await server.ask("POST", "/my-stored/versions", {"changeMessage": "kept"})
    # What is in force, and how it differs from the newest.
    assert (taken["versionNumber"], taken["name"], taken["changedFields"]) == (3, "My Assistant", ["name", "tools"])
    done = await server.ask("POST", f"/my-stored/versions/{second}/activate")
    assert done == {"success": True, "message": "Version 2 is now active", "activeVersionId": second}
    back = await server.ask("POST", f"/my-stored/versions/{first}/restore")
    assert (back["versionNumber"], back["changeMessage"]) == (4, "Restored from version 1")
    refused = await server.ask("DELETE", f"/my-stored/versions/{second}", status=400)
    assert refused["error"] == "Cannot delete the active version. Activate a different version first."
    gone = await server.ask("DELETE", f"/my-stored/versions/{first}")
    assert gone == {"success": True, "message": "Version 1 deleted successfully"}


async def test_versions_that_there_are_not_are_not_found(server: StoredServer) -> None:
    version = (await server.create())["activeVersionId"]
    await server.create(id="other")
    for method, path in (
        ("GET", "nope"), ("POST", "nope/activate"), ("POST", "nope/restore"), ("DELETE", "nope"),
        ("GET", f"compare?from={version}&to=nope"),
    ):  # fmt: skip
        found = await server.ask(method, f"/my-stored/versions/{path}", status=404)
        assert found == {"error": "Version with id nope not found"}
    found = await server.ask("GET", f"/other/versions/{version}", status=404)
    assert found == {"error": f"Version with id {version} not found for agent other"}
    await server.ask("GET", "/my-stored/versions/compare", status=400)
    for method, path in (("GET", "/nope/versions"), ("POST", "/nope/versions")):
        body: Json = {} if method == "POST" else None
        assert await server.ask(method, path, body, 404) == {"error": "Agent with id nope not found"}
    assert (await server.get("agents/my-stored?versionId=nope", 404))["error"] == "Version with id nope not found"


async def test_a_run_has_the_version_that_its_request_names(server: StoredServer) -> None:
    first = (await server.create())["activeVersionId"]
    draft = (await server.edit(instructions="Draft."))["resolvedVersionId"]
    assert await server.system(requestContext={"agentVersionId": draft}) == "Draft."
    await server.ask("POST", f"/my-stored/versions/{draft}/activate")
    assert await server.system(requestContext={"agentVersionId": first}) == FIRST["instructions"]
    # A version that there is not changes nothing.
    assert await server.system(requestContext={"agentVersionId": "nope"}) == "Draft."


async def test_what_is_conditional_follows_the_request(server: StoredServer) -> None:
    pro = {"operator": "AND", "conditions": [{"field": "user.plan", "operator": "equals", "value": "pro"}]}
    blocks = [
        {"type": "text", "content": "Hello {{user.name || 'you'}}."},
        {"type": "prompt_block", "content": "Sell nothing.", "rules": pro},
    ]
    tools = [{"value": {"weather": {}}}, {"value": {"findUser": {}}, "rules": pro}]
    model = [{"value": MODEL}, {"value": {"provider": "mock", "name": "other"}, "rules": pro}]
    await server.create(instructions=blocks, tools=tools, model=model)
    assert await server.system() == "Hello you."
    context = {"user": {"name": "Ada", "plan": "pro"}}
    assert await server.system(requestContext=context) == "Hello Ada.\n\nSell nothing."
    result = await server.post("my-stored/generate", {"messages": "hi", "requestContext": context})
    assert result["response"]["modelId"] == "other"
    shown = await server.get("agents/my-stored?requestContext=eyJ1c2VyIjp7InBsYW4iOiJwcm8ifX0=")
    assert set(shown["tools"]) == {"weather", "findUser"} and shown["modelId"] == "other"
    assert set((await server.get("agents/my-stored"))["tools"]) == {"weather"}


async def test_an_agent_of_all_parts_runs(server: StoredServer) -> None:
    await server.create(id="writer", name="Writer", instructions="Write.", description="Writes")
    await server.create(
        tools={"weather": {}}, workflows={"upper-wf": {}}, agents={"writer": {}, "my-agent": {}},
        memory={"options": {"lastMessages": 10}}, scorers={"brief": {"sampling": {"type": "ratio", "rate": 1}}},
        defaultOptions={"maxSteps": 7}, metadata={"team": "a"},
    )  # fmt: skip
    shown = await server.get("agents/my-stored")
    assert shown["agents"]["writer"] == {"id": "writer", "name": "Writer"} and "my-agent" in shown["agents"]
    assert list(shown["workflows"]) == ["upper-wf"] and shown["metadata"] == {"team": "a"}
    assert shown["defaultOptions"]["maxSteps"] == 7
    memory = {"thread": "t1", "resource": "ada"}
    first = await server.post("my-stored/generate", {"messages": "one", "memory": memory})
    assert first["text"] == "Echo: one"
    frames = await server.stream(
        "my-stored/stream", {"messages": '!tool agent-writer {"prompt":"hi"}', "memory": memory}
    )
    results = [each["payload"]["result"] for each in frames if each["type"] == "tool-result"]
    assert results[0]["text"] == "Echo: hi"
    found = await server.get("memory/threads/t1/messages?agentId=my-stored")
    assert [each["role"] for each in found["messages"]] == ["user", "assistant"] * 2
    dependents = await server.ask("GET", "/writer/dependents")
    assert dependents == {"dependents": [{"id": "my-stored", "name": "My Assistant"}], "hiddenCount": 0}


async def test_a_durable_run_keeps_its_version_whatever_becomes_of_the_agent(tmp_path: Path) -> None:
    async with serving_stored(tmp_path / "desk.db") as server:
        await server.create(tools={"deleteThing": {}})
        frames = await server.post("my-stored/generate", {"messages": '!tool deleteThing {"thing":"a"}', "runId": "r1"})
        assert frames["finishReason"] == "suspended"
        await server.edit(tools={}, instructions="Other.", autoPublish=True)
    async with serving_stored(tmp_path / "desk.db") as server:
        assert (await server.get("agents/my-stored/suspended-runs"))["runs"][0]["runId"] == "r1"
        answer = {"runId": "r1", "toolCallId": "call_1"}
        result = await server.post("my-stored/approve-tool-call-generate", answer)
        assert "deleted" in result["text"]


async def test_a_run_outlives_its_agent(server: StoredServer) -> None:
    await server.create(tools={"deleteThing": {}})
    await server.post("my-stored/generate", {"messages": '!tool deleteThing {"thing":"a"}', "runId": "r1"})
    await server.ask("DELETE", "/my-stored")
    await server.post("my-stored/approve-tool-call-generate", {"runId": "r1", "toolCallId": "call_1"}, 404)
    # Whoever makes it anew answers its questions.
    await server.create(instructions="New.")
    result = await server.post("my-stored/approve-tool-call-generate", {"runId": "r1", "toolCallId": "call_1"})
    assert "deleted" in result["text"]


async def test_a_stored_agent_may_be_plain(server: StoredServer) -> None:
    await server.create(durable=False, tools={"deleteThing": {}}, memory={"options": {"lastMessages": 4}})
    refused = await server.post("my-stored/observe", {"runId": "x"}, 400)
    assert "Only durable agents" in refused["error"]
    memory = {"thread": "t", "resource": "u"}
    asked = await server.post("my-stored/generate", {"messages": '!tool deleteThing {"thing":"a"}', "memory": memory})
    await server.edit(instructions="Other.", autoPublish=True)
    assert (await server.get("agents/my-stored/suspended-runs"))["total"] == 1
    answer = {"runId": asked["runId"], "toolCallId": "call_1"}
    assert "deleted" in (await server.post("my-stored/approve-tool-call-generate", answer))["text"]
    assert await server.system() == "Other."


@pytest.mark.parametrize(
    ("agent", "told"), [("my-agent", "You are a helpful assistant."), ("durable-agent", "!prompt")]
)
async def test_an_agent_in_code_is_laid_over(server: StoredServer, agent: str, told: str) -> None:
    assert (await server.ask("GET", f"/{agent}/versions"))["versions"] == []
    made = await server.ask("POST", f"/{agent}/versions", {"changeMessage": "tone"})
    assert (made["versionNumber"], made["changeMessage"], made["agentId"]) == (1, "tone", agent)
    # The first version is a draft of what the code says, which counts until a version is in force.
    code = await server.get(f"agents/{agent}")
    assert code["source"] == "code" and "status" not in code
    edited = await server.edit(agent, instructions="Laid over {{who}}.", tools={"weather": {"description": "Skies"}})
    assert edited["status"] == "draft" and await server.system(agent) == told
    version = edited["resolvedVersionId"]
    context = {"agentVersionId": version, "who": "Ada"}
    assert await server.system(agent, requestContext=context) == "Laid over Ada."
    await server.ask("POST", f"/{agent}/versions/{version}/activate")
    shown = await server.get(f"agents/{agent}")
    assert shown["instructions"] == "Laid over {{who}}." and shown["name"] == code["name"]
    assert shown["tools"]["weather"]["description"] == "Skies" and "findUser" in shown["tools"]
    assert await server.system(agent, requestContext={"who": "Bob"}) == "Laid over Bob."
    asked = await server.post(f"{agent}/generate", {"messages": '!tool deleteThing {"thing":"a"}'})
    await server.ask("DELETE", f"/{agent}")
    answer = {"runId": asked["runId"], "toolCallId": "call_1"}
    assert "deleted" in (await server.post(f"{agent}/approve-tool-call-generate", answer))["text"]
    assert await server.system(agent) == told
    assert await server.get(f"agents/{agent}") == code


async def test_versions_of_agents_below_are_chosen(server: StoredServer) -> None:
    await server.create(id="writer", name="Writer", instructions="Published.")
    await server.edit("writer", instructions="Draft.")
    await server.create(agents={"writer": {}})
    said = '!tool agent-writer {"prompt":"!prompt"}'
    for versions, expected in (({}, "Published."), ({"agents": {"writer": {"status": "draft"}}}, "Draft.")):
        frames = await server.stream("my-stored/stream", {"messages": said, "versions": versions})
        (result,) = [each["payload"]["result"]["text"] for each in frames if each["type"] == "tool-result"]
        assert decode(result)[0]["text"] == expected


async def test_archived_agents_are_not_offered(server: StoredServer) -> None:
    await server.create()
    assert (await server.edit(status="archived"))["status"] == "archived"
    await server.get("agents/my-stored", 404)
    assert "my-stored" not in await server.get("agents")
    assert [each["id"] for each in (await server.ask("GET", "?status=archived"))["agents"]] == ["my-stored"]
    await server.edit(status="published")
    assert await server.system() == FIRST["instructions"]


async def test_agents_are_cloned_as_drafts(server: StoredServer) -> None:
    made = await server.post("my-agent/clone", {})
    assert (made["id"], made["name"], made["status"]) == ("my-agent-clone", "My Agent (Clone)", "draft")
    assert made["model"] == {"provider": "test", "name": "scripted"} and "weather" in made["tools"]
    assert (await server.post("my-agent/clone", {}, 409))["error"] == "Agent with id my-agent-clone already exists"
    await server.create(tools={"weather": {}})
    named: Json = {"newId": "copy", "newName": "Copy", "metadata": {"from": 1}, "authorId": "ada"}
    copied = await server.post("my-stored/clone", named)
    assert (copied["id"], copied["name"], copied["authorId"], copied["metadata"]) == (
        "copy",
        "Copy",
        "ada",
        {"from": 1},
    )
    assert copied["tools"] == {"weather": {}} and copied["model"] == MODEL
    assert (
        "Oslo" in (await server.post("my-agent-clone/generate", {"messages": '!tool weather {"city":"Oslo"}'}))["text"]
    )
    await server.post("nope/clone", {}, 404)
    await server.post("my-agent/clone", {"newId": 5}, 400)


async def test_a_configuration_is_exported_as_a_file(server: StoredServer) -> None:
    await server.create(tools={"weather": {}})
    told = await server.ask("POST", "/my-stored/export", {"description": "d"})
    assert (told["agentId"], told["fileName"]) == ("my-stored", "my-stored.json")
    assert decode(told["content"]) == told["config"] and told["config"]["description"] == "d"
    assert set((await server.ask("POST", "/my-agent/export", {}))["config"]) == {"instructions", "tools"}
    await server.ask("POST", "/nope/export", {}, 404)


@pytest.mark.parametrize("agent", ["plain-agent", "durable-agent", "my-stored"])
async def test_another_model_answers_until_it_is_reset(server: StoredServer, agent: str) -> None:
    await server.create()
    before = (await server.get(f"agents/{agent}"))["modelId"]
    told = await server.post(f"{agent}/model", {"provider": "mock", "modelId": "other"})
    assert told == {"message": "Agent model updated"}
    assert (await server.get(f"agents/{agent}"))["modelId"] == "other"
    assert (await server.post(f"{agent}/generate", {"messages": "hi"}))["response"]["modelId"] == "other"
    assert await server.post(f"{agent}/model/reset", {}) == {"message": "Agent model reset to original"}
    assert (await server.get(f"agents/{agent}"))["modelId"] == before
    await server.post(f"{agent}/model", {"provider": "mock"}, 400)
    await server.post("nope/model", {"provider": "mock", "modelId": "x"}, 404)
    await server.post(f"{agent}/models/reorder", {"reorderedModelIds": []}, 400)


async def test_providers_are_told_of(server: StoredServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    found = {each["id"]: each for each in (await server.get("agents/providers"))["providers"]}
    assert found["openai"]["connected"] is True and found["openai"]["envVar"] == "OPENAI_API_KEY"
    assert found["groq"]["connected"] is False and found["ollama"]["connected"] is True
    assert isinstance(found["openai"]["models"], list)


async def test_an_edit_on_one_node_counts_on_the_other(server: StoredServer) -> None:
    """Two doors to one store: each looks before it answers."""
    await server.create()
    assert kinds(await server.stream("my-stored/stream", {"messages": "hi"})).endswith("finish")
    transport = httpx2.ASGITransport(make_agents_app(server.node))
    async with httpx2.AsyncClient(transport=transport, base_url="http://other") as other:
        assert (await other.get("/api/agents/my-stored")).json()["name"] == "My Assistant"
        listed = (await other.get("/api/agents")).json()
        await server.edit(name="Renamed", autoPublish=True)
        await server.create(id="later")
        assert (await other.get("/api/agents/my-stored")).json()["name"] == "Renamed"
        assert set((await other.get("/api/agents")).json()) - set(listed) == {"later"}
        await server.ask("DELETE", "/later")
        assert "later" not in (await other.get("/api/agents")).json()


async def test_a_background_task_is_one_of_the_version_that_began_it(server: StoredServer) -> None:
    await server.create(tools={"research": {}})
    memory = {"thread": "t", "resource": "u"}
    ask = {"messages": '!tool research {"topic":"birds"}', "memory": memory, "runId": "r1"}
    frames = await server.stream("my-stored/stream-until-idle", ask)
    assert "background-task-started" in kinds(frames) and "background-task-completed" in kinds(frames)
    (task,) = (await server.get("background-tasks?agentId=my-stored"))["tasks"]
    assert (task["status"], task["runId"]) == ("completed", "r1")


async def test_a_question_of_an_agent_below_is_answered_in_the_version_that_asked(server: StoredServer) -> None:
    await server.create(id="clerk", name="Clerk", tools={"deleteThing": {}})
    await server.create(agents={"clerk": {}})
    prompt = encode({"prompt": '!tool deleteThing {"thing":"a"}'}).decode()
    asked = await server.post("my-stored/generate", {"messages": f"!tool agent-clerk {prompt}", "runId": "r1"})
    assert asked["finishReason"] == "suspended"
    await server.edit("clerk", tools={}, autoPublish=True)
    await server.edit(agents={}, autoPublish=True)
    answer = {"runId": "r1", "toolCallId": asked["suspendPayload"]["toolCallId"]}
    result = await server.post("my-stored/approve-tool-call-generate", answer)
    assert "deleted" in result["text"] and result["finishReason"] == "stop"


async def test_signals_wake_stored_agents(server: StoredServer) -> None:
    await server.create(memory={"options": {"lastMessages": 5}}, instructions="Told {{who || 'nobody'}}.")
    where: Json = {"resourceId": "u", "threadId": "t"}
    sent = await server.post("my-stored/send-message", {"message": "hello", **where})
    frames = await server.http.get(f"/api/agents/my-stored/runs/{sent['runId']}/stream")
    assert kinds(frames_of(frames.text)).endswith("finish")


@pytest.mark.parametrize("agent", ["my-stored", "durable-agent"])
async def test_what_a_run_did_not_take_in_begins_one_of_the_agent_as_it_is_then(
    server: StoredServer, agent: str
) -> None:
    await server.create(id=agent, memory={"options": {"lastMessages": 0}})
    app = server.node.apps[0]
    storage = storage_of(server.node)
    # As a crash leaves it: the run has failed, with a message that it never took in.
    signal = parse_message("!prompt", ids=storage.ids, now=storage.now())
    await storage.put_run(AgentRun("r1", agent, "1", "", thread_id="t", resource_id="u"))
    await storage.put_signal("r1", signal.id, signal.to_json())
    await storage.set_run_status("r1", "failed")
    await server.edit(agent, instructions="As it is now.", autoPublish=True)
    host = app.agents[agent] if agent in app.agents else serve_stored_agents(app).host
    await host._pass_on("r1")
    run = f"/api/agents/{agent}/runs/signal-{signal.id}/stream"
    said = frames_of((await server.http.get(run)).text)
    texts = "".join(each["payload"]["text"] for each in said if each["type"] == "text-delta")
    assert decode(texts)[0]["text"] == "As it is now."


async def test_an_agent_is_of_the_app_that_has_its_parts(tmp_path: Path) -> None:
    other = App("shop")

    @tool
    def price(item: str) -> str:
        """Tells a price."""
        return f"{item}: 5"

    other.add_tool(price)
    other.add_model("shop/model", ScriptedModel(name="shop/model"))
    async with embedded([stored_app(), other], db=tmp_path / "two.db") as node:
        transport = httpx2.ASGITransport(node.asgi())
        async with httpx2.AsyncClient(transport=transport, base_url="http://perdure", timeout=20) as http:
            server = StoredServer(node, http)
            await server.create(model={"provider": "shop", "name": "model"}, tools={"price": {}})
            result = await server.post("my-stored/generate", {"messages": '!tool price {"item":"tea"}', "runId": "r1"})
            assert "tea: 5" in result["text"]
            run = await node.view(lambda: runs.run_by_id("r1"))
            assert run is not None and run.engine_run_id is not None
            engine_run = await node.view(lambda: reads.run_by_id(run.engine_run_id or ""))
            assert engine_run is not None and engine_run.function_id == "shop-agent-stored-agents"


async def test_an_edit_in_python_counts_too(server: StoredServer) -> None:
    await server.create()
    stored = stored_agents_of(server.node)
    await stored.edit("my-stored", {"instructions": "From Python."}, publish=True)
    assert await server.system() == "From Python."


async def test_a_stored_agent_carries_out_networks(server: StoredServer) -> None:
    await server.create(id="writer", name="Writer", instructions="Write.", description="Writes")
    await server.create(agents={"writer": {}}, memory={"options": {"lastMessages": 10}})
    frames = await server.stream("my-stored/network", {"messages": "!net agent:writer a poem"})
    assert "agent-execution-end" in kinds(frames) and frames[-1]["type"] == "network-execution-event-finish"
