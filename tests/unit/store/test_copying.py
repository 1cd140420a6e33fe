"""Databases moved between files and PostgreSQL: every table arrives, and what was under way goes on and ends right."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from perdure import App, BatchEvents, Concurrency, Context, Debounce, RunHandle, embedded, step, stream
from perdure.agents import Agent, create_durable_agent, tool
from perdure.agents.durable import DurableAgent
from perdure.apps.transport import Reply
from perdure.engine import views
from perdure.model.errors import StoreError, StoreLockedError
from perdure.model.json import Json
from perdure.store.copying import Copied, copy, copy_database, ends
from perdure.store.copying.ends import OWN, Row
from perdure.store.sqlite.migrate import migrations
from perdure.testing import ScriptedModel, VirtualClock
from tests.support.postgres import PostgresServer
from tests.support.remote_app import Received, RemoteApp, calling, done, op, ops, reply
from tests.support.stores import opened

LARGE = 100_000


def build() -> App:
    app = App("c")

    @app.function("sleep", trigger="c/sleep")
    async def sleep(ctx: Context) -> str:
        text = await step.run("before", lambda: "x" * LARGE)
        await step.run("say", lambda: stream.push("so far"))
        await step.sleep("nap", "1h")
        await step.run("say more", lambda: stream.push("after all"))
        return text[:2]

    @app.function("wait", trigger="c/wait")
    async def wait(ctx: Context) -> Json:
        event = await step.wait_for_event("go", event="c/go", match="data.n", timeout="7d")
        return None if event is None else event.data["answer"]

    @app.function("signal", trigger="c/signal")
    async def signalled(ctx: Context) -> Json:
        return await step.wait_for_signal("pick", signal="picked", timeout="7d")

    @app.function("one", trigger="c/one", concurrency=[Concurrency(1)])
    async def one(ctx: Context) -> Json:
        await step.sleep("nap", "2h")
        return await step.run("n", lambda: ctx.event.data["n"])

    @app.function("late", trigger="c/late", debounce=Debounce(period="3h"))
    async def late(ctx: Context) -> Json:
        return ctx.event.data["n"]

    @app.function("many", trigger="c/many", batch_events=BatchEvents(max_size=3, timeout="10m"))
    async def many(ctx: Context) -> list[Json]:
        return [event.data["n"] for event in ctx.events]

    return app


BEGUN = (
    {"name": "c/sleep", "id": "sleep"},
    {"name": "c/wait", "id": "wait", "data": {"n": 5}},
    {"name": "c/signal", "id": "signal"},
    {"name": "c/one", "id": "one-1", "data": {"n": 1}},
    {"name": "c/one", "id": "one-2", "data": {"n": 2}},
    {"name": "c/late", "id": "late-1", "data": {"n": 1}},
    {"name": "c/late", "id": "late-2", "data": {"n": 2}},
    {"name": "c/many", "id": "many-1", "data": {"n": 1}},
    {"name": "c/many", "id": "many-2", "data": {"n": 2}},
)


async def begin(db: str, clock: VirtualClock) -> None:
    async with embedded(build(), db=db, clock=clock) as node:
        for event in BEGUN:
            await node.send([{"data": {}, **event}])
            await node.settle()


async def end(db: str, clock: VirtualClock) -> tuple[dict[str, list[Json]], list[Json]]:
    """What the runs give in the end, by their function, and what the sleeping one has said."""
    async with embedded(build(), db=db, clock=clock) as node:
        await clock.advance("1m")
        for event in (
            {"name": "c/go", "data": {"n": 4, "answer": "no"}},
            {"name": "c/go", "data": {"n": 5, "answer": "yes"}},
            {"name": "c/many", "data": {"n": 3}},
            # It was accepted before the copy.
            {"name": "c/sleep", "id": "sleep"},
        ):
            await node.send([event])
        await node.signal("picked", "that")
        await clock.advance("8h")
        results: dict[str, list[Json]] = {}
        said: list[Json] = []
        for run in await node.view(lambda: views.list_runs(100, oldest_first=True)):
            handle: RunHandle[Json] = node.run(run.id)
            results.setdefault(run.function_id, []).append(await handle.result(timeout=5))
            if run.function_id == "c-sleep":
                said += [event.data async for event in handle.stream() if event.kind == "data"]
        health = await node.health()
        assert (health.orphans, health.leaked_slots, health.jobs) == ([], [], {})
        return results, said


RIGHT = (
    {
        "c-sleep": ["xx"],
        "c-wait": ["yes"],
        "c-signal": [{"signal": "picked", "data": "that"}],
        "c-one": [1, 2],
        "c-late": [2],
        "c-many": [[1, 2, 3]],
    },
    ["so far", "after all"],
)


async def copied(source: str, target: str) -> dict[str, int]:
    told: list[Copied] = []
    done = await copy_database(source, target, told.append)
    assert told == done
    return {each.table: each.rows for each in done if each.rows}


@pytest.mark.parametrize("way", ["file to file", "file to server", "server to file", "server to server"])
async def test_what_was_under_way_goes_on_and_ends_right(
    way: str, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    source, target = (
        str(tmp_path / f"{number}.db") if kind == "file" else postgres_server.new_database()
        for number, kind in enumerate(way.split(" to "))
    )
    clock = VirtualClock()
    await begin(source, clock)
    await orphan_a_lease(source)
    counts = await copied(source, target)
    assert counts["run"] == 5 and counts["blob"] == 1 and counts["pause"] == 2 and counts["batch_item"] == 2
    assert await end(target, clock) == RIGHT


async def orphan_a_lease(db: str) -> None:
    """As a node leaves it that is killed while it drives the run that sleeps."""
    sql = "UPDATE {}job SET state = 2, node = 'gone', token = token + 1 WHERE state = 4 AND function_id = 'c-sleep'"
    if db.startswith("postgresql:"):
        connection = await asyncpg.connect(db)
        assert await connection.execute(sql.format("perdure.")) == "UPDATE 1"
        await connection.close()
    else:
        with closing(sqlite3.connect(db)) as file, file:
            assert file.execute(sql.format("")).rowcount == 1


def tables_of(path: Path) -> dict[str, list[tuple[str, str, int]]]:
    """The columns of every table of a copy: name, type, and whether it may be empty."""
    with closing(sqlite3.connect(path)) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: [(row[1], row[2], not row[3] and not row[5]) for row in file.execute(f"PRAGMA table_info({name})")]
            for name in names
            if name not in OWN and not name.startswith("sqlite_")
        }


def contents(path: Path) -> dict[str, list[Row]]:
    with closing(sqlite3.connect(path)) as file:
        return {
            table: sorted(file.execute(f"SELECT {', '.join(name for name, _, _ in columns)} FROM {table}"), key=repr)
            for table, columns in tables_of(path).items()
        }


async def test_every_table_arrives_and_comes_back_as_it_was(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Many batches: threads take turns with one connection.
    monkeypatch.setattr(ends, "_MANY", 2)
    first, second, server = tmp_path / "first.db", tmp_path / "second.db", postgres_server.new_database()
    async with opened(first):
        pass
    with closing(sqlite3.connect(first)) as file, file:
        for table, columns in tables_of(first).items():
            for number in range(450):
                row = [
                    None if may_be_empty and number % 3 == 0 else of_type(kind, number)
                    for _, kind, may_be_empty in columns
                ]
                file.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    assert len(tables_of(first)) > 25
    counts = await copied(str(first), server)
    assert counts == dict.fromkeys(tables_of(first), 450)
    assert await copied(server, str(second)) == counts
    assert contents(second) == contents(first)


def of_type(kind: str, number: int) -> Json:
    if kind == "TEXT":
        # Its order by bytes is another one than that of a language.
        return f"{'aBé€😀'[number % 5]}-{number}"
    return number / 3 if kind == "REAL" else number - 7 if kind == "INTEGER" else b"\x00\xff%d" % number


async def test_names_that_are_waited_for_are_known_at_the_target(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    clock, server = VirtualClock(), postgres_server.new_database()
    await begin(str(tmp_path / "a.db"), clock)
    await copied(str(tmp_path / "a.db"), server)
    connection = await asyncpg.connect(server)
    try:
        assert [row[0] for row in await connection.fetch("SELECT name FROM perdure.pause_name")] == ["c/go"]
    finally:
        await connection.close()


async def test_one_that_is_in_use_is_refused(tmp_path: Path, postgres_server: PostgresServer) -> None:
    server, other = postgres_server.new_database(), postgres_server.new_database()
    path, free = tmp_path / "used.db", str(tmp_path / "free.db")
    async with embedded(build(), db=path), embedded(build(), db=server):
        for source, target in ((str(path), free), (server, free), (free, str(path)), (free, server)):
            with pytest.raises(StoreLockedError if str(path) in (source, target) else StoreError) as caught:
                if free == source:
                    async with opened(free):
                        pass
                await copied(source, target)
            assert "in use" in str(caught.value)
    # Once they have stopped it can be done.
    await copied(str(path), other)


async def test_a_node_that_starts_during_a_copy_waits(tmp_path: Path, postgres_server: PostgresServer) -> None:
    server, clock = postgres_server.new_database(), VirtualClock()
    await begin(str(tmp_path / "a.db"), clock)
    starting: list[asyncio.Task[tuple[dict[str, list[Json]], list[Json]]]] = []

    def start(_: Copied) -> None:
        if not starting:
            starting.append(asyncio.create_task(end(server, clock)))

    await copy_database(str(tmp_path / "a.db"), server, start)
    assert await starting[0] == RIGHT


async def test_a_target_with_data_is_refused_and_left_as_it_is(tmp_path: Path, postgres_server: PostgresServer) -> None:
    clock, server = VirtualClock(), postgres_server.new_database()
    source, path = str(tmp_path / "a.db"), tmp_path / "b.db"
    await begin(source, clock)
    for target in (server, str(path)):
        await begin(target, VirtualClock())
        with pytest.raises(StoreError, match=r"is not empty \(table \w+\): copy into a new database"):
            await copied(source, target)
    before = contents(path)
    with pytest.raises(StoreError):
        await copied(source, str(path))
    assert contents(path) == before


async def test_nothing_stays_of_a_copy_that_fails(
    tmp_path: Path, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, server = VirtualClock(), postgres_server.new_database()
    source, path = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    await begin(source, clock)
    right = copy._Sum.add

    def lossy(self: copy._Sum, rows: list[Row]) -> None:
        right(self, rows[1:] if self.rows == 0 and len(seen) % 2 else rows)
        seen.append(0)

    seen: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(copy._Sum, "add", lossy)
        for target in (server, path):
            with pytest.raises(StoreError, match=r"rows of table \w+ left, .*; nothing was copied"):
                await copied(source, target)
    for target in (server, path):
        assert (await copied(source, target))["run"] == 5
    assert await end(path, clock) == RIGHT


async def test_a_text_that_postgresql_cannot_hold_is_named(tmp_path: Path, postgres_server: PostgresServer) -> None:
    source = tmp_path / "a.db"
    async with opened(source):
        pass
    with closing(sqlite3.connect(source)) as file, file:
        file.execute("INSERT INTO secret VALUES ('a' || char(0), x'00')")
    with pytest.raises(StoreError, match="table secret has a NUL character in a text"):
        await copied(str(source), postgres_server.new_database())
    assert await copied(str(source), str(tmp_path / "b.db")) == {"secret": 1}


async def test_what_is_no_database_of_this_perdure_is_refused(tmp_path: Path, postgres_server: PostgresServer) -> None:
    path = tmp_path / "a.db"
    target = str(tmp_path / "b.db")
    with pytest.raises(StoreError, match="there is no file"):
        await copied(str(path), target)
    with pytest.raises(StoreError, match="same database"):
        await copied(str(path), str(tmp_path / "." / "a.db"))
    with pytest.raises(StoreError, match="is not a database of perdure, or an empty one"):
        await copied(postgres_server.new_database(), target)
    with pytest.raises(StoreError, match=r"^postgresql://u@nothing\.invalid/x: "):
        await copied("postgresql://u@nothing.invalid/x", target)
    with closing(sqlite3.connect(path)) as file:
        file.executescript(migrations()[0][1] + "PRAGMA user_version = 1;")
    with pytest.raises(StoreError, match=r"schema version 1, this perdure has \d+: start this perdure on it once"):
        await copied(str(path), target)
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA user_version = 999")
    with pytest.raises(StoreError, match="install a newer perdure"):
        await copied(str(path), target)


def desk(app: App) -> DurableAgent:
    @tool(requires_approval=True)
    def refund(cents: int) -> Json:
        """Pays money back."""
        return {"refunded": cents}

    return create_durable_agent(agent=Agent("desk", model=ScriptedModel(), tools=[refund]), app=app)


async def test_an_agent_that_waits_for_a_person_waits_on_at_the_target(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    source, target = str(tmp_path / "a.db"), postgres_server.new_database()
    app = App("helpdesk")
    agent = desk(app)
    async with embedded(app, db=source):
        run = await agent.stream('!tool refund {"cents": 42}', run_id="chat")
        assert (await run.output.result()).finish_reason == "suspended"
    assert (await copied(source, target))["approval"] == 1
    app = App("helpdesk")
    agent = desk(app)
    async with embedded(app, db=target):
        (waiting,) = (await agent.list_suspended_runs()).items
        assert [call.args for call in waiting.tool_calls] == [{"cents": 42}]
        run = await agent.approve_tool_call("chat", "call_1", by="ada")
        assert (await run.output.result()).finish_reason == "stop"
        told = [chunk.type async for chunk in (await agent.observe("chat")).full_stream]
        assert told[0] == "start" and "tool-result" in told and told[-1] == "finish"


async def test_a_run_of_an_app_elsewhere_goes_on_without_its_steps_being_done_again(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    def answer(call: Received) -> Reply:
        if not call.has("one"):
            return ops(done("one", 1))
        if not call.has("nap"):
            return ops(op("Sleep", "nap", opts={"duration": "1h"}))
        return reply({"one": call.memo("one")})

    clock, db = VirtualClock(), str(tmp_path / "a.db")
    before, after = RemoteApp(answer), RemoteApp(answer)
    async with calling(before, db=db, clock=clock) as node:
        (event,) = await node.send([{"name": "t/f"}])
        await node.settle()
    target = postgres_server.new_database()
    assert (await copied(db, target))["function"] == 1
    async with calling(after, db=target, clock=clock) as node:
        await clock.advance("1h")
        (run,) = await node.runs_of(event)
        assert await run.result(timeout=5) == {"one": {"data": 1}}
    assert (len(before.calls), len(after.calls)) == (2, 1)
