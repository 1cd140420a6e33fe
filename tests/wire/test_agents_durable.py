"""Durable agents on the engine of the process: plug-ins, long streams, slow readers, and what a turn costs."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perdure import App, Priority, Throttle, embedded
from perdure.agents.agent import Agent
from perdure.agents.durable import (
    AgentRuns,
    DurableAgent,
    children,
    create_durable_agent,
    create_evented_agent,
    create_inngest_agent,
    is_durable_agent,
    is_evented_agent,
    is_inngest_agent,
)
from perdure.agents.durable.reading import new_ids
from perdure.agents.errors import ConflictError, GoneError, InvalidOptionError, RunNotFoundError
from perdure.agents.signals import parse_signal
from perdure.agents.tools import tool
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing import EngineFactory, ScriptedModel
from perdure.testing.script import ToolCall
from tests.support.agent_world import agent_world, read, text_of

pytestmark = pytest.mark.timeout(60)

SAFE_TO_FORWARD = frozenset(
    {
        *("check_request_context", "get_default_options", "get_description", "get_instructions", "get_memory"),
        *("get_model", "list_agents", "list_input_processors", "list_output_processors", "list_scorers"),
        *("list_tools", "list_workflows", "policy", "tools_named"),
    }
)
"""What an agent tells of itself: the same whether its runs survive or not."""


@tool
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def adder(model: ScriptedModel | None = None) -> Agent:
    return Agent("adder", model=model or ScriptedModel(), tools=[add])


def test_every_public_member_of_an_agent_is_durable_or_safe_to_forward() -> None:
    public = {name for name, _ in inspect.getmembers(Agent) if not name.startswith("_")}
    own = {name for kind in DurableAgent.__mro__[:-1] for name in vars(kind) if not name.startswith("_")}
    # Plain data has no verbs.
    public -= {"surroundings"}
    assert public - own == SAFE_TO_FORWARD


async def test_what_is_not_about_runs_is_asked_of_the_agent_inside() -> None:
    durable = create_durable_agent(agent=adder(), app=App("office"), id="sums", name="Sums")
    assert list(await durable.list_tools()) == ["add"]
    assert (durable.id, durable.name, durable.function_id) == ("sums", "Sums", "office-agent-sums")
    with pytest.raises(AttributeError):
        durable.nothing_of_the_kind  # noqa: B018


def test_kinds_of_durable_agents_are_told_apart(tmp_path: Path) -> None:
    plain = create_durable_agent(agent=adder(), app=App("a"))
    evented = create_evented_agent(agent=adder(), app=App("b"))
    served = create_inngest_agent(agent=adder(), app=App("c"), server="http://127.0.0.1:1", store=tmp_path / "x.db")
    assert [is_durable_agent(each) for each in (plain, evented, served, adder(), None)] == [True] * 3 + [False] * 2
    assert [is_evented_agent(each) for each in (plain, evented, served)] == [False, True, False]
    assert [is_inngest_agent(each) for each in (plain, evented, served)] == [False, False, True]


def test_faults_of_the_making_are_named() -> None:
    with pytest.raises(ConfigError, match=r"retention: .*on_tool_crash: must be"):
        create_durable_agent(agent=adder(), app=App("a"), retention="soon", on_tool_crash="pray")  # type: ignore[arg-type]
    durable = create_durable_agent(agent=adder(), app=App("a"))
    with pytest.raises(ConfigError, match="durable already"):
        create_durable_agent(agent=durable, app=App("b"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="concurency: is no option"):
        create_durable_agent(agent=adder(), app=App("a"), concurency=3)  # type: ignore[call-arg]


class Liar:
    """A plug-in that raises, hangs, and says what was never said."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def publish(self, topic: str, message: dict[str, Json]) -> None:
        self.told.append(topic)
        if len(self.told) % 3 == 0:
            raise ConnectionError("gone")
        if len(self.told) == 4:
            await asyncio.sleep(3600)

    async def append(self, key: str, value: dict[str, Json]) -> None:
        value["data"] = {"type": "finish", "payload": {"lies": True}}
        raise OSError("full")


async def test_nothing_depends_on_plug_ins(tmp_path: Path) -> None:
    liar = Liar()
    async with agent_world("local", tmp_path, adder(), pubsub=liar, cache=liar) as world:
        run = await world.agent.stream('!tool add {"a": 1, "b": 2}')
        chunks = await asyncio.wait_for(read(run), 10)
        assert chunks[-1].type == "finish" and "lies" not in str(chunks)
        assert await read(await world.agent.observe(run.run_id)) == chunks
    assert set(liar.told) == {f"agent.stream.{run.run_id}"}


async def test_a_prepared_run_of_another_agent_is_refused(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder()) as world:
        prepared = await world.agent.prepare("Hello")
        prepared.version = "0"
        with pytest.raises(ConflictError, match="version '0'"):
            await world.agent.start(prepared)


async def test_runs_as_signals_need_them(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder()) as world:
        runs = AgentRuns(world.agent, ids=new_ids())
        body = {"id": "s1", "type": "user-message", "contents": "Hello"}
        signal = parse_signal(body, ids=new_ids(), now=1).to_json()
        for _ in range(2):
            await runs.start(
                "adder", [signal], run_id="signal-s1", thread_id="t", resource_id="u", options={"maxSteps": 3}
            )
        said = [found async for found in runs.follow("signal-s1")]
        assert text_of(said) == "Echo: Hello"
        assert not await runs.abort("signal-s1")
        with pytest.raises(RunNotFoundError):
            runs.agent("nobody")


async def test_a_run_begun_by_an_event_from_elsewhere_is_known(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder()) as world:
        prepared = await world.agent.prepare("Hello", run_id="r-9")
        data = {
            "runId": "r-9",
            "agentId": "adder",
            "version": prepared.version,
            "input": prepared.input,
            "queue": "r-9",
        }
        await world.app.send({"name": "perdure/agent-adder.run", "data": data})
        async with asyncio.timeout(5):
            while await world.agent.engine.storage.run("r-9") is None:
                await asyncio.sleep(0.01)
            while (await world.agent.get_run("r-9")).engine_run_id is None:
                await asyncio.sleep(0.01)
        assert text_of(await read(await world.agent.observe("r-9"))) == "Echo: Hello"


async def test_a_month_without_an_answer_passes_in_no_time(perdure_engine: EngineFactory) -> None:
    @tool(requires_approval=True, approval_timeout="30d")
    def refund(cents: int) -> int:
        """Pays back."""
        return cents

    app = App("office")
    durable = create_durable_agent(agent=Agent("desk", model=ScriptedModel(), tools=[refund]), app=app)
    engine = await perdure_engine(app)
    run = await durable.stream('!tool refund {"cents": 1}')
    assert (await run.output.result()).finish_reason == "suspended"
    await engine.drain()
    result = await (await durable.observe(run.run_id)).output.result()
    assert result.finish_reason == "stop" and result.tool_results == []
    with pytest.raises(GoneError):
        await durable.approve_tool_call(run.run_id, "call_1")


async def test_lists_of_runs_are_filtered_and_paged(tmp_path: Path) -> None:
    @tool(requires_approval=True)
    def refund(cents: int) -> int:
        """Pays back."""
        return cents

    agent = Agent("desk", model=ScriptedModel(), tools=[refund])
    async with agent_world("local", tmp_path, agent) as world:
        for n in range(5):
            memory = {"thread": f"t{n % 2}", "resource": "u"}
            run = await world.agent.stream('!tool refund {"cents": 1}', run_id=f"r{n}", memory=memory)
            await run.output.result()
        page = await world.agent.list_suspended_runs(page=1, per_page=2)
        assert ([found.run_id for found in page.items], page.total, page.has_more) == (["r2", "r1"], 5, True)
        assert [found.run_id for found in (await world.agent.list_suspended_runs(thread_id="t1")).items] == ["r3", "r1"]
        assert not (await world.agent.list_suspended_runs(resource_id="nobody")).items
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        assert not (await world.agent.list_suspended_runs(from_date=tomorrow)).items
        assert (await world.agent.list_suspended_runs(to_date=tomorrow)).total == 5
        with pytest.raises(InvalidOptionError, match="from_date"):
            await world.agent.list_suspended_runs(from_date=datetime(2026, 1, 1))
        (question,) = await world.agent.open_questions("r0")
        assert (question.tool_name, question.args, question.requires_approval) == ("refund", {"cents": 1}, True)
        # One that ends behind the agent's back is not listed any more.
        engine_run = (await world.agent.get_run("r4")).engine_run_id
        assert engine_run is not None
        await world.node.cancel(engine_run)
        assert [found.run_id for found in (await world.agent.list_active_runs(per_page=2)).items] == ["r3", "r2"]
        ended = await world.agent.get_run("r4")
        assert ended.status == "aborted" and ended.expires_at is not None


def test_the_options_of_functions_are_those_of_the_agents_function() -> None:
    app = App("office")
    create_durable_agent(agent=adder(), app=app, retries=2, priority="100", throttle=Throttle(5, "1m"))
    config = app.functions["office-agent-adder"].config
    assert (config.retries, config.throttle, config.priority) == (2, Throttle(5, "1m"), Priority("100"))


async def test_a_sub_agent_gets_the_room_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_UNBEGUN", 0.1)
    model = ScriptedModel([[ToolCall("agent-sums", {"prompt": "x"}, "c1")], "done"])
    app = App("office")
    sums = Agent("sums", model=ScriptedModel(["3"]))
    boss = create_durable_agent(agent=Agent("boss", model=model, agents={"sums": sums}), app=app)
    async with embedded(app, db=tmp_path / "office.db", max_active=1):
        assert (await boss.generate("go")).text == "done"
