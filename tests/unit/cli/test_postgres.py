"""Commands on a database of PostgreSQL."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from perdure import App, Concurrency, Context, embedded, step
from perdure.cli import main
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession
from tests.support.valkey import ValkeyServer


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


async def test_doctor_tells_how_a_cluster_stands(postgres_url: str, valkey_server: ValkeyServer) -> None:
    app = App("shop")
    go = asyncio.Event()

    @app.function("slow", trigger="shop/slow", concurrency=[Concurrency(1)])
    async def slow(ctx: Context) -> None:
        await go.wait()

    def report() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for finding in json.loads(run("doctor", "--db", postgres_url, "--json").output):
            found.setdefault(finding["topic"], []).append(f"{finding['level']}: {finding['text']}")
        return found

    session = PostgresSession(postgres_url)
    async with (
        embedded(app, db=postgres_url, bus=valkey_server.url) as one,
        embedded([], db=postgres_url, bus=valkey_server.url) as other,
    ):
        await one.send([{"name": "shop/slow"} for _ in range(3)])
        async with asyncio.timeout(30):
            while not (one.has_bus and other.has_bus):
                await asyncio.sleep(0.01)
        found = await asyncio.to_thread(report)
        nodes = {one.id: 1, other.id: 0}
        assert found["nodes"] == [f"ok: 2 alive: {', '.join(f'{id} ({nodes[id]} leases)' for id in sorted(nodes))}"]
        assert found["bus"] == ["ok: news travel over the bus that all nodes hear"]
        assert found["lag"] == ["ok: nothing is late"]
        assert found["queue"] == ["ok: shop-slow: 0 ready, 2 blocked, 1 executing"]
        go.set()
        await asyncio.wait_for(one.drain(), 30)
    session.execute(
        "INSERT INTO perdure.node (id, alive_until) VALUES ('dead', 5);"
        "INSERT INTO perdure.job (id, kind, state, function_id, due_at, rank, node, token, attempt, woken, blocked_on)"
        " VALUES ('a', 'run', 2, 'shop-slow', 0, 0, 'dead', 0, 0, 0, NULL),"
        " ('b', 'run', 2, 'shop-slow', 0, 0, 'forgotten', 0, 0, 0, NULL),"
        " ('c', 'run', 1, 'shop-slow', 0, 0, NULL, 0, 0, 0, NULL),"
        " ('d', 'run', 3, 'shop-slow', 0, 0, NULL, 0, 0, 0, '@defect')"
    )
    session.close()
    found = await asyncio.to_thread(report)
    assert found["nodes"] == ["ok: 0 alive", "note: gone without a farewell: dead (1 leases)"]
    assert found["leases"] == ["note: 2 runs are held by nodes that are gone; others take them over when they start"]
    assert found["lag"][0].startswith("note: what is due or ready is up to 1") and "no server runs" in found["lag"][0]
    assert found["queue"] == ["ok: shop-slow: 1 ready, 1 blocked, 2 executing"]
    assert found["stuck"][0].startswith("warning: ") and found["stuck"][0].endswith(": d")


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
