"""An agent of pydantic-ai as a durable agent: runs, questions, answers, failures."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, CallDeferred, RunContext
from pydantic_ai.exceptions import ModelHTTPError

from perdure import App
from perdure.agents.agent import AgentFailedError
from perdure.agents.durable import DurableAgent, create_durable_agent, is_durable_agent
from perdure.agents.errors import AgentError, ConflictError
from perdure.agents.options import OptionError
from perdure.agents.pydantic_ai import PerdureDurability, PydanticBody
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing import EngineFactory
from tests.unit.agents.pydantic_ai.test_durability import Scripted, call


def durable(agent: Agent[Json, Json], app: App, **options: Json) -> DurableAgent:
    return create_durable_agent(agent=PydanticBody(agent, **options), app=app)


def plain(script: Scripted, **options: Json) -> Agent[Json, Json]:
    return Agent(script.model, name="clerk", **options)


async def types(run: Json) -> list[str]:
    return [said.type async for said in run.full_stream]


async def test_a_run_is_like_that_of_any_durable_agent(perdure_engine: EngineFactory) -> None:
    script = Scripted([call(0, "add", '{"a": 1, "b": 2}', "c1")], ["it is ", "3"])
    agent = plain(script)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    app = App("t")
    made = create_durable_agent(agent=agent, app=app)
    assert is_durable_agent(made) and (made.id, made.name) == ("clerk", "clerk")
    await perdure_engine(app)
    run = await made.stream("1 + 2?", run_id="r1")
    assert await types(run) == [
        "start",
        "step-start",
        "response-metadata",
        "tool-call-input-streaming-start",
        "tool-call-delta",
        "tool-call-input-streaming-end",
        "tool-call",
        "tool-result",
        "step-finish",
        "step-start",
        "response-metadata",
        "text-start",
        "text-delta",
        "text-delta",
        "text-end",
        "step-finish",
        "finish",
    ]
    result = await run.output.result()
    assert (result.text, result.finish_reason) == ("it is 3", "stop")
    assert result.usage.total_tokens > 0
    assert [message.text for message in result.messages][-1] == "it is 3"
    # The same id with the same input is the same run; with another, it is taken.
    again = await made.generate("1 + 2?", run_id="r1")
    assert again.text == "it is 3" and len(script.seen) == 2
    with pytest.raises(ConflictError):
        await made.stream("2 + 2?", run_id="r1")


async def test_calls_wait_for_approval_each_by_itself(perdure_engine: EngineFactory) -> None:
    script = Scripted(
        [call(0, "pay", '{"cents": 1}', "c1"), call(1, "pay", '{"cents": 2}', "c2"), call(2, "now", "{}", "c3")],
        [call(0, "pay", '{"cents": 4}', "c4")],
        ["done"],
    )
    # One that has the capability already is taken as it is.
    agent = plain(script, capabilities=[PerdureDurability()])
    paid: list[int] = []

    @agent.tool_plain(requires_approval=True)
    def pay(cents: int) -> str:
        paid.append(cents)
        return f"paid {cents}"

    @agent.tool_plain
    def now() -> str:
        return "noon"

    app = App("t")
    made = durable(agent, app, editable=["pay"])
    await perdure_engine(app)
    run = await made.stream("go", run_id="r1")
    told = await types(run)
    assert told.count("tool-call-approval") == 2 and told[-1] == "suspended"
    assert await run.output.finish_reason == "suspended" and paid == []
    await made.decline_tool_call("r1", "c1", reason="too dear")
    resumed = await made.approve_tool_call("r1", "c2")
    told = await types(resumed)
    assert told[-2:] == ["tool-call-approval", "suspended"]
    last = await made.approve_tool_call("r1", "c4", args={"cents": 3})
    await types(last)
    assert await last.output.text == "done"
    assert paid == [2, 3]
    assert script.seen[1] == ["noon", "too dear", "paid 2"] or sorted(script.seen[1]) == ["noon", "paid 2", "too dear"]
    with pytest.raises(Exception, match="r1"):
        await made.approve_tool_call("r1", "c4")


async def test_a_result_from_elsewhere_is_waited_for(perdure_engine: EngineFactory) -> None:
    script = Scripted([call(0, "look", '{"what": "x"}', "c1")], ["seen"])
    agent = plain(script)

    @agent.tool
    def look(ctx: RunContext[Json], what: str) -> str:
        raise CallDeferred(metadata={"where": "lab"})

    app = App("t")
    made = durable(agent, app)
    await perdure_engine(app)
    run = await made.stream("go", run_id="r1")
    suspended = [said async for said in run.full_stream if said.type == "tool-call-suspended"]
    assert suspended[0].payload["suspendPayload"] == {"where": "lab"}
    resumed = await made.resume("r1", {"found": 7}, tool_call_id="c1")
    assert "tool-result" in await types(resumed)
    assert script.seen[1] == [{"found": 7}]


async def test_an_object_is_the_output(perdure_engine: EngineFactory) -> None:
    class City(BaseModel):
        name: str

    script = Scripted([call(0, "final_result", '{"name": "Paris"}', "o1")])
    app = App("t")
    made = durable(plain(script, output_type=City), app)
    await perdure_engine(app)
    result = await made.generate("which?")
    assert (result.object, result.finish_reason) == ({"name": "Paris"}, "stop")


async def test_a_failure_is_told_without_secrets(perdure_engine: EngineFactory) -> None:
    script = Scripted([ModelHTTPError(401, "m", {"message": "bad key sk-abcdefghijklmnopqrst"})])
    app = App("t")
    made = durable(plain(script), app)
    await perdure_engine(app)
    run = await made.stream("go")
    chunks = [said async for said in run.full_stream]
    kinds = [said.type for said in chunks]
    assert kinds == ["start", "step-start", "step-rollback", "start", "error", "finish"]
    assert chunks[-2].payload["error"]["name"] == "ModelRejectedError"
    assert "sk-abc" not in str(chunks) and "Traceback" not in str(chunks)
    assert await run.output.finish_reason == "error"


async def test_the_limit_of_steps_and_other_options_hold(perdure_engine: EngineFactory) -> None:
    seen: list[Json] = []
    script = Scripted(*[[call(0, "again", "{}", f"c{turn}")] for turn in range(5)])
    agent = plain(script, deps_type=dict)

    @agent.instructions
    def who(ctx: RunContext[Json]) -> str:
        seen.append(ctx.deps)
        return "be brief"

    @agent.tool_plain
    def again() -> str:
        return "once more"

    app = App("t")
    made = durable(agent, app, deps=lambda context: {"user": context["user"]})
    await perdure_engine(app)
    with pytest.raises(AgentFailedError, match="request_limit of 2"):
        await made.generate("go", max_steps=2, request_context={"user": "ada"}, model_settings={"temperature": 0.5})
    assert len(script.seen) == 2
    assert seen[0] == {"user": "ada"}


@pytest.mark.filterwarnings("ignore:stop_when")
@pytest.mark.parametrize("option", [{"tool_choice": "none"}, {"active_tools": ["x"]}, {"stop_when": lambda: True}])
async def test_options_that_mean_nothing_here_are_refused(
    perdure_engine: EngineFactory, option: dict[str, Json]
) -> None:
    app = App("t")
    made = durable(plain(Scripted()), app)
    await perdure_engine(app)
    with pytest.raises(OptionError, match=next(iter(option))):
        await made.stream("go", **option)


def test_an_agent_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="it has no name"):
        PydanticBody(Agent(Scripted().model))


def test_new_code_is_the_same_version_until_it_says_otherwise() -> None:
    assert (PydanticBody(plain(Scripted())).version, PydanticBody(plain(Scripted()), version="7").version) == ("1", "7")


async def test_a_thread_is_gone_on_with(perdure_engine: EngineFactory) -> None:
    script = Scripted([call(0, "add", '{"a": 1, "b": 2}', "c1")], ["it is 3"], ["you asked for 1 + 2"])
    agent = plain(script)
    told: list[int] = []

    @agent.instructions
    def count(ctx: RunContext[Json]) -> str:
        told.append(len(ctx.messages))
        return "be brief"

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    app = App("t")
    made = durable(agent, app)
    await perdure_engine(app)
    memory = {"thread": "t1", "resource": "ada"}
    await made.generate("1 + 2?", run_id="r1", memory=memory)
    result = await made.generate("what did I ask?", run_id="r2", memory=memory)
    assert result.text == "you asked for 1 + 2"
    # The first call of the second run saw the question, the call, its result and the answer.
    assert script.seen[2] == [3] and told[-1] > told[0]
    stored = await made.engine.storage.messages("t1")
    assert [(one.id, one.role, one.text) for one in stored.items] == [
        ("r1-u0", "user", "1 + 2?"),
        ("r1-m0", "assistant", "it is 3"),
        ("r2-u0", "user", "what did I ask?"),
        ("r2-m0", "assistant", "you asked for 1 + 2"),
    ]
    with pytest.raises(AgentError, match=r"memory\.resource"):
        await made.generate("hi", memory={"thread": "t1"})
    with pytest.raises(AgentFailedError, match="different resource"):
        await made.generate("hi", memory={"thread": "t1", "resource": "eve"})
    assert len(script.seen) == 3


async def test_the_limit_of_steps_is_that_of_the_whole_run(perdure_engine: EngineFactory) -> None:
    script = Scripted(*[[call(0, "pay", '{"cents": 1}', f"c{turn}")] for turn in range(4)])
    agent = plain(script)

    @agent.tool_plain(requires_approval=True)
    def pay(cents: int) -> str:
        return "ok"

    app = App("t")
    made = durable(agent, app)
    await perdure_engine(app)
    run = await made.stream("go", run_id="r1", max_steps=2)
    for turn in range(2):
        await types(run)
        run = await made.approve_tool_call("r1", f"c{turn}")
    assert (await types(run))[-1] == "finish"
    assert await run.output.finish_reason == "error" and len(script.seen) == 2
