"""One reader of a run's stream: from a place in the log to the end of a segment.

A segment ends with a chunk `finish`, `abort` or `suspended`. What the log lacks is made here: the end of a run that was
cancelled or failed outside of its loop, and `suspended`, once every tool call of the turn is settled or waits for a
decision. Readers share nothing: one that is closed, slow or gone does not touch another, nor the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from perdure.agents.chunks import AGENT, Chunk, chunk
from perdure.agents.durable.engines import Engine, LogReader
from perdure.agents.durable.log import LogView, View
from perdure.agents.journal import INSIDE, path_of, shown_ids
from perdure.agents.storage import Approval
from perdure.model.errors import PerdureError, error_info
from perdure.model.json import Json, decode
from perdure.model.records import RunStatus
from perdure.model.streams import StreamEvent

_GLANCE: Final = 0.25
"""How long (seconds) nothing must be said before a reader with open questions asks whether all else waits."""


class StreamInterruptedError(PerdureError):
    """The engine stopped while its stream was read. `cursor` is where to observe on from."""

    def __init__(self, run_id: str, cursor: int) -> None:
        self.run_id = run_id
        self.cursor = cursor
        super().__init__(f"the engine stopped while run {run_id} was read; observe it again with offset={cursor}")


class ChunkReader:
    """The chunks of a run after an offset. Iterate over it; `aclose` ends only this reader.

    `keep_open`: go on over suspensions. `silent` is awaited where the run has ended without saying so. `cursor` is the
    place of what was read last: the offset to observe on from.
    """

    def __init__(
        self,
        engine: Engine,
        run_id: str,
        engine_run_id: str,
        *,
        after: int = 0,
        view: View = "committed",
        keep_open: bool = False,
        silent: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.cursor = after
        self._engine = engine
        self._run_id = run_id
        self._engine_run_id = engine_run_id
        self._after = after
        self._keep_open = keep_open
        self._silent = silent
        self._everything = view == "live"
        self._log = LogView(run_id, view, after)
        self._told: frozenset[str] = frozenset()
        self._over = False
        self._chunks = self._read()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Reads no more. The run and its other readers go on."""
        await self._chunks.aclose()

    async def _read(self) -> AsyncGenerator[Chunk]:
        if self._after:
            await self._prime()
        if self._log.finish is not None:
            # Whoever comes after the end is told of it.
            yield self._log.finish
            return
        following = self._engine.following(self._engine_run_id, self._after, everything=self._everything)
        async with following as reader, aclosing(_Batches(reader)) as batches:
            while not self._over:
                for said in await self._next(batches):
                    if said.index > 0:
                        self.cursor = said.index
                    yield said

    async def _prime(self) -> None:
        """Learns what there was before: which steps are open, and which questions."""
        following = self._engine.following(self._engine_run_id, 0, everything=True)
        async with following as reader, aclosing(_Batches(reader)) as batches:
            # A place that is not in the log yet is waited for as long as a glance takes.
            while events := await batches.next(_GLANCE):
                if self._log.prime(events, self._after):
                    break

    async def _next(self, batches: _Batches) -> list[Chunk]:
        """What is to be told next; nothing if what came in says nothing to this reader."""
        glancing = bool(self._log.turn.asked) and not self._keep_open
        events = await batches.next(_GLANCE if glancing else None)
        if events is None:
            # A call that the caller itself carries out is never settled here: the engine knows that all else waits.
            resting = await self._engine.resting(self._engine_run_id)
            return self._suspended(await self._questions()) if resting else []
        if not events:
            return await self._beyond()
        told = self._log.take(events)
        if self._log.finish is not None:
            self._over = True
        elif self._log.response is not None:
            self._over = True
            told += await self._ending(self._log.response.offset)
        elif self._log.turn.suspended:
            pending = await self._questions()
            # What a sub-agent asks, its parent asks a moment later.
            untold = {row.args_hash for row in pending if INSIDE in row.tool_call_id} - self._log.turn.announced
            if not untold and {path_of(row.tool_call_id) for row in pending} >= self._log.turn.asked:
                told += self._suspended(pending)
        return told

    async def _beyond(self) -> list[Chunk]:
        """Nothing comes any more: the run had ended before, or the engine stops."""
        standing = await self._engine.standing(self._engine_run_id)
        if not standing.status.final:
            raise StreamInterruptedError(self._run_id, self.cursor)
        self._over = True
        return await self._ending(self._after)

    def _suspended(self, pending: list[Approval]) -> list[Chunk]:
        places = frozenset(row.tool_call_id for row in pending)
        if not places or places == self._told:
            return []
        self._told = places
        self._over = not self._keep_open
        return [suspended(self._run_id, pending)]

    async def _questions(self) -> list[Approval]:
        page = await self._engine.storage.approvals(run_ids=[self._run_id], statuses=["pending"], per_page=1000)
        now = self._engine.now()
        open_ones = [row for row in page.items if row.expires_at is None or row.expires_at > now]
        return sorted(open_ones, key=lambda row: (row.asked_at, row.tool_call_id))

    async def _ending(self, index: int) -> list[Chunk]:
        """The end of a run that did not say it itself."""
        if self._silent is not None:
            await self._silent()
        standing = await self._engine.standing(self._engine_run_id)
        told = ending(self._run_id, standing.status, standing.output, self._log.usage)
        for said in told:
            said.index = index
        return told


async def history(engine: Engine, run_id: str, engine_run_id: str, until: int) -> list[Chunk]:
    """What a run had said that stands, up to a place in its log."""
    log = LogView(run_id)
    said: list[Chunk] = []
    async with engine.following(engine_run_id, 0) as reader, aclosing(_Batches(reader)) as batches:
        while log.cursor < until and (events := await batches.next(_GLANCE)):
            said += log.take(event for event in events if event.offset <= until)
            if events[-1].offset >= until:
                break
    return said


async def everything(engine: Engine, run_id: str, engine_run_id: str) -> list[Chunk]:
    """All that a run that is over has said, what was taken back included."""
    reader = ChunkReader(engine, run_id, engine_run_id, view="live", keep_open=True)
    async with aclosing(reader) as chunks:
        return [said async for said in chunks]


class _Batches:
    """What a log reader gives, with a limit of time for each batch that does not lose what comes after it."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._reading: asyncio.Task[list[StreamEvent]] | None = None

    async def next(self, patience: float | None) -> list[StreamEvent] | None:
        """The next events, none at the end; None after so many seconds of silence."""
        if self._reading is None:
            if patience is None:
                return await self._reader.next()
            self._reading = asyncio.ensure_future(self._reader.next())
        await asyncio.wait([self._reading], timeout=patience)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def aclose(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])


def suspended(run_id: str, pending: list[Approval]) -> Chunk:
    """The end of a segment in which only questions are left. The fields of the first one stand beside the list."""
    ids = shown_ids(row.tool_call_id for row in pending)
    questions = [_question(row, ids[row.tool_call_id]) for row in pending]
    return chunk("suspended", run_id, AGENT, **questions[0], questions=questions)


def _question(row: Approval, shown_id: str) -> dict[str, Json]:
    told: dict[str, Json] = {
        "toolCallId": shown_id,
        "toolName": row.tool_name,
        "args": row.args,
        "argsHash": row.args_hash,
        "type": row.kind,
        "suspendPayload": row.payload,
        "resumeSchema": row.resume_schema,
        "expiresAt": row.expires_at,
    }
    return {key: value for key, value in told.items() if value is not None}


def ending(run_id: str, status: RunStatus, output: bytes, usage: dict[str, int]) -> list[Chunk]:
    """The last chunks of a run that ended without saying so: cancelled, failed, or at the limit of its stream."""
    counted = {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0} | usage
    if status == RunStatus.COMPLETED:
        found: Json = decode(output)
        reason = found.get("finishReason", "other") if isinstance(found, dict) else "other"
        return [_finish(run_id, reason, counted)]
    if status == RunStatus.FAILED:
        info = error_info(output)
        error = {"name": info.name, "message": info.message}
        return [chunk("error", run_id, AGENT, error=error), _finish(run_id, "error", counted)]
    return [chunk("abort", run_id, AGENT), _finish(run_id, "abort", counted)]


def _finish(run_id: str, reason: str, usage: dict[str, int]) -> Chunk:
    return chunk("finish", run_id, AGENT, stepResult={"reason": reason, "isContinued": False}, output={"usage": usage})
