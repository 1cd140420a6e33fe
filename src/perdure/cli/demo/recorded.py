"""What the server has recorded, asked over its public API: runs, and their traces as flat lists of steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TypeVar

import aiohttp
import msgspec

from perdure.model.json import Json

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 8


class RecordedStep(msgspec.Struct, frozen=True):
    """A step of a trace; times in ms. `failures` are attempts that failed before."""

    name: str
    op: str
    status: str
    started_at: int
    ended_at: int | None
    failures: int


class Trace(msgspec.Struct, frozen=True):
    """A run's trace."""

    run_id: str
    status: str
    started_at: int
    ended_at: int | None
    output: Json
    steps: list[RecordedStep]


class Recorded:
    """Questions to a server. `each` asks for many things, a few at a time."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def _get(self, path: str) -> Json:
        async with self._http.get(self._url + path) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read())["data"]

    async def runs_of(self, event_id: str) -> list[Json]:
        """The runs that an event started, as `GET /v1/events/{id}/runs` shows them."""
        runs: list[Json] = await self._get(f"/v1/events/{event_id}/runs")
        return runs

    async def doctor(self) -> dict[str, Json]:
        """What the server knows of its own state, as `perdure doctor` shows it."""
        found: dict[str, Json] = await self._get("/v1/doctor")
        return found

    async def trace(self, run_id: str) -> Trace:
        found = await self._get(f"/v2/runs/{run_id}/trace?includeOutput=true")
        return trace_of(found)

    async def find_trace(self, run_id: str) -> Trace | None:
        """The trace, or None of a run that is not recorded: its caller may know of it a moment earlier."""
        try:
            return await self.trace(run_id)
        except aiohttp.ClientResponseError as error:
            if error.status != 404:
                raise
            return None

    async def each(self, ask: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(item: T) -> R:
            async with gate:
                return await ask(item)

        return list(await asyncio.gather(*[one(item) for item in items]))


def trace_of(body: Json) -> Trace:
    """The trace out of the answer of `GET /v2/runs/{id}/trace`."""
    root = body["rootSpan"]
    return Trace(
        run_id=body["runId"],
        status=root["status"],
        started_at=millis(root.get("startedAt") or root["queuedAt"]) or 0,
        ended_at=millis(root.get("endedAt")),
        output=root.get("output"),
        steps=[_step(span) for span in root.get("children", []) if span.get("stepOp")],
    )


def _step(span: Json) -> RecordedStep:
    attempts = [child for child in span.get("children", []) if child["name"].startswith("Attempt")]
    return RecordedStep(
        name=span["name"],
        op=span["stepOp"],
        status=span["status"],
        started_at=millis(span.get("startedAt") or span["queuedAt"]) or 0,
        ended_at=millis(span.get("endedAt")),
        failures=sum(child["status"] == "FAILED" for child in attempts),
    )


def millis(text: str | None) -> int | None:
    """An RFC 3339 time in ms.

    >>> millis("1970-01-01T00:00:01.500Z")
    1500
    """
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1000)
