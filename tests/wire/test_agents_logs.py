"""The logs of durable agents on the engine of the process: views, many readers, compaction, leases, what is written."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from perdure import App, embedded
from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import (
    DurableAgent,
    DurableRun,
    StreamInterruptedError,
    create_durable_agent,
)
from perdure.agents.durable.log import ROLLBACK
from perdure.agents.errors import GoneError
from perdure.agents.tools import tool
from perdure.model.errors import StoreLockedError
from perdure.model.json import Json
from perdure.store.sqlite import writer
from perdure.testing import ScriptedModel
from perdure.testing.script import Break, Piece, Text, ToolCall
from tests.support.agent_world import agent_world, kinds, read, text_of

pytestmark = pytest.mark.timeout(60)


@tool
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def adder(model: ScriptedModel | None = None) -> Agent:
    return Agent("adder", model=model or ScriptedModel(), tools=[add])


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


async def test_a_compaction_that_was_lost_with_its_process_is_made_up_for(tmp_path: Path) -> None:
    async with agent_world("local", tmp_path, adder(), compact_after=0.5) as world:
        run = await world.agent.stream("Hello there, you")
        before = await read(run)
        assert await world.status(run) == "finished"
    async with agent_world("local", tmp_path, adder(), compact_after=0.5) as world:
        async with asyncio.timeout(30):
            while len(await read(await world.agent.observe(run.run_id, view="settled"))) == len(before):
                await asyncio.sleep(0.02)


class Payer:
    """An agent whose tool waits until it is let go, in one life after the other over the same file."""

    def __init__(self, folder: Path) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.done: list[int] = []
        self.file = folder / "office.db"

    def durable(self, app: App) -> DurableAgent:
        @tool
        async def pay(cents: int) -> int:
            """Pays."""
            self.begun.set()
            await self.go.wait()
            self.done.append(cents)
            return cents

        return create_durable_agent(agent=Agent("payer", model=ScriptedModel(), tools=[pay]), app=app)

    async def life(self, run_id: str) -> list[Chunk]:
        """Reads the run to its end."""
        app = App("office")
        durable = self.durable(app)
        async with embedded(app, db=self.file):
            return await read(await durable.stream('!tool pay {"cents": 5}', run_id=run_id))

    async def lose(self, run_id: str) -> list[Chunk]:
        """Loses the lease of the run in the middle of its tool; what is heard until all is quiet."""
        app, heard = App("office"), list[Chunk]()
        durable = self.durable(app)
        async with embedded(app, db=self.file, shutdown_timeout=0.5):
            run = await durable.stream('!tool pay {"cents": 5}', run_id=run_id)
            reading = asyncio.create_task(_collect(run, heard))
            await self.begun.wait()
            engine_run = (await durable.get_run(run_id)).engine_run_id
            with closing(sqlite3.connect(self.file, isolation_level=None)) as thief:
                stolen = thief.execute("UPDATE job SET node = 'other', token = token + 1 WHERE id = ?", (engine_run,))
                assert stolen.rowcount == 1
            self.go.set()
            await asyncio.sleep(0.2)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return heard


async def test_who_has_lost_its_lease_records_and_says_nothing(tmp_path: Path) -> None:
    """A worker that was given up goes on to the end of its tool: another one has the run by then."""
    payer = Payer(tmp_path)
    first = await payer.lose("r-1")
    assert payer.done == [5]
    assert first[-1].type in ("tool-call", "tool-result", ROLLBACK) and "finish" not in kinds(first)
    whole = await payer.life("r-1")
    # It was never recorded, so it is done by whoever has the run now.
    assert payer.done == [5, 5]
    # Whoever came before it was taken back is told so.
    told = [kind for kind in kinds(whole) if kind in ("tool-result", ROLLBACK)]
    assert told in (["tool-result"], ["tool-result", ROLLBACK, "tool-result"])
    assert kinds(await payer.life("r-1")) == kinds(await payer.life("r-2"))


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


async def test_a_reader_is_told_that_its_engine_stops_and_goes_on_at_the_next(tmp_path: Path) -> None:
    def talker(app: App) -> DurableAgent:
        return create_durable_agent(agent=Agent("talker", model=ScriptedModel()), app=app)

    first, second = App("office"), App("office")
    durable, heard = talker(first), list[Chunk]()
    async with embedded(first, db=tmp_path / "office.db", shutdown_timeout=0.1):
        run = await durable.stream("!slow 20 30", run_id="r-1")
        reading = asyncio.create_task(_collect(run, heard))
        while len(heard) < 6:
            await asyncio.sleep(0.01)
    with pytest.raises(StreamInterruptedError, match=f"offset={run.cursor}"):
        await reading
    durable = talker(second)
    async with embedded(second, db=tmp_path / "office.db"):
        rest = await read(await durable.observe("r-1", offset=run.cursor))
        whole = await read(await durable.observe("r-1"))
    assert rest[0].type == ROLLBACK and rest[-1].type == "finish"
    assert text_of(rest) == text_of(whole) and len(text_of(whole).split()) == 20
