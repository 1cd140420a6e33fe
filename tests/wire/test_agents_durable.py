"""Durable agents on the engine of the process: plug-ins, long streams, slow readers, and what a turn costs."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import (
    AgentRuns,
    DurableAgent,
    DurableRun,
    create_durable_agent,
    create_evented_agent,
    create_inngest_agent,
    is_durable_agent,
    is_evented_agent,
    is_inngest_agent,
)
from perdure.agents.durable.base import DurableSettings
from perdure.agents.durable.log import ROLLBACK
from perdure.agents.durable.reading import new_ids
from perdure.agents.errors import ConflictError, GoneError, RunNotFoundError
from perdure.agents.signals import parse_signal
from perdure.agents.tools import tool
from perdure.model.errors import ConfigError, StoreLockedError
from perdure.model.json import Json
from perdure.store.sqlite import writer
from perdure.testing import EngineFactory, ScriptedModel
from perdure.testing.script import Break, Piece, Text, ToolCall
from tests.support.agent_world import agent_world, kinds, read, text_of

pytestmark = pytest.mark.timeout(60)

SAFE_TO_FORWARD = frozenset(
    {
        *("check_request_context", "get_default_options", "get_description", "get_instructions", "get_memory"),
        *("get_model", "list_agents", "list_input_processors", "list_output_processors", "list_scorers"),
        *("list_tools", "list_workflows", "policy"),
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


async def test_the_live_view_tells_what_was_taken_back(tmp_path: Path) -> None:
    turns: list[list[Piece]] = [[Text("partial answer"), Break()], [Text("full answer")]]
    async with agent_world("local", tmp_path, adder(ScriptedModel(turns))) as world:
        run = await world.agent.stream("Hello")
        await read(run)
        live = await read(await world.agent.observe(run.run_id, view="live"))
        assert text_of(live) == "partial answerfull answer" and ROLLBACK in kinds(live)
        assert (await (await world.agent.observe(run.run_id, view="live")).output.result()).text == "full answer"
        committed = await read(await world.agent.observe(run.run_id))
        assert text_of(committed) == "full answer"
        # Whoever had read of the first attempt is told that it is taken back.
        seen = next(said for said in live if said.type == "text-delta")
        rest = await read(await world.agent.observe(run.run_id, offset=seen.index))
        assert rest[0].type == ROLLBACK and rest[0].payload["fromIndex"] == live[0].index
        assert text_of(rest) == "full answer"


async def test_a_thousand_chunks_are_told_to_many_readers_the_slow_one_included(tmp_path: Path) -> None:
    model = ScriptedModel([[Text(" ".join(f"w{n}" for n in range(1000)))]])
    async with agent_world("local", tmp_path, adder(model)) as world:
        run = await world.agent.stream("Talk")
        slow = await world.agent.observe(run.run_id)
        words: list[str] = []
        async for said in slow.full_stream:
            if len(words) < 20:
                await asyncio.sleep(0.005)
            if said.type == "text-delta":
                words.append(said.payload["text"])
        others = [await world.agent.observe(run.run_id) for _ in range(5)]
        quick = await asyncio.gather(*map(read, others))
        assert len(words) == 1000
        assert {text_of(chunks) for chunks in quick} == {"".join(words)} == {text_of(await read(run))}


async def test_what_a_turn_writes_does_not_grow_with_the_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "x" * 2048
    commits: list[int] = []
    real = writer.commit

    def counted(*args: Json) -> Json:
        commits[-1] += 1
        return real(*args)

    @tool
    async def look(n: int) -> str:
        """Looks something up."""
        commits.append(0)
        return content

    monkeypatch.setattr(writer, "commit", counted)
    turns: list[list[Piece]] = [[ToolCall("look", {"n": n}, id=f"c{n}")] for n in range(10)]
    agent = Agent("seeker", model=ScriptedModel([*turns, [Text("done")]]), tools=[look], instructions=content)
    app = App("office")
    durable = create_durable_agent(agent=agent, app=app, max_steps=20)
    commits.append(0)
    async with embedded(app, db=tmp_path / "office.db"):
        run = await durable.stream("Seek")
        assert (await run.output.result()).text == "done"
        engine_run = (await durable.get_run(run.run_id)).engine_run_id
    # From one tool call to the next there is one turn.
    assert max(commits[1:-1]) <= 6
    with closing(sqlite3.connect(tmp_path / "office.db")) as connection:
        steps = connection.execute("SELECT name, length(data) FROM step WHERE run_id = ?", (engine_run,)).fetchall()
        said = connection.execute("SELECT sum(length(body)) FROM chunk WHERE run_id = ?", (engine_run,)).fetchone()[0]
    sizes = dict(steps)
    assert set(sizes) == {f"llm:{n}" for n in range(11)} | {f"tool:c{n}" for n in range(10)}
    journal = sum(sizes.values()) + said
    assert journal <= 10 * (12 * 1024 + 2 * len(content))
    assert sizes["llm:9"] - sizes["llm:1"] < 200


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


async def test_a_log_is_compacted_and_its_places_stay(tmp_path: Path) -> None:
    turns: list[list[Piece]] = [
        [Text("partial answer"), Break()],
        [Text(" ".join("abcdefgh")), ToolCall("add", {"a": 1, "b": 2}, id="c1")],
        [Text("well done")],
    ]
    async with agent_world("local", tmp_path, adder(ScriptedModel(turns)), compact_after=None) as world:
        run = await world.agent.stream("Hello")
        await read(run)
        await world.status(run)
        before = await read(await world.agent.observe(run.run_id))
        result = await (await world.agent.observe(run.run_id)).output.result()
        async with asyncio.timeout(5):
            # The run of the engine ends just after.
            while (gone := await world.agent.compact(run.run_id)) == 0:
                await asyncio.sleep(0.005)
        assert gone > 10
        assert await world.agent.compact(run.run_id) == 0
        after = await read(await world.agent.observe(run.run_id))
        assert text_of(after) == text_of(before)
        assert kinds(after) == kinds(before) and len(after) < len(before)
        assert {said.index for said in after} < {said.index for said in before}
        assert (await (await world.agent.observe(run.run_id)).output.result()).messages == result.messages
        for place, said in enumerate(after[:-1], 1):
            rest = await read(await world.agent.observe(run.run_id, offset=said.index))
            assert [found.index for found in rest] == [found.index for found in after[place:]]
        assert ROLLBACK not in kinds(await read(await world.agent.observe(run.run_id, view="live")))
        deltas = [said.index for said in before if said.type == "text-delta"]
        late = await world.agent.observe(run.run_id, offset=deltas[2])
        with pytest.raises(GoneError, match=f"offset={deltas[0] - 1}"):
            await read(late)


async def test_a_log_is_compacted_by_itself(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder(), compact_after=0.01) as world:
        run = await world.agent.stream("Hello there, you")
        before = await read(run)
        async with asyncio.timeout(5):
            while len(await read(await world.agent.observe(run.run_id, view="settled"))) == len(before):
                await asyncio.sleep(0.02)


async def test_who_has_lost_its_lease_records_and_says_nothing(tmp_path: Path) -> None:
    """A worker that was given up goes on to the end of its tool: another one has the run by then."""
    begun, go = asyncio.Event(), asyncio.Event()
    done: list[int] = []

    @tool
    async def pay(cents: int) -> int:
        """Pays."""
        begun.set()
        await go.wait()
        done.append(cents)
        return cents

    async def life(run_id: str, *, loses: bool) -> list[Chunk]:
        app = App("office")
        durable = create_durable_agent(agent=Agent("payer", model=ScriptedModel(), tools=[pay]), app=app)
        async with embedded(app, db=tmp_path / "office.db", shutdown_timeout=0.5):
            run = await durable.stream('!tool pay {"cents": 5}', run_id=run_id)
            if not loses:
                go.set()
                return await read(run)
            heard: list[Chunk] = []
            reading = asyncio.create_task(_collect(run, heard))
            await begun.wait()
            engine_run = (await durable.get_run(run_id)).engine_run_id
            with closing(sqlite3.connect(tmp_path / "office.db", isolation_level=None)) as thief:
                changed = thief.execute("UPDATE job SET node = 'other', token = token + 1 WHERE id = ?", (engine_run,))
                assert changed.rowcount == 1
            go.set()
            await asyncio.sleep(0.2)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            return heard

    first = await life("r-1", loses=True)
    assert done == [5]
    assert first[-1].type in ("tool-call", "tool-result", ROLLBACK) and "finish" not in kinds(first)
    whole = await life("r-1", loses=False)
    # It was never recorded, so it is done by whoever has the run now; the stream has it once.
    assert done == [5, 5]
    # Whoever came before it was taken back is told so.
    assert [kind for kind in kinds(whole) if kind in ("tool-result", ROLLBACK)] in (
        ["tool-result"],
        ["tool-result", ROLLBACK, "tool-result"],
    )
    async with agent_world("local", tmp_path, adder()) as world:
        payer = create_durable_agent(agent=Agent("payer", model=ScriptedModel(), tools=[pay]), app=App("spare"))
        payer._settings = DurableSettings(keep_for=None, engine=world.agent.engine)
        settled = await read(await payer.observe("r-1"))
    undisturbed = await life("r-2", loses=False)
    assert kinds(settled) == kinds(undisturbed)


async def _collect(run: DurableRun, heard: list[Chunk]) -> None:
    async for said in run.full_stream:
        heard.append(said)


async def test_a_second_process_does_not_get_the_file(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder()) as world:
        other = App("office")
        rival = create_durable_agent(agent=adder(), app=other)
        with pytest.raises(StoreLockedError):
            async with embedded(other, db=tmp_path / "office.db"):
                await rival.stream("Hello")
        assert text_of(await read(await world.agent.stream("Hello"))) == "Echo: Hello"


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
