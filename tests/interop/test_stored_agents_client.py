"""The published client of the agents protocol edits agents: every method of stored agents, versions and models.

`agents/stored.mjs` calls them; what a server of that protocol answers is here as field names, texts and statuses. Where
that server is known to be wrong (it tells fields as changed that are not, and makes versions of nothing), perdure's
answers are the right ones.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

import pytest

from perdure import embedded
from perdure.agents import Agent
from perdure.model.json import Json, decode
from perdure.testing import ScriptedModel
from tests.support.hosting import asgi_server
from tests.support.mcp_packages import install, node
from tests.support.sdk_apps import NotInstalled
from tests.support.stored_agents import stored_app

FOLDER: Final = Path(__file__).parent / "agents"
pytestmark = pytest.mark.timeout(120)


def names(text: str) -> set[str]:
    """The names of fields in a text."""
    return set(text.split())


RECORD: Final = names(
    """id status activeVersionId authorId visibility createdAt updatedAt name description instructions model
    skillsFormat resolvedVersionId"""
)
VERSION: Final = names(
    """id agentId versionNumber name description instructions model skillsFormat changedFields changeMessage
    createdAt"""
)
PAGE: Final = {"total", "page", "perPage", "hasMore"}
DIFF: Final = {"field", "previousValue", "currentValue"}
AGENT: Final = names(
    """name description metadata instructions tools agents workflows skills workspaceTools browserTools hasBrowser
    inputProcessors outputProcessors provider modelId modelVersion supportsMemory defaultOptions
    defaultGenerateOptionsLegacy defaultStreamOptionsLegacy source status"""
)
FIRST_FIELDS: Final = names(
    """name description instructions model tools defaultOptions workflows agents integrationTools toolProviders
    mcpClients inputProcessors outputProcessors memory scorers skills workspace browser requestContextSchema"""
)


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
    app = stored_app()
    listed = [{"id": name, "model": ScriptedModel(name=f"mock/{name}")} for name in ("one", "two")]
    app.add_agent(Agent("many-agent", model=listed))
    async with embedded(app, db=tmp_path / "agents.db") as engine, asgi_server(engine.asgi()) as found:
        yield found


async def seen(url: str, scenario: str) -> Json:
    """What the client saw."""
    code, printed, told = await node("stored.mjs", url, scenario, folder=FOLDER)
    assert code == 0, told
    return decode(printed)


async def test_stored_agents_are_made_edited_and_deleted(url: str) -> None:
    found = await seen(url, "agents")
    assert found["empty"] == {"agents": [], "total": 0, "page": 0, "perPage": 100, "hasMore": False}
    assert set(found["created"]) == RECORD and found["created"]["status"] == "published"
    assert (found["draft"]["id"], found["draft"]["activeVersionId"]) == ("slug-me-please", None)
    parts = {"tools", "workflows", "agents", "memory", "scorers", "defaultOptions", "metadata"}
    assert set(found["made"]) == RECORD | parts
    assert set(found["updated"]) == RECORD | {"tools", "metadata"} and found["updated"]["metadata"] == {}
    assert found["updated"]["activeVersionId"] == found["created"]["activeVersionId"]
    assert found["noted"]["resolvedVersionId"] == found["updated"]["resolvedVersionId"]
    assert found["published"]["activeVersionId"] == found["published"]["resolvedVersionId"]
    assert found["details"] == found["asDraft"] == found["published"]
    assert set(found["listed"]) == {"agents", *PAGE} and found["listed"]["agents"][0]["id"] == "my-stored"
    assert found["listed"]["hasMore"] is True and found["drafts"]["agents"][0]["id"] == "slug-me-please"
    assert [each["id"] for each in found["byMetadata"]["agents"]] == ["full-agent"]
    assert found["dependents"] == {"dependents": [], "hiddenCount": 0}
    assert set(found["exported"]) == {"agentId", "fileName", "content", "config"}
    assert found["all"][-3:] == ["my-stored", "slug-me-please", "full-agent"]
    assert set(found["agent"]) == AGENT and found["agent"]["tools"]["findUser"]["description"] == "override desc"
    assert found["agent"]["defaultOptions"] == {"maxSteps": 10, "modelSettings": {}}
    assert "Paris" in found["ran"]["text"]
    check_mistakes(found)


def check_mistakes(found: Json) -> None:
    """How mistakes about stored agents are answered."""
    assert found["failures"] == [
        [409, "Agent with id my-stored already exists"],
        [400, "Invalid request body"],
        [400, "Invalid request body"],
        [400, "Semantic recall requires both vector and embedder to be configured"],
        [404, "Stored agent with id nope not found"],
        [404, "Stored agent with id nope not found"],
        [400, "Invalid request body"],
        [400, "Invalid query parameters"],
    ]
    assert found["deleted"] == {"success": True, "message": "Agent my-stored deleted successfully"}
    assert found["gone"] == [
        [404, "Stored agent with id my-stored not found"],
        [404, "Agent with id my-stored not found"],
        [404, "Agent with id my-stored not found"],
    ]


async def test_versions_are_made_compared_and_put_in_force(url: str) -> None:
    found = await seen(url, "versions")
    assert set(found["listed"]) == {"versions", "items", *PAGE} and found["listed"]["perPage"] == 20
    second, initial = found["listed"]["versions"]
    assert set(initial) == VERSION and set(initial["changedFields"]) == FIRST_FIELDS
    assert initial["changeMessage"] == "Initial version" and second["changeMessage"] == "Auto-saved after edit"
    assert second["changedFields"] == ["name", "instructions", "tools"]
    assert set(found["taken"]) == VERSION and found["taken"]["versionNumber"] == 3
    assert found["taken"]["name"] == "My Assistant" and found["taken"]["changeMessage"] == "Updated tone"
    told = {"success": True, "message": "Version 2 is now active", "activeVersionId": second["id"]}
    assert found["activated"] == told
    assert found["restored"]["changeMessage"] == "Restored from version 1" and found["restored"]["versionNumber"] == 4
    assert found["got"] == initial and found["page"]["versions"][0]["versionNumber"] == 2
    assert [each["field"] for each in found["compared"]["diffs"]] == ["name", "instructions", "tools"]
    assert set(found["compared"]["diffs"][0]) == DIFF and set(found["compared"]["diffs"][2]) == DIFF - {"previousValue"}
    assert set(found["compared"]) == {"diffs", "changes", "fromVersion", "toVersion"} and found["same"]["diffs"] == []
    assert found["details"]["name"] == "Second" and found["older"]["name"] == "My Assistant"
    assert found["olderTool"] == [404, "Tool not found"] and found["tool"]["id"] == "weather"
    prompts = [decode(each)[0]["text"] for each in found["prompts"]]
    assert prompts == ["Second.", "You are a helpful assistant.", "Second."]
    assert found["failures"] == [
        *[[404, "Version with id nope not found"]] * 4,
        [400, "Cannot delete the active version. Activate a different version first."],
        [400, "Invalid request body"],
        [404, f"Version with id {initial['id']} not found for agent my-agent"],
        [404, "Agent with id nope not found"],
    ]
    assert found["deleted"] == {"success": True, "message": "Version 3 deleted successfully"}


async def test_agents_in_code_have_versions_too(url: str) -> None:
    found = await seen(url, "code")
    assert {key: found["before"][key] for key in ("versions", "total", "hasMore")} == {
        "versions": [], "total": 0, "hasMore": False,
    }  # fmt: skip
    assert set(found["created"]) >= VERSION and found["created"]["versionNumber"] == 1
    assert found["created"]["changeMessage"] == "Updated tone to be more friendly"
    text = "You are a helpful assistant."
    assert (found["untouched"], found["draft"], found["published"]) == (text, "Friendlier.", "Friendlier.")
    assert found["activated"]["message"] == "Version 2 is now active" and found["answer"] == "Friendlier."
    assert found["compared"] == [{"field": "instructions", "previousValue": text, "currentValue": "Friendlier."}]
    assert found["got"] == 2 and found["restored"]["versionNumber"] == 3 and found["deleted"]["success"]
    assert found["failure"][0] == 400 and found["unknown"] == [404, "Agent with id nope-agent not found"]
    assert found["cleaned"]["success"] and found["after"] == text


async def test_models_are_chosen_and_reset(url: str) -> None:
    found = await seen(url, "models")
    assert {"id", "name", "envVar", "connected", "models"} <= set(found["provider"])
    assert found["updated"] == {"message": "Agent model updated"}
    assert found["reset"] == {"message": "Agent model reset to original"}
    assert (found["chosen"]["provider"], found["chosen"]["modelId"], found["answered"]) == ("mock", "other", "other")
    assert found["after"] == "scripted"
    assert found["original"] == [["one", "one", 2], ["two", "two", 2]]
    assert found["list"] == [["two", "two", 2], ["one", "other", 5]]
    assert [each[0] for each in found["failures"]] == [400, 404, 400, 404]


async def test_agents_are_cloned(url: str) -> None:
    found = await seen(url, "clones")
    assert (found["cloned"]["id"], found["cloned"]["status"]) == ("my-agent-clone", "draft")
    assert (
        set(found["cloned"]) >= RECORD and found["named"]["name"] == "Copy" and found["named"]["metadata"] == {"a": 1}
    )
    assert found["again"] == [409, "Agent with id my-agent-clone already exists"] and "Rome" in found["ran"]


async def test_a_run_that_waits_goes_on_as_it_began(url: str) -> None:
    found = await seen(url, "waiting")
    assert found["asked"] == "suspended" and "tool-result" in found["approved"] and found["approved"][-1] == "finish"
