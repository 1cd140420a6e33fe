"""What the writer promises: all of a decision or nothing of it, and no answer before the commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.engine import reads
from perdure.engine.mutations import PutIdempotency, PutSlot
from perdure.engine.turn import Decision, Read
from perdure.model.errors import StoreError
from perdure.store.sqlite import SqliteStore, writer
from tests.support.stores import opened


def put(key: str, owner: str) -> Callable[[], Decision[int]]:
    """Takes a slot; answers how many are taken."""

    def begin() -> Decision[int]:
        yield PutSlot(key, owner)
        return (yield from reads.slots_taken(key, ""))

    return begin


def failing(key: str) -> Callable[[], Decision[int]]:
    def begin() -> Decision[int]:
        yield PutSlot(key, "failing")
        raise LookupError("not today")

    return begin


async def owners(store: SqliteStore, key: str) -> int:
    return await store.view(lambda: reads.slots_taken(key, ""))


async def test_decisions_that_arrive_together_are_committed_together(tmp_path: Path) -> None:
    commits: list[int] = []
    real = writer.commit

    def counted(*args: object) -> object:
        commits.append(len(args[-1]))  # type: ignore[arg-type]
        return real(*args)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "commit", counted)
        async with opened(tmp_path / "db") as store:
            answers = await asyncio.gather(*(store.submit(put("k", str(n))) for n in range(100)))
    assert answers == list(range(1, 101))
    assert sum(commits) == 100
    assert len(commits) < 50


async def test_a_failing_decision_harms_nobody_else(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        submitted = [store.submit(failing("k") if n % 10 == 5 else put("k", str(n))) for n in range(40)]
        answers = await asyncio.gather(*submitted, return_exceptions=True)
        assert [isinstance(answer, LookupError) for answer in answers] == [n % 10 == 5 for n in range(40)]
        assert await owners(store, "k") == 36


async def test_a_refusing_database_is_a_store_error(tmp_path: Path) -> None:
    def begin() -> Decision[None]:
        yield PutIdempotency("key", "event", "not a number")  # type: ignore[arg-type]

    async with opened(tmp_path / "db") as store:
        with pytest.raises(StoreError, match="refused a change"):
            await store.submit(begin)
        assert await store.submit(put("k", "next")) == 1


async def test_nothing_is_answered_before_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is in the file, seen from another connection, at the moment when it is given."""
    early: list[str] = []
    real = writer._resolve

    def checked(outcomes: list[writer.Outcome]) -> None:
        other = sqlite3.connect(tmp_path / "db")
        stored = {row[0] for row in other.execute("SELECT owner FROM slot")}
        other.close()
        early.extend(str(outcome.result) for outcome in outcomes if str(outcome.result) not in stored)
        real(outcomes)

    def named(owner: str) -> Callable[[], Decision[str]]:
        def begin() -> Decision[str]:
            yield PutSlot("k", owner)
            return owner

        return begin

    monkeypatch.setattr(writer, "_resolve", checked)
    async with opened(tmp_path / "db") as store:
        await asyncio.gather(*(store.submit(named(str(n))) for n in range(200)))
    assert early == []


async def test_views_see_one_state(tmp_path: Path) -> None:
    def twice() -> Decision[tuple[int, int]]:
        first = yield from reads.slots_taken("k", "")
        return first, (yield from reads.slots_taken("k", ""))

    async with opened(tmp_path / "db") as store:
        writes = [store.submit(put("k", str(n))) for n in range(100)]
        seen = await asyncio.gather(*(store.view(twice) for _ in range(50)))
        await asyncio.gather(*writes)
    assert [pair for pair in seen if pair[0] != pair[1]] == []


async def test_a_view_cannot_write(tmp_path: Path) -> None:
    def begin() -> Decision[None]:
        yield PutSlot("k", "reader")

    async with opened(tmp_path / "db") as store:
        with pytest.raises(StoreError, match="could not be read"):
            await store.view(begin)


async def test_closing_commits_what_was_submitted(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        submitted = [store.submit(put("k", str(n))) for n in range(50)]
    await asyncio.gather(*submitted)
    async with opened(tmp_path / "db") as store:
        assert await owners(store, "k") == 50


@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
async def test_the_file_is_as_durable_as_asked(tmp_path: Path, synchronous: str) -> None:
    async with opened(tmp_path / "db", synchronous=synchronous) as store:
        connection = store._require()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == ({"FULL": 2, "NORMAL": 1}[synchronous],)


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='must be "FULL" or "NORMAL"'):
        SqliteStore(tmp_path / "db", synchronous="OFF")


async def test_a_closed_store_says_so() -> None:
    with pytest.raises(StoreError, match="is not open"):
        await SqliteStore(":memory:").view(lambda: reads.slots_taken("k", ""))


async def test_a_read_without_a_statement_is_an_error(tmp_path: Path) -> None:
    def begin() -> Decision[None]:
        yield Read("nonsense", ())

    async with opened(tmp_path / "db") as store:
        with pytest.raises(KeyError, match="nonsense"):
            await store.submit(begin)
