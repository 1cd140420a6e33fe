"""What runs say as parts of the AI SDK: the kinds for which it is not compared with the SDK's own conversion."""

from __future__ import annotations

from typing import Literal

import pytest

from perdure.model.json import Json
from perdure.server.agents.chat_nested import AgentFold
from perdure.server.agents.chat_network import NetworkParts
from perdure.server.agents.chat_parts import UiParts, error_text
from perdure.server.agents.chat_requests import Answer, chat_of
from perdure.server.agents.errors import InvalidRequest


def said(type: str, /, source: str = "AGENT", **payload: Json) -> dict[str, Json]:
    return {"type": type, "runId": "r1", "from": source, "payload": payload}


def told(*frames: dict[str, Json], format: Literal["v5", "v6"] = "v6", **options: Json) -> list[dict[str, Json]]:
    parts = UiParts(format, **options)
    return [part for frame in frames for part in parts.of(frame)] + parts.end()


def test_a_message_has_the_id_of_its_first_step_or_of_what_goes_on() -> None:
    start, data = said("start", id="desk", messageId="m1"), {"type": "data-user-message", "data": 1}
    step = said("step-start", messageId="m2")
    expected = [{"type": "start", "messageId": "m2"}, {"type": "data-user-message", "data": 1}, {"type": "start-step"}]
    assert told(start, data, step) == expected
    assert told(start) == [{"type": "start", "messageId": "m1"}]
    assert told(start, step, message_id="mine")[0]["messageId"] == "mine"


def test_each_format_is_told_of_a_refusal_as_it_can_read_it() -> None:
    denied = said("tool-output-denied", toolCallId="c", approval={"reason": "too risky"})
    assert told(denied, format="v6") == [{"type": "tool-output-denied", "toolCallId": "c"}]
    assert told(denied, format="v5") == [{"type": "tool-output-error", "toolCallId": "c", "errorText": "too risky"}]
    asked = said("tool-call-approval", toolCallId="c", toolName="pay", args={})
    assert [part["type"] for part in told(asked, format="v5")] == ["data-tool-call-approval"]
    assert told(asked)[0] == {"type": "tool-approval-request", "approvalId": "r1::c", "toolCallId": "c"}
    assert told(asked, answered=["c"]) == []


def test_what_is_taken_back_closes_what_is_open() -> None:
    parts = told(said("text-start", id="t"), said("text-delta", id="t", text="Hel"), said("step-rollback", stepId="s"))
    assert [part["type"] for part in parts] == ["text-start", "text-delta", "text-end", "data-step-rollback"]
    assert parts[-1]["transient"] and parts[-2]["id"] == "t"


def test_background_tasks_and_ends_are_told() -> None:
    (part,) = told(said("background-task-completed", taskId="b1", result=3))
    assert part["type"] == "data-background-task-completed" and part["id"] == "b1"
    assert part["data"] == {"taskId": "b1", "result": 3, "state": part["type"], "runId": "r1"}
    assert told(said("tripwire", reason="no"))[-1] == {"type": "finish", "finishReason": "other"}
    ends = {
        reason: told(said("finish", stepResult={"reason": reason}))[0]["finishReason"] for reason in ("length", "odd")
    }
    assert ends == {"length": "length", "odd": "other"}
    assert told(said("abort"), said("of-tomorrow")) == [{"type": "abort"}]


def test_errors_tell_nothing_of_requests() -> None:
    error = {"message": "no", "cause": {"requestBodyValues": {"prompt": "secret"}, "status": 400}}
    assert error_text(error) == '{"message":"no","cause":{"status":400}}' and error_text("plain") == "plain"


def test_a_function_as_a_tool_is_one_part_that_grows() -> None:
    def inside(type: str, **payload: Json) -> dict[str, Json]:
        return said("tool-output", output={**said(type, "WORKFLOW", **payload), "runId": "w"}, toolCallId="c")

    parts = told(
        inside("workflow-start", workflowId="look-up"),
        inside("workflow-step-start", id="find", status="running", payload={"order": 1}),
        inside("workflow-step-result", id="find", status="success", output=7),
        inside("workflow-finish", workflowStatus="success", output={"found": 7}),
        said("tool-output", output={"type": "data-own", "data": 1}, toolCallId="c"),
        said("tool-output", output=said("text-delta", text="of a sub-agent"), toolCallId="c"),
    )
    assert [part["type"].removeprefix("data-tool-") for part in parts] == [
        *("workflow", "workflow", "workflow", "workflow-step", "workflow", "data-own"),
    ]
    assert parts[2]["data"]["steps"]["find"]["output"] is None and parts[3]["data"]["step"]["output"] == 7
    assert parts[4]["data"] | {"steps": 0} == {
        "name": "look-up",
        "status": "success",
        "steps": 0,
        "output": {"found": 7},
    }
    assert parts[4]["data"]["steps"]["find"]["output"] == 7


def test_a_network_tells_who_does_what_and_asks() -> None:
    def inside(type: str, **payload: Json) -> dict[str, Json]:
        return said(type, "NETWORK", **payload)

    parts = NetworkParts()
    frames = [
        inside("routing-agent-start", networkId="net", agentId="router", runId="s0", inputData={"iteration": 0}),
        inside("routing-agent-end", runId="s0", primitiveId="pay", primitiveType="tool", task="t", result=""),
        inside("tool-execution-start", args={"toolCallId": "c", "toolName": "pay", "args": {"cents": 5}}),
        inside("tool-execution-approval", toolCallId="c", toolName="pay", args={"cents": 5}),
        inside("tool-execution-end", toolCallId="c", result=5),
        inside("network-execution-event-finish", result="Paid.", usage={"totalTokens": 3}),
        said("error", "NETWORK", error={"message": "boom"}),
    ]
    found = [part for frame in frames for part in parts.of(frame)]
    kinds = ["data-network"] * 3 + [
        "data-tool-call-approval",
        "data-network",
        "text-start",
        "text-delta",
        "data-network",
    ]
    assert [part["type"] for part in found] == [*kinds, "error"]
    assert found[3]["data"] == {
        "state": kinds[3],
        "runId": "r1",
        "toolCallId": "c",
        "toolName": "pay",
        "args": {"cents": 5},
    }
    assert found[2]["data"]["steps"][1]["status"] == "running", "what was told is changed later"
    last = found[7]["data"]
    assert (last["status"], last["output"], last["steps"][1]["output"]) == ("finished", "Paid.", 5)
    assert [part["type"] for part in (*parts.start(), *parts.end())] == ["start", "text-end", "finish"]
    resumed = NetworkParts()
    assert resumed.of(frames[2])[0]["data"]["steps"][0]["name"] == "pay"
    assert NetworkParts().of(frames[4]) == []


def test_an_agent_of_a_network_is_folded_step_by_step() -> None:
    fold = AgentFold()
    for frame in (
        said("start", id="researcher"),
        said("reasoning-delta", text="Hm."),
        said("text-delta", text="One. "),
        said("tool-call", toolCallId="c"),
        said("tool-error", toolCallId="c"),
        said("step-finish", stepResult={"reason": "tool-calls"}, output={"usage": {"totalTokens": 1}}),
        said("text-delta", text="Two."),
        {**said("object-result"), "object": {"n": 1}},
        said("step-finish", stepResult={"reason": "stop"}),
        said("finish", stepResult={"reason": "stop"}, output={"usage": {"totalTokens": 2}}),
    ):
        assert fold.take(frame)
    assert not fold.take(said("step-start"))
    shown = fold.shown()
    assert (shown["text"], shown["status"], shown["object"]) == ("One. Two.", "finished", {"n": 1})
    assert [(step["text"], step["stepType"]) for step in shown["steps"]] == [
        ("One. ", "initial"),
        ("Two.", "tool-result"),
    ]
    assert shown["steps"][0]["toolErrors"] == [{"toolCallId": "c"}] and shown["toolErrors"] == []


def test_what_a_chat_asks_is_read() -> None:
    user, mine = {"id": "u", "role": "user", "parts": []}, {"id": "a", "role": "assistant", "parts": []}
    assert chat_of({"id": "c", "messages": [user]}, "v5").messages == [user]
    again = chat_of({"messages": [user, mine], "trigger": "regenerate-message"}, "v5")
    assert (again.messages, again.message_id) == ([user], None)
    assert chat_of({"messages": [user, mine]}, "v5").message_id == "a"
    approval = {"id": "run::1::c", "approved": False, "reason": "no"}
    part = {"type": "tool-pay", "toolCallId": "c", "state": "approval-responded", "approval": approval}
    foreign = {**part, "toolCallId": "other"}
    asked = chat_of({"messages": [user, {**mine, "parts": [part, foreign, 5]}]}, "v6")
    assert asked.answers == [Answer("run::1", {"approved": False, "reason": "no"}, "c")]
    resumed = chat_of({"messages": [user, mine], "runId": "r", "resumeData": True}, "v5")
    assert resumed.answers == [Answer("r", True)] and resumed.resumed


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "messages"), ({"messages": [5]}, "messages"), ({"messages": [], "trigger": "x"}, "trigger"),
     ({"messages": [], "resumeData": 1}, "runId")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(body: dict[str, Json], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_of(body, "v5")
    assert refused.value.issues[0]["field"] == field
