"""Background tasks: which calls become one, how long a run waits for them, and how they are told."""

from __future__ import annotations

import msgspec
import pytest

from perdure.agents.agent import Agent
from perdure.agents.background import Background, BackgroundConfig
from perdure.agents.background.config import bad_until_idle, eligible, max_idle, plan_of
from perdure.agents.background.told import task_json
from perdure.agents.options import OptionError
from perdure.agents.storage import Task
from perdure.agents.tools import Tool, client_tool
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel
from tests.support.agent_runs import scripted


def test_a_task_as_the_protocol_tells_it() -> None:
    task = Task("t1", "r1", "a1", "research", "c1", {"topic": "sun"}, thread_id="t", created_at=0, started_at=1)
    told = task_json(task)
    assert told == {
        "id": "t1", "status": "pending", "toolName": "research", "toolCallId": "c1", "args": {"topic": "sun"},
        "agentId": "a1", "threadId": "t", "runId": "r1", "retryCount": 0, "maxRetries": 0, "timeoutMs": 300_000,
        "createdAt": "1970-01-01T00:00:00.000Z", "startedAt": "1970-01-01T00:00:00.001Z",
    }  # fmt: skip
    done = msgspec.structs.replace(task, status="completed", completed_at=2)
    assert task_json(done)["result"] is None


def test_which_calls_run_in_the_background() -> None:
    plain = Tool("plain", "", {"type": "object"}, lambda args, ctx: 1)
    ready = Tool("ready", "", {"type": "object"}, lambda args, ctx: 1, background=Background("foreground"))
    theirs = client_tool("theirs", "", {"type": "object"})
    everything = BackgroundConfig("all")
    assert eligible(None, "plain", plain) is None
    assert eligible(everything, "plain", plain) == Background()
    assert eligible(everything, "theirs", theirs) is None
    assert eligible(BackgroundConfig({"ready": False}), "ready", ready) is None
    assert eligible(BackgroundConfig({"ready": True}), "ready", ready) == Background("foreground")
    assert eligible(BackgroundConfig({"ready": Background("awaited")}), "ready", ready) == Background("awaited")
    assert eligible(BackgroundConfig(disabled=True), "ready", ready) is None
    assert plan_of(Background("foreground"), None) is None
    chosen = plan_of(Background("foreground"), {"disposition": "awaited", "timeoutMs": 1e12, "maxRetries": 99})
    assert chosen is not None
    assert (chosen.disposition, chosen.timeout, chosen.retries) == ("awaited", 24 * 3600 * 1000, 20)
    odd = plan_of(Background(), {"disposition": "sometimes", "timeoutMs": -1, "maxRetries": True})
    assert odd is not None and (odd.disposition, odd.timeout, odd.retries) == ("deferred", 300_000, 0)
    assert plan_of(Background(), {"enabled": False}) is None


@pytest.mark.parametrize("given", [3, {"max_idle_ms": 0}, {"idle": 1}, {"maxIdleMs": True}])
async def test_until_idle_is_checked(given: Json) -> None:
    assert bad_until_idle(given) is not None
    agent, _ = scripted("hello")
    with pytest.raises(OptionError, match="until_idle"):
        await agent.stream("go", until_idle=given)


def test_what_is_declared_is_checked() -> None:
    assert max_idle({"maxIdleMs": 7}) == 7
    with pytest.raises(ConfigError, match="wait_timeout"):
        Agent("a", model=ScriptedModel(), background_tasks=BackgroundConfig(wait_timeout=0))
    with pytest.raises(ConfigError, match=r"background_tasks\.tools\.x"):
        Agent("a", model=ScriptedModel(), background_tasks=BackgroundConfig({"x": "yes"}))  # type: ignore[dict-item]
