"""What one request reads: each question once, and no more of them than the budget allows.

A field can be asked for once an item of a list, and under many aliases. So reads are counted, the same question is
asked once, and the text and the spans that go into the answer are counted too: a request that would take the server's
time from its runs is refused with what to do instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

from graphql import GraphQLError

from perdure.engine import reads, views
from perdure.engine.turn import Decision
from perdure.engine.views import RunDetail
from perdure.model.json import Json, encode
from perdure.model.records import EventRow, FunctionRow, Run
from perdure.server.backend import Backend

T = TypeVar("T")

MAX_READS: Final = 500
MAX_TEXT: Final = 64 * 1024 * 1024
MAX_SPANS: Final = 10_000


def begun(work: Coroutine[None, None, T]) -> asyncio.Future[T]:
    """Work that goes on even if the part of the query that began it is given up, and then fails unheard."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_heard)
    return task


def _heard(task: asyncio.Future[T]) -> None:
    if not task.cancelled():
        task.exception()


class Reader:
    """The reads of one request. Each raises `GraphQLError` beyond the budget, and `StoreError`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._asked: dict[str, asyncio.Future[Json]] = {}
        self._reads = 0
        self._text = 0
        self._spans = 0

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Asks a question."""
        self._reads = _spent(self._reads + 1, MAX_READS, "reads")
        return await self.backend.view(begin)

    async def _once(self, key: str, begin: Callable[[], Decision[T]]) -> T:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = begun(self.view(begin))
        # A part of the query that failed takes its fields with it; others may wait for the same answer.
        answer: T = await asyncio.shield(asked)
        return answer

    def forget(self) -> None:
        """After a change, everything may be different."""
        self._asked.clear()

    def text(self, data: bytes | None) -> str | None:
        """Stored JSON as it goes into the answer."""
        if data is None:
            return None
        self._text = _spent(self._text + len(data), MAX_TEXT, "bytes of payloads")
        return data.decode()

    def encoded(self, value: Json) -> str:
        """A value as JSON text."""
        data = encode(value)
        self._text = _spent(self._text + len(data), MAX_TEXT, "bytes of payloads")
        return data.decode()

    def count_spans(self, count: int) -> None:
        """Counts spans that go into the answer."""
        self._spans = _spent(self._spans + count, MAX_SPANS, "spans")

    async def functions(self) -> dict[str, FunctionRow]:
        """All functions by slug, those included that are out of force."""
        rows: list[FunctionRow] = await self._once("functions", reads.functions)
        return {row.id: row for row in rows}

    async def run(self, run_id: str) -> Run | None:
        return await self._once(f"run/{run_id}", lambda: reads.run_by_id(run_id))

    async def detail(self, run_id: str) -> RunDetail | None:
        return await self._once(f"detail/{run_id}", lambda: views.run_detail(run_id))

    async def event_ids(self, run: Run) -> list[str]:
        return await self._once(f"events/{run.id}", lambda: views.event_ids(run))

    async def event(self, internal_id: str) -> EventRow | None:
        return await self._once(f"event/{internal_id}", lambda: reads.event_by_id(internal_id))

    async def runs_of_event(self, internal_id: str) -> list[Run]:
        return await self._once(f"runs/{internal_id}", lambda: views.runs_of_event(internal_id))


def _spent(spent: int, most: int, what: str) -> int:
    if spent > most:
        raise GraphQLError(f"the query needs more than {most} {what}: ask for fewer items, or in several requests")
    return spent
