"""Every version of PostgreSQL from 14 on: the schema, all statements, and runs on two nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import asyncpg
import pytest

from perdure import App, Context, embedded, step
from perdure.store.postgres.statements import QUERIES, WRITES
from tests.support.both_stores import migrated
from tests.support.postgres import PostgresServer
from tests.support.postgres_binaries import VERSIONS

SEVERAL = {"begin", "begin_view", "create_versions"}
"""Those that are no single statement with parameters."""


@pytest.fixture(scope="module", params=VERSIONS)
def url(request: pytest.FixtureRequest) -> Generator[str]:
    """A database with perdure's schema, on a server of each version."""
    server = PostgresServer(request.param)
    try:
        server.start()
        yield migrated(server)
    finally:
        server.remove()


async def test_every_statement_is_valid(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert connection.get_server_version().major in VERSIONS
        statements = [query.sql for name, query in QUERIES.items() if name not in SEVERAL]
        for sql in (*statements, *(write.sql for write in WRITES.values())):
            await connection.prepare(sql)
    finally:
        await connection.close()


async def test_two_nodes_work(url: str) -> None:
    def build() -> App:
        app = App("t")

        @app.function("f", trigger="t/f", concurrency=3)
        async def f(ctx: Context) -> list[int]:
            first = await step.run("first", int, 1)
            await step.sleep("nap", "10ms")
            event = await step.wait_for_event("go", event="t/go", match="data.n", timeout="1h")
            return [first, event.data["n"] if event else -1]

        @app.function("plain", trigger="t/plain")
        async def plain(ctx: Context) -> list[int]:
            return [await step.run(f"{n}", int, n) for n in range(3)]

        return app

    async with embedded(build(), db=url) as one, embedded(build(), db=url) as other:
        waiting = [await one.trigger("t-f", {"n": n}) for n in range(6)]
        plain = [await node.trigger("t-plain") for node in (one, other) for _ in range(10)]
        assert [await run.result(timeout=30) for run in plain] == [[0, 1, 2]] * 20
        results: asyncio.Future[list[list[int]]] = asyncio.gather(
            *(other.run(run.run_id).result(timeout=30) for run in waiting)
        )
        while not results.done():
            # Not all of them wait already.
            await other.send([{"name": "t/go", "data": {"n": n}} for n in range(6)])
            await asyncio.sleep(0.05)
        assert await results == [[1, n] for n in range(6)]
        health = await one.health()
    assert health.orphans == [] and health.leaked_slots == []
