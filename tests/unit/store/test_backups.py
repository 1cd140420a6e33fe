"""Backups that are taken while everything is under way: what they hold is whole, and goes on where it was."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from perdure import App, Context, embedded, step
from perdure.cli import main
from perdure.engine import views
from perdure.model.errors import StoreError
from perdure.model.json import Json
from perdure.model.records import Run, RunStatus
from perdure.node import Node
from perdure.store.sqlite.backup import back_up
from tests.support.postgres import PostgresServer
from tests.support.stores import opened

BEFORE = 60
"""How many events are accepted before the backup begins."""


def build() -> App:
    app = App("b")

    @app.function("three", trigger="b/three")
    async def three(ctx: Context) -> list[Json]:
        found = [await step.run("first", lambda: "x" * 40_000)]
        await step.sleep("nap", "50ms")
        return [len(found[0]), await step.run("second", lambda: ctx.event.data["n"])]

    @app.function("waits", trigger="b/waits")
    async def waits(ctx: Context) -> Json:
        event = await step.wait_for_event("go", event="b/go", timeout="1h")
        return None if event is None else event.data

    return app


async def under_load(db: str, take: Callable[[], Coroutine[None, None, None]]) -> None:
    """Takes a backup of a database while a node works on it, and some more events come in afterwards."""
    async with embedded(build(), db=db, lifetime=1) as node:
        await node.send([{"name": "b/waits"}])
        accepted = 0

        async def load() -> None:
            nonlocal accepted
            for number in itertools.count():
                await node.send([{"name": "b/three", "id": f"e{number}", "data": {"n": number}}])
                accepted += 1
                await asyncio.sleep(0.002)

        loading = asyncio.create_task(load())
        while accepted < BEFORE:
            await asyncio.sleep(0.005)
        await take()
        at_its_end = accepted
        while accepted < at_its_end + 20:
            await asyncio.sleep(0.005)
        loading.cancel()


async def goes_on(db: str) -> None:
    """Opens a backup: whatever was accepted before it began is there, and ends right."""
    async with embedded(build(), db=db, lifetime=1) as node, asyncio.timeout(30):
        await node.send([{"name": "b/go", "data": {"it": "goes on"}}])
        while any(run.status < RunStatus.COMPLETED for run in await runs(node)):
            await asyncio.sleep(0.05)
        found = await runs(node)
        results: list[Json] = [await node.run(run.id).result() for run in found if run.function_id == "b-three"]
        assert len(results) >= BEFORE
        assert sorted(results) == [[40_000, number] for number in range(len(results))]
        assert [await node.run(run.id).result() for run in found if run.function_id == "b-waits"] == [{"it": "goes on"}]
        health = await node.health()
        assert (health.orphans, health.leaked_slots, health.jobs) == ([], [], {})


async def runs(node: Node) -> list[Run]:
    return await node.view(lambda: views.list_runs(10_000))


async def test_a_file_is_backed_up_while_a_node_works_on_it(tmp_path: Path) -> None:
    source, target = tmp_path / "shop.db", tmp_path / "backups" / "monday.db"
    arguments = ["db", "backup", str(source), str(target)]

    async def take() -> None:
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        assert result.exit_code == 0 and "complete and checked" in result.output, result.output

    await under_load(str(source), take)
    assert [path.name for path in target.parent.iterdir()] == ["monday.db"]
    await goes_on(str(target))


async def test_postgresql_is_dumped_and_restored(postgres_server: PostgresServer, tmp_path: Path) -> None:
    source, target = postgres_server.new_database(), postgres_server.new_database()
    dump = tmp_path / "shop.dump"

    async def take() -> None:
        await call(postgres_server, "pg_dump", "--format=custom", "--schema=perdure", f"--file={dump}", source)

    await under_load(source, take)
    await call(postgres_server, "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={target}", str(dump))
    await goes_on(target)


async def call(server: PostgresServer, program: str, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(str(server.binaries / program), *arguments)
    assert await process.wait() == 0


async def test_what_cannot_be_backed_up_is_said_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    with pytest.raises(StoreError, match="there is no file"):
        back_up(source, target)
    with closing(sqlite3.connect(source)) as file:
        file.execute("CREATE TABLE theirs (id)")
    with pytest.raises(StoreError, match="is not a database of perdure"):
        back_up(source, target)
    source.write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(StoreError, match="cannot back up"):
        back_up(source, target)
    source.unlink()
    async with opened(source):
        target.touch()
        with pytest.raises(StoreError, match="exists already"):
            back_up(source, target)
        target.unlink()
        (tmp_path / "folder").touch()
        with pytest.raises(StoreError, match="cannot back up"):
            back_up(source, tmp_path / "folder" / "b.db")
    assert not list(tmp_path.glob("b.db*"))


def test_postgresql_has_tools_of_its_own() -> None:
    result = CliRunner().invoke(main, ["db", "backup", "postgresql://db/shop", "b.db"])
    assert result.exit_code == 2 and "pg_dump" in result.output
