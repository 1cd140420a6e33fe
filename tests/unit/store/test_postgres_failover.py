"""The primary dies and its standby takes over: the node goes on there, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import closing

import pytest

from perdure import App, Context, embedded, step
from perdure.engine import reads
from perdure.engine.mutations import PutSlot
from perdure.engine.turn import Decision
from perdure.store.postgres import PostgresStore
from tests.support.postgres import FAST, PostgresServer
from tests.support.postgres_session import PostgresSession


class Pair:
    """A primary, and a standby that has all that is committed, under one URL."""

    def __init__(self) -> None:
        self.primary = PostgresServer(settings=FAST)
        self.primary.start()
        self.standby = PostgresServer(settings=FAST, primary=self.primary)
        self.standby.start()
        # Nothing is acknowledged that the standby has not.
        self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.primary.execute("SELECT pg_reload_conf()")

    def url(self) -> str:
        name = self.primary.new_database().rpartition("/")[2]
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"

    def fail_over(self) -> None:
        self.primary.stop(signal.SIGQUIT)
        with closing(PostgresSession(self.standby.url())) as session:
            session.execute("SELECT pg_promote()")

    def remove(self) -> None:
        self.primary.remove()
        self.standby.remove()


@pytest.fixture
def pair() -> Generator[Pair]:
    made = Pair()
    yield made
    made.remove()


def put(owner: int) -> Decision[int]:
    """Takes a slot; answers how many are taken."""
    yield PutSlot("k", str(owner))
    return (yield from reads.slots_taken("k", ""))


async def test_a_failover_loses_and_doubles_nothing(pair: Pair) -> None:
    url = pair.url()
    app = App("t")
    given: dict[str, list[int]] = {}

    async def work(run_id: str, number: int) -> int:
        given.setdefault(run_id, []).append(number)
        await asyncio.sleep(0.005)
        return number

    @app.function("f", trigger="t/f")
    async def f(ctx: Context) -> list[int]:
        return [await step.run(f"s{number}", work, ctx.run_id, number) for number in range(5)]

    store = PostgresStore(url)
    async with embedded(app, db=url) as node:
        await store.open()
        runs = [await node.trigger("t-f") for _ in range(100)]
        first = [store.submit(lambda owner=owner: put(owner)) for owner in range(50)]  # type: ignore[misc]
        failing = asyncio.create_task(asyncio.to_thread(pair.fail_over))
        answers: list[int] = list(await asyncio.gather(*first))
        for owner in range(50, 200):
            answers.append(await store.submit(lambda owner=owner: put(owner)))  # type: ignore[misc]
            await asyncio.sleep(0.002)
        await failing
        assert [await run.result(timeout=60) for run in runs] == [list(range(5))] * 100
        assert answers == list(range(1, 201))
        # No step that was recorded is done again.
        assert all(len(numbers) <= 6 for numbers in given.values())
        health = await node.health()
        await store.close()
    assert health.orphans == [] and health.jobs == {}
