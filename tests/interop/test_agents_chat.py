"""Chats of the AI SDK and of React, as published, on a server of agents.

`agents/chat.mjs` speaks as the transports of `useChat` do, in both formats; `/chat` must tell exactly what
`toAISdkStream` makes of the chunks of the same run. `agents/react.mjs` draws the hooks of the packages for React.
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
_OWN_IDS = frozenset({"messageId", "runId", "approvalId", "subAgentThreadId", "subAgentResourceId"})
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def packages() -> None:
    try:
        install(FOLDER)
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the clients: {error}")


@pytest.fixture
async def url(packages: None, tmp_path: Path) -> AsyncGenerator[str]:
    async with embedded(agents_app(), db=tmp_path / "agents.db") as engine, asgi_server(engine.asgi()) as found:
        yield found


async def seen(*arguments: str) -> Json:
    code, printed, told = await node(*arguments, folder=FOLDER)
    assert code == 0, told
    return decode(printed)


def plain(value: Json) -> Json:
    """A value without the ids of one run."""
    if isinstance(value, dict):
        return {key: "..." if key in _OWN_IDS else plain(each) for key, each in value.items()}
    return list(map(plain, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("format", ["v5", "v6"])
async def test_a_chat_tells_what_the_conversion_of_the_sdk_tells(url: str, format: str) -> None:
    found = await seen("chat.mjs", url, format, "same,chat,approval")
    for each in found["same"]:
        assert plain(each["ours"]) == plain(each["theirs"]), each["prompt"]
        assert each["read"], f"the client cannot read what it is told of {each['prompt']}"
    check_conversation(found["chat"])
    for which, told in found["approval"].items():
        check_approval(told, format, approved=which.endswith("true"))


def check_conversation(told: Json) -> None:
    """What was said is in the thread once, and what the thread has is not written over."""
    assert told["first"]["message"]["parts"][-1]["text"] == "Echo: hello"
    assert told["second"]["message"]["parts"][-1]["text"] == "Echo: again"
    assert told["regenerated"]["message"]["id"] != told["first"]["message"]["id"]
    assert [each["role"] for each in told["messages"]] == ["user", "assistant"] * 2
    assert told["messages"][1]["id"] == told["first"]["message"]["id"]
    assert told["idle"] is None


def check_approval(told: Json, format: str, *, approved: bool) -> None:
    asked = [part["type"] for part in told["asked"]["parts"]]
    assert asked[-1] == "data-tool-call-approval" and ("tool-approval-request" in asked) == (format == "v6")
    message = told["done"]["message"]
    assert message["id"] == told["asked"]["message"]["id"]
    (call,) = [part for part in message["parts"] if part["type"] == "tool-deleteThing"]
    denied = "output-denied" if format == "v6" else "output-error"
    assert call["state"] == ("output-available" if approved else denied)
    assert message["parts"][-1]["text"].startswith("Tool said") and told["done"]["parts"][-1]["type"] == "finish"
    if not approved:
        assert "too risky" in message["parts"][-1]["text"]


async def test_a_chat_is_taken_up_again_and_networks_grow(url: str) -> None:
    found = await seen("chat.mjs", url, "v6", "resume,network,failures")
    resumed = found["resume"]
    text = "".join(part.get("delta", "") for part in resumed["rest"])
    assert resumed["before"] == 3 and [word for word in text.split()] == [f"w{n}" for n in range(20)]
    assert resumed["rest"][-1] == {"type": "finish", "finishReason": "stop"}
    assert resumed["idle"] is None and resumed["unknown"] is None

    network = found["network"]
    assert kinds(network["parts"]) == "start data-network text-start text-delta data-network text-end finish"
    assert kinds(network["theirs"]) == "start data-network text-start text-delta data-network finish"
    assert network["theirs"][-2]["data"]["output"] == network["parts"][-3]["data"]["output"]
    (drawn,) = [part for part in network["message"]["parts"] if part["type"] == "data-network"]
    assert drawn["data"]["status"] == "finished" and drawn["data"]["output"] == "Final network answer."
    chosen = drawn["data"]["steps"][-1]
    assert (chosen["name"], chosen["status"], chosen["task"]["text"]) == (
        "researcher", "success", "Echo: Research this topic",
    )  # fmt: skip
    assert [status for status, _ in found["failures"]] == [404, 400, 400, 404, 400, 400]


async def test_the_hooks_of_react_draw_what_agents_say(url: str) -> None:
    found = await seen("react.mjs", url, "mastra,signals,aisdk")
    told = found["mastra"]
    assert told["streamed"] == [["user", "hello stream"], ["assistant", "Echo: hello stream"]]
    assert told["generated"] == [["user", "hello generate"], ["assistant", "Echo: hello generate"]]
    assert told["approved"] == [["result", {"deleted": "q"}]] and told["declined"] == ["output-denied"]
    for agent in ("my-agent", "durable-agent"):
        told = found["signals"][agent]
        assert [role for role, _ in told["texts"]] == ["user", "assistant"] * 2
        # The message that was sent is drawn once, here and beside.
        assert told["texts"][0] == told["beside"] == ["user", "hello signals"]
        assert told["calls"] == [["result", {"deleted": "q"}]]
    assert found["aisdk"][3] == [
        "assistant",
        ["step-start", "output-available", "data-tool-call-approval", "step-start", "done"],
    ]
