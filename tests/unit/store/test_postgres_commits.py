"""What the writer promises on PostgreSQL: all of a decision or nothing, no answer before the commit, none lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing

import pytest

from perdure.engine import reads
from perdure.engine.mutations import DeleteSlots, PutEvent, PutIdempotency, PutPause, PutSlot
from perdure.engine.turn import Decision, Read
from perdure.model.errors import StoreError
from perdure.store.postgres import PostgresStore
from perdure.store.postgres.link import Link
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession


@asynccontextmanager
async def opened(url: str, patience: float = 10.0) -> AsyncGenerator[PostgresStore]:
    store = PostgresStore(url, patience=patience)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def put(key: str, owner: str) -> Callable[[], Decision[int]]:
    """Takes a slot; answers how many are taken."""

    def begin() -> Decision[int]:
        yield PutSlot(key, owner)
        return (yield from reads.slots_taken(key, ""))

    return begin


def event(name: str) -> Callable[[], Decision[str]]:
    """A decision that is plain."""

    def begin() -> Decision[str]:
        yield PutEvent(name, name, 0, 0, b"{}")
        yield from reads.pauses_on([name])
        return name

    return begin


def failing(key: str) -> Callable[[], Decision[int]]:
    def begin() -> Decision[int]:
        yield PutSlot(key, "failing")
        raise LookupError("not today")

    return begin


async def owners(store: PostgresStore, key: str) -> int:
    return await store.view(lambda: reads.slots_taken(key, ""))


async def test_decisions_that_arrive_together_are_committed_together(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        answers = await asyncio.gather(*(store.submit(put("k", str(n))) for n in range(100)))
        assert answers == list(range(1, 101))
        assert store._writer is not None
        assert store._writer._link.seq < 20


async def test_a_failing_decision_harms_nobody_else(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        submitted = [store.submit(failing("k") if n % 10 == 5 else put("k", str(n))) for n in range(40)]
        answers = await asyncio.gather(*submitted, return_exceptions=True)
        assert [isinstance(answer, LookupError) for answer in answers] == [n % 10 == 5 for n in range(40)]
        assert await owners(store, "k") == 36


async def test_a_refusing_database_is_a_store_error(postgres_url: str) -> None:
    def begin() -> Decision[None]:
        yield PutIdempotency("key", "event", "not a number")  # type: ignore[arg-type]

    async with opened(postgres_url) as store:
        with pytest.raises(StoreError, match="refused a change"):
            await store.submit(begin)
        assert await store.submit(put("k", "next")) == 1


async def test_a_plain_decision_that_the_database_refuses_harms_nobody_else(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        await store.submit(event("e1"))
        answers = await asyncio.gather(*(store.submit(event(f"e{n}")) for n in range(4)), return_exceptions=True)
    assert isinstance(answers.pop(1), StoreError)
    assert answers == ["e0", "e2", "e3"]


async def test_a_name_that_another_node_waits_for_is_seen(postgres_url: str) -> None:
    """A decision that is plain to its node is not, once another node's run waits for the event."""

    def wait() -> Decision[None]:
        yield PutPause("p", "r", "s", "event", "late", None, None, None, 0, None)

    def ask() -> Decision[list[tuple[str, str | None]]]:
        return (yield from reads.pauses_on(["late"]))

    async with opened(postgres_url) as one, opened(postgres_url) as other:
        assert await one.submit(ask) == []
        await other.submit(wait)
        assert await one.submit(ask) == [("late", None)]


async def test_writes_of_several_decisions_keep_their_order(postgres_url: str) -> None:
    def turn(n: int) -> Callable[[], Decision[None]]:
        def begin() -> Decision[None]:
            yield PutSlot("k", f"a{n}")
            yield DeleteSlots("k", f"a{n}", f"a{n}/")
            yield PutSlot("k", f"b{n}")
            yield PutIdempotency("i", f"event {n}", n)

        return begin

    async with opened(postgres_url) as store:
        await asyncio.gather(*(store.submit(turn(n)) for n in range(20)))
        assert await owners(store, "k") == 20
        assert await store.view(lambda: reads.idempotent_event("i", 0)) == "event 19"


async def test_views_see_one_state(postgres_url: str) -> None:
    def twice() -> Decision[tuple[int, int]]:
        first = yield from reads.slots_taken("k", "")
        return first, (yield from reads.slots_taken("k", ""))

    async with opened(postgres_url) as store:
        writes = [store.submit(put("k", str(n))) for n in range(100)]
        seen = await asyncio.gather(*(store.view(twice) for _ in range(50)))
        await asyncio.gather(*writes)
    assert [pair for pair in seen if pair[0] != pair[1]] == []


async def test_a_view_cannot_write(postgres_url: str) -> None:
    def begin() -> Decision[None]:
        yield PutSlot("k", "reader")

    async with opened(postgres_url) as store:
        with pytest.raises(StoreError, match="could not be read"):
            await store.view(begin)


async def test_closing_commits_what_was_submitted(postgres_url: str) -> None:
    async with opened(postgres_url) as store:
        submitted = [store.submit(put("k", str(n))) for n in range(50)]
    await asyncio.gather(*submitted)
    async with opened(postgres_url) as store:
        assert await owners(store, "k") == 50


async def test_a_closed_store_says_so() -> None:
    with pytest.raises(StoreError, match="is not open"):
        await PostgresStore("postgresql://127.0.0.1/none").view(lambda: reads.slots_taken("k", ""))


async def test_a_read_without_a_statement_is_an_error(postgres_url: str) -> None:
    def begin() -> Decision[None]:
        yield Read("nonsense", ())

    async with opened(postgres_url) as store:
        with pytest.raises(KeyError, match="nonsense"):
            await store.submit(begin)


async def test_connections_that_are_cut_again_and_again_lose_and_double_nothing(postgres_url: str) -> None:
    """The server ends every session at random moments; each decision counts what was there before it."""

    async def cut(stop: asyncio.Event) -> None:
        while not stop.is_set():
            await asyncio.sleep(chance.uniform(0.01, 0.1))
            cutter.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    chance = random.Random(1)
    with closing(PostgresSession(postgres_url)) as cutter:
        async with opened(postgres_url) as store:
            stop = asyncio.Event()
            cutting = asyncio.create_task(cut(stop))
            answers: list[int] = []
            for first in range(0, 300, 10):
                answers += await asyncio.gather(*(store.submit(put("k", f"{first + n}")) for n in range(10)))
                await asyncio.gather(*(store.submit(event(f"{first + n}")) for n in range(10)))
            stop.set()
            await cutting
        assert answers == list(range(1, 301))
        assert cutter.execute("SELECT count(*) FROM perdure.slot") == [(300,)]
        assert cutter.execute("SELECT count(*) FROM perdure.event") == [(300,)]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_whose_answer_is_lost_is_found_out_about(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, plain: bool, committed: bool
) -> None:
    name = "commit_plain" if plain else "commit"
    real = getattr(Link, name)
    calls = 0

    async def losing(self: Link, *args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            if committed:
                await real(self, *args)
                self.seq -= 1
            raise ConnectionResetError("the answer is lost")
        await real(self, *args)

    monkeypatch.setattr(Link, name, losing)
    async with opened(postgres_url) as store:
        if plain:
            assert await store.submit(event("e")) == "e"
        else:
            assert await store.submit(put("k", "o")) == 1
    assert calls == (1 if committed else 2)


async def test_an_old_transaction_that_arrives_late_is_refused(postgres_url: str) -> None:
    """The connection broke and was made anew; what was sent on the old one must not take effect any more."""
    async with opened(postgres_url) as store:
        assert store._writer is not None
        link = store._writer._link
        old = Link(store._dsn, link._writer)
        old.connection, old.seq, old._fence = await store._dsn.connect(), link.seq, link._fence
        await link.join()
        with pytest.raises(Exception, match="fenced off"):
            await old.begin()
        await old.close()
        assert await store.submit(put("k", "o")) == 1


async def test_a_node_that_is_paused_in_its_transaction_does_not_hold_up_the_others(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock and says nothing: the server ends its session, and what it decided is decided again."""
    async with opened(postgres_url) as one, opened(postgres_url) as other:
        assert one._writer is not None
        its, holds, goes_on = one._writer._link, asyncio.Event(), asyncio.Event()
        real = Link.begin

        async def paused(self: Link) -> object:
            connection = await real(self)
            if self is its and not holds.is_set():
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '300ms'")
                holds.set()
                await goes_on.wait()
            return connection

        monkeypatch.setattr(Link, "begin", paused)
        first = asyncio.ensure_future(one.submit(put("k", "one")))
        await holds.wait()
        assert await asyncio.wait_for(asyncio.ensure_future(other.submit(put("k", "other"))), 5) == 1
        goes_on.set()
        assert await first == 2


async def test_what_waits_for_a_database_that_is_away_fails_in_time_and_works_again(
    postgres_server: PostgresServer,
) -> None:
    server = PostgresServer()
    try:
        server.start()
        async with opened(server.url(), patience=0.5) as store:
            assert await store.submit(put("k", "before")) == 1
            server.stop()
            with pytest.raises(StoreError, match="away"):
                await store.submit(put("k", "lost"))
            with pytest.raises(StoreError, match="could not be read"):
                await owners(store, "k")
            server.start()
            assert await store.submit(put("k", "after")) == 2
            assert await owners(store, "k") == 2
    finally:
        server.remove()


async def test_a_restart_of_the_server_is_waited_for() -> None:
    server = PostgresServer()
    try:
        server.start()
        async with opened(server.url()) as store:
            submitted = [store.submit(put("k", str(n))) for n in range(5)]
            await asyncio.to_thread(server.stop)
            submitted += [store.submit(put("k", str(n))) for n in range(5, 10)]
            await asyncio.to_thread(server.start)
            assert await asyncio.gather(*submitted) == list(range(1, 11))
    finally:
        server.remove()


async def test_without_prepared_statements_it_works_the_same(postgres_url: str) -> None:
    async with opened(postgres_url + "?statement_cache_size=0") as store:
        assert await asyncio.gather(*(store.submit(put("k", str(n))) for n in range(9))) == list(range(1, 10))
        assert await store.submit(event("e")) == "e"
        assert await owners(store, "k") == 9
