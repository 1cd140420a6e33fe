"""What durable agents ask of people, and how it is decided, on the engine of the process and on a server alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure import App
from perdure.agents.agent import Agent
from perdure.agents.durable import DurableAgent, create_durable_agent
from perdure.agents.errors import ConflictError, GoneError, InvalidOptionError, RunNotFoundError
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from perdure.testing.script import Text, ToolCall
from tests.support.agent_desk import Desk
from tests.support.agent_world import ENGINES, AgentWorld, agent_world, kinds, read, text_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=ENGINES)
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[tuple[Desk, AgentWorld], None]:
    made = Desk()
    async with agent_world(request.param, tmp_path, made.agent) as world:
        yield made, world


async def test_a_run_parks_for_an_approval_and_goes_on(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 900}')
    chunks = await read(run)
    assert kinds(chunks)[-2:] == ["tool-call-approval", "suspended"]
    result = await run.output.result()
    assert (result.finish_reason, result.suspend_payload and result.suspend_payload["toolCallId"]) == (
        "suspended",
        "call_1",
    )
    assert made.done == []
    listed = (await world.agent.list_suspended_runs()).items
    assert [(found.run_id, found.tool_calls[0].tool_name) for found in listed] == [(run.run_id, "refund")]
    assert listed[0].tool_calls[0].requires_approval

    rest = await read(await world.agent.approve_tool_call(run.run_id, by="ada"))
    assert kinds(rest)[0] == "tool-result" and kinds(rest)[-1] == "finish"
    assert min(said.index for said in rest) > run.cursor
    assert made.done == [("refund", 900)]
    assert not (await world.agent.list_suspended_runs()).items
    asked = await world.agent.approvals(run.run_id)
    assert [(row.status, row.decided_by) for row in asked] == [("approved", "ada")]
    assert await world.steps(run) == ["llm:0", "approve:call_1", "ask:call_1", "tool:call_1", "llm:1"]


async def test_what_is_declined_is_told_to_the_model_and_never_done(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 900}')
    await read(run)
    rest = await read(await world.agent.decline_tool_call(run.run_id, "call_1", reason="too much"))
    assert rest[0].type == "tool-output-denied"
    assert rest[0].payload["approval"] == {"id": "call_1", "approved": False, "reason": "too much"}
    assert "too much" in text_of(rest)
    assert made.done == []


async def test_a_decision_is_made_once(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    calls = '!tools refund {"cents": 1} | refund {"cents": 2}'
    run = await world.agent.stream(calls)
    await read(run)
    assert [said.type for said in await read(await world.agent.approve_tool_call(run.run_id, "call_1"))] == [
        "tool-result",
        "suspended",
    ]
    with pytest.raises(ConflictError, match="approved already"):
        await world.agent.decline_tool_call(run.run_id, "call_1")
    await read(await world.agent.decline_tool_call(run.run_id, "call_2"))
    for late in ("call_1", "call_2", None):
        with pytest.raises((GoneError, ConflictError)):
            await world.agent.resume(run.run_id, {"approved": True}, tool_call_id=late)
    assert made.done == [("refund", 1)]


async def test_a_finished_run_cannot_be_resumed(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 1}')
    await read(run)
    await read(await world.agent.decline_tool_call(run.run_id))
    with pytest.raises(GoneError):
        await world.agent.resume(run.run_id, {"approved": True}, tool_call_id="call_1")
    assert made.done == []


async def test_approvals_in_any_order_in_bulk_and_in_part(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream(
        '!tools add {"a": 1, "b": 1} | ' + " | ".join(f'refund {{"cents": {n}}}' for n in (1, 2, 3))
    )
    first = await read(run)
    # The call that nobody has to approve is not held up.
    assert [said.payload["toolName"] for said in first if said.type == "tool-result"] == ["add"]
    assert len(first[-1].payload["questions"]) == 3
    part = await read(await world.agent.decide_tool_calls(run.run_id, {"call_4": True, "call_2": False}))
    assert {said.type for said in part[:-1]} == {"tool-result", "tool-output-denied"}
    assert [question["toolCallId"] for question in part[-1].payload["questions"]] == ["call_3"]
    rest = await read(await world.agent.resume(run.run_id, True))
    assert rest[-1].type == "finish"
    assert sorted(made.done) == [("add", [1, 1]), ("refund", 2), ("refund", 3)]
    result = await (await world.agent.observe(run.run_id)).output.result()
    assert [said.payload["toolName"] for said in result.tool_results] == ["add", "refund", "refund"]


async def test_which_question_is_meant_must_be_clear(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    run = await world.agent.stream('!tools refund {"cents": 1} | refund {"cents": 2}')
    await read(run)
    with pytest.raises(InvalidOptionError, match="call_1, call_2"):
        await world.agent.approve_tool_call(run.run_id)
    with pytest.raises(RunNotFoundError, match="asks nothing"):
        await world.agent.approve_tool_call(run.run_id, "call_9")
    with pytest.raises(InvalidOptionError, match="an approval is"):
        await world.agent.resume(run.run_id, {"yes": 1}, tool_call_id="call_1")
    await world.agent.abort(run.run_id)


async def test_an_approval_is_bound_to_the_arguments_that_were_shown(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 5}')
    shown = (await read(run))[-1].payload["argsHash"]
    with pytest.raises(ConflictError, match="other arguments"):
        await world.agent.approve_tool_call(run.run_id, args_hash="0" * 64)
    await read(await world.agent.approve_tool_call(run.run_id, args_hash=shown))
    assert made.done == [("refund", 5)]


async def test_arguments_can_be_edited_where_the_tool_allows_it(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 5}')
    await read(run)
    await read(await world.agent.approve_tool_call(run.run_id, args={"cents": 3}))
    assert made.done == [("refund", 3)]
    run = await world.agent.stream('!tool hurry {"n": 1}')
    await read(run)
    with pytest.raises(InvalidOptionError, match="does not let its arguments be edited"):
        await world.agent.approve_tool_call(run.run_id, args={"n": 2})
    await world.agent.abort(run.run_id)


async def test_an_approval_that_nobody_gives_in_time_is_declined(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool hurry {"n": 1}', keep_open=True)
    chunks = await read(run)
    assert "suspended" in kinds(chunks) and chunks[-1].type == "finish"
    assert made.done == []
    with pytest.raises(GoneError):
        await world.agent.approve_tool_call(run.run_id, "call_1")


async def test_a_tool_suspends_and_is_resumed_with_data_of_its_schema(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool unlock {"door": "east"}')
    chunks = await read(run)
    assert kinds(chunks)[-2:] == ["tool-call-suspended", "suspended"]
    assert chunks[-1].payload["suspendPayload"] == {"door": "east"}
    with pytest.raises(InvalidOptionError, match="code"):
        await world.agent.resume(run.run_id, {"approved": True})
    rest = await read(await world.agent.resume(run.run_id, {"code": "1234"}))
    assert rest[-1].type == "finish"
    assert made.done == [("unlock", ["east", "1234"])]


async def test_aborting_a_parked_run_ends_its_questions(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool refund {"cents": 1}', memory={"thread": "t", "resource": "u"})
    await read(run)
    assert [found.run_id for found in (await world.agent.list_active_runs(thread_id="t")).items] == [run.run_id]
    assert await world.agent.abort_thread("t", resource_id="u")
    with pytest.raises(GoneError):
        await world.agent.approve_tool_call(run.run_id, "call_1")
    assert not (await world.agent.list_suspended_runs()).items
    assert made.done == []


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_question_is_answered_only_through_the_agent_and_version_that_asked(kind: str, tmp_path: Path) -> None:
    made = Desk()
    others: list[DurableAgent] = []

    def more(app: App, engine: Json) -> None:
        other = Agent("other", model=ScriptedModel(), tools=made.agent.tools)
        others.append(create_durable_agent(agent=other, app=app, engine=engine))
        newer = Agent("desk", model=ScriptedModel(), tools=made.agent.tools, version="2")
        # As after a deploy: the same agent in another version, for the runs of the same storage.
        for accepts in ((), ("1",)):
            others.append(create_durable_agent(agent=newer, app=App("office"), engine=engine, accepts_versions=accepts))

    async with agent_world(kind, tmp_path, made.agent, more=more) as world:
        run = await world.agent.stream('!tool refund {"cents": 1}')
        await read(run)
        if kind == "local":
            for newer in others[1:]:
                newer._settings = type(newer._settings)(
                    keep_for=None, engine=world.agent.engine, accepts_versions=newer._settings.accepts_versions
                )
        with pytest.raises(RunNotFoundError):
            await others[0].approve_tool_call(run.run_id)
        with pytest.raises(ConflictError, match="version '1'"):
            await others[1].approve_tool_call(run.run_id)
        assert made.done == []
        await read(await others[2].approve_tool_call(run.run_id))
        assert made.done == [("refund", 1)]


@pytest.mark.parametrize("kind", ENGINES)
async def test_questions_of_a_sub_agent_reach_the_stream_of_its_parent(kind: str, tmp_path: Path) -> None:
    made = Desk(ScriptedModel([[ToolCall("refund", {"cents": 7}, id="inner")], [Text("refunded")]]))
    model = ScriptedModel([[ToolCall("agent-desk", {"prompt": "pay 7 back"}, id="outer")], [Text("all done")]])
    boss = Agent("boss", model=model, agents={"desk": made.agent})
    async with agent_world(kind, tmp_path, boss) as world:
        run = await world.agent.stream("Go")
        chunks = await read(run)
        assert chunks[-1].type == "suspended"
        assert chunks[-1].payload["toolCallId"] == "outer"
        rest = await read(await world.agent.approve_tool_call(run.run_id, "outer"))
        assert text_of(rest) == "all done"
    assert made.done == [("refund", 7)]
