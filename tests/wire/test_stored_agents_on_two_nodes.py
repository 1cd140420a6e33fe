"""Two nodes on one PostgreSQL: an agent that one of them edits is the other's at once, and so are its runs."""

from __future__ import annotations

import pytest

from perdure.model.json import Json
from tests.support.stored_agents import FIRST, serving_stored

pytestmark = pytest.mark.timeout(90)


async def test_an_agent_and_its_runs_are_on_both_nodes(postgres_url: str) -> None:
    async with serving_stored(postgres_url) as there:
        async with serving_stored(postgres_url) as here:
            await here.create(tools={"deleteThing": {}})
            assert await there.system() == FIRST["instructions"]
            ask: Json = {"messages": '!tool deleteThing {"thing":"a"}', "runId": "r1"}
            assert (await here.post("my-stored/generate", ask))["finishReason"] == "suspended"
            await here.edit(tools={}, instructions="Other.", autoPublish=True)
            assert await there.system() == "Other."
        # The node that began the run is gone; the other one goes on with it, as it began.
        assert (await there.get("agents/my-stored/suspended-runs"))["total"] == 1
        result = await there.post("my-stored/approve-tool-call-generate", {"runId": "r1", "toolCallId": "call_1"})
        assert '"deleted":"a"' in result["text"]
