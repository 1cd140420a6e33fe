"""Networks: who is chosen, how it is told, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.memory import Memory
from perdure.agents.results import Result
from perdure.agents.scoring import Judged
from perdure.agents.storage import AgentStorage
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from perdure.testing.script import Turn
from tests.support.agent_runs import no_pause, only, scripted
from tests.support.agent_storage import storing

_NONE = '{"primitiveId":"none","primitiveType":"none","prompt":"","selectionReason":"done"}'


@tool
def weather(city: str) -> dict[str, str]:
    """Tells the weather."""
    return {"city": city, "sky": "clear"}


@tool(requires_approval=True)
def delete_thing(thing: str) -> dict[str, str]:
    """Deletes a thing."""
    return {"deleted": thing}


@tool
def broken() -> None:
    """Fails."""
    raise ValueError("out of order")


def network(*turns: Turn, **declared: Json) -> Agent:
    researcher = Agent("researcher", model=ScriptedModel(sleep=no_pause), description="Researches topics")
    given: Json = {"tools": [weather, delete_thing, broken], "agents": {"researcher": researcher}, **declared}
    agent, _ = scripted(*turns, name="Network Agent", instructions="Route tasks.", **given)
    return agent


async def finished(agent: Agent, task: str, **options: Json) -> tuple[list[Chunk], Result]:
    run = await agent.network(task, **options)
    chunks = [said async for said in run.full_stream]
    return chunks, await run.output.result()


def kinds(chunks: Sequence[Chunk]) -> list[str]:
    """The kinds of chunks, the pieces of a text as one."""
    found = [said.type for said in chunks]
    return [kind for place, kind in enumerate(found) if not kind.endswith("-delta") or kind != found[place - 1]]


async def test_a_tool_is_chosen_carried_out_and_judged() -> None:
    chunks, result = await finished(network(), '!net tool:weather {"city": "Oslo"}')
    assert kinds(chunks) == [
        "routing-agent-start",
        "routing-agent-end",
        "tool-execution-start",
        "tool-execution-end",
        "network-validation-start",
        "routing-agent-text-start",
        "routing-agent-text-delta",
        "network-validation-end",
        "network-execution-event-finish",
    ]
    assert {said["from"] for said in chunks} == {"NETWORK"} and {said.run_id for said in chunks} == {"run-0"}
    routed, started, ended, last = chunks[1].payload, chunks[2].payload, chunks[3].payload, chunks[-1].payload
    assert routed["primitiveId"] == "weather" and routed["primitiveType"] == "tool" and routed["iteration"] == 0
    assert started["args"]["args"] == {"city": "Oslo"} and started["args"]["toolCallId"] == ended["toolCallId"]
    assert ended["result"] == {"city": "Oslo", "sky": "clear"}
    assert "".join(told["text"] for told in only(chunks, "routing-agent-text-delta")) == last["result"]
    assert last["isComplete"] is True and last["validationPassed"] is True and last["threadId"] == "run-0"
    assert last["threadResourceId"] == "Network Agent"
    assert (result.finish_reason, result.text) == ("stop", "Final network answer.")


async def test_a_sub_agent_is_told_as_events_of_its_execution() -> None:
    chunks, result = await finished(network(), "!net agent:researcher Research this")
    told = {said.type: said.payload for said in chunks}
    assert told["agent-execution-start"]["agentId"] == "researcher"
    assert told["agent-execution-end"]["result"] == "Echo: Research this"
    assert told["agent-execution-end"]["runId"] == told["agent-execution-start"]["runId"] == "run-0.n0"
    assert told["agent-execution-event-start"]["runId"] == "run-0.n0" and "agent-execution-event-finish" in told
    pieces = only(chunks, "agent-execution-event-text-delta")
    assert "".join(piece["payload"]["text"] for piece in pieces) == "Echo: Research this"
    assert result.usage.total_tokens == told["routing-agent-end"]["usage"]["totalTokens"] * 2


async def test_one_after_the_other_until_all_is_done() -> None:
    task = '!net tool:weather {"city": "Oslo"} > tool:broken {}'
    chunks, result = await finished(network(), task, max_steps=5)
    ends = only(chunks, "tool-execution-end")
    assert [end["toolName"] for end in ends] == ["weather", "broken"]
    assert ends[1]["result"] == "It failed: out of order"
    assert [check["passed"] for check in only(chunks, "network-validation-end")] == [False, True]
    second = only(chunks, "routing-agent-start")[1]["inputData"]
    assert second["primitiveId"] == "weather" and second["iteration"] == 1 and result.finish_reason == "stop"


async def test_without_max_steps_one_choice_is_made() -> None:
    task = '!net tool:weather {"city": "Oslo"} > tool:weather {"city": "Rome"}'
    chunks, result = await finished(network(), task)
    assert kinds(chunks).count("tool-execution-end") == 1
    assert only(chunks, "network-validation-end")[0]["maxIterationReached"] is True
    assert chunks[-1].payload["isComplete"] is False and result.finish_reason == "max-steps"


async def test_nothing_helps() -> None:
    chunks, result = await finished(network(), "Just say hello")
    assert "network-execution-event-step-finish" in kinds(chunks) and "tool-execution-start" not in kinds(chunks)
    assert result.finish_reason == "stop"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("!net agent:ghost hi", "the router chose the agent 'ghost', which is not in the network"),
        ("!net tool:weather Oslo", "the arguments for weather are no JSON"),
        ("!net tool:weather [1]", "the arguments for weather must be a JSON object"),
    ],
)
async def test_what_cannot_be_routed_ends_with_an_error(answer: str, problem: str) -> None:
    chunks, result = await finished(network(), answer)
    assert kinds(chunks)[-2:] == ["error", "network-execution-event-finish"]
    assert problem in chunks[-2].payload["error"]["message"] and result.error is not None
    assert result.finish_reason == "error" and "tool-execution-end" not in kinds(chunks)


async def test_an_answer_that_is_no_json_is_asked_for_again() -> None:
    verdict = '{"isComplete":true,"completionReason":"nothing to do","finalResult":"Nothing."}'
    chunks, result = await finished(network("no JSON", _NONE, verdict), "Do something")
    assert "step-rollback" in kinds(chunks) and (result.finish_reason, result.text) == ("stop", "Nothing.")


async def decided(approved: bool, reason: str | None = None) -> list[Chunk]:
    agent = network()
    run = await agent.network('!net tool:delete_thing {"thing": "x"}')
    chunks = [said async for said in run.full_stream]
    [question] = only(chunks, "tool-execution-approval")
    assert question["toolName"] == "delete_thing" and question["args"] == {"thing": "x"}
    assert question["selectionReason"] == "picked delete_thing" and "approved" in question["resumeSchema"]
    resumed = await agent.resume_stream({"approved": approved, "reason": reason}, run_id=run.run_id)
    return [said async for said in resumed.full_stream]


async def test_a_tool_that_needs_approval_waits_for_it() -> None:
    rest = await decided(True)
    assert rest[0].type == "tool-execution-end" and rest[0].payload["result"] == {"deleted": "x"}


async def test_a_tool_that_is_declined_is_not_called() -> None:
    rest = await decided(False, "too dear")
    assert rest[0].payload["result"] == "too dear"


async def test_the_result_as_an_object() -> None:
    schema: Json = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    agent = network(_NONE, '{"isComplete":true,"completionReason":"ok","finalResult":"four"}', '{"n": 4}')
    chunks, result = await finished(agent, "How many?", structured_output={"schema": schema})
    assert kinds(chunks)[-2:] == ["network-object-result", "network-execution-event-finish"]
    assert chunks[-1].payload["object"] == {"n": 4} == result.object


async def test_what_was_done_is_kept_in_the_thread() -> None:
    async with storing() as storage:
        await _kept(storage)


async def _kept(storage: AgentStorage) -> None:
    agent = network(memory=Memory(storage=storage))
    conversation = {"thread": "t1", "resource": "u1"}
    await finished(agent, '!net tool:weather {"city": "Oslo"}', memory=conversation)
    kept = (await storage.messages("t1")).items
    assert [message.role for message in kept] == ["user", "assistant", "assistant"]
    assert '"isNetwork":true' in kept[1].text and kept[2].text == "Final network answer."
    assert kept[1].metadata["mode"] == "network"


async def test_scorers_judge_what_a_network_came_to() -> None:
    def brief(run: Judged) -> float:
        return 1.0 if run.text == "All done" and len(run.output) == 1 else 0.0

    agent = network(_NONE, '{"isComplete": true, "finalResult": "All done"}', scorers={"brief": brief})
    chunks, result = await finished(agent, "Anything?")
    assert result.scores == only(chunks, "score") == [{"scorer": "brief", "score": 1.0}]
    assert [said.type for said in chunks][-2:] == ["score", "network-execution-event-finish"]
