"""Commands on a database of PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from perdure import App, Context, embedded, step
from perdure.cli import main
from tests.support.postgres import PostgresServer


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def used(url: str) -> None:
    """Leaves a run that has ended, and one that waits."""
    app = App("shop")

    @app.function("quick", trigger="shop/quick")
    async def quick(ctx: Context) -> int:
        return await step.run("one", int, 1)

    @app.function("slow", trigger="shop/slow")
    async def slow(ctx: Context) -> None:
        await step.sleep("long", "1d")

    async def work() -> None:
        async with embedded(app, db=url) as engine:
            await (await engine.trigger(quick)).result(timeout=5)
            await engine.trigger(slow)
            await engine.settle()

    asyncio.run(work())


def test_doctor_tells_what_is_there(postgres_url: str) -> None:
    used(postgres_url)
    result = run("doctor", "--db", postgres_url, "--json")
    assert result.exit_code == 0, result.output
    found = {finding["topic"]: finding["text"] for finding in json.loads(result.output)}
    assert found["nodes"] == "0 alive"
    assert found["runs"] == "1 running, 1 completed"
    assert found["orphans"] == "no runs without a next wake-up"


def test_doctor_changes_nothing_in_a_database_that_is_not_perdures(postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    result = run("doctor", "--db", url)
    assert result.exit_code == 1
    assert "this is not a database of perdure, or an empty one" in result.output


@pytest.mark.parametrize("command", ["doctor", "gc"])
def test_a_server_that_is_not_there_is_said_so_without_its_password(command: str) -> None:
    result = run(command, "--db", "postgresql://app:secret@127.0.0.1:1/shop")
    assert result.exit_code == 1
    assert "postgresql://app:***@127.0.0.1:1/shop" in result.output
    assert "secret" not in result.output


def test_gc_removes_what_is_past_its_time(postgres_url: str) -> None:
    used(postgres_url)
    result = run("gc", "--db", postgres_url, "--completed", "0s", "--events", "0s")
    assert result.exit_code == 0, result.output
    assert "removed 1 runs and 1 events" in result.output
