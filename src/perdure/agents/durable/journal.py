"""The journal of a durable run: each call of the loop is a step of the run's function.

Invariants:
- a chunk is said by the step that executes, so that it counts exactly if the step is recorded;
- a question is announced only after it is stored and the run waits for its decision;
- between two steps nothing is awaited: a served function is answered for at the first lull.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from perdure.agents.background.port import BackgroundTasks
from perdure.agents.chunks import Chunk
from perdure.agents.durable.accelerators import Accelerators
from perdure.agents.durable.engines import Engine
from perdure.agents.journal import ChildRuns, Decision, Delegation, Journal, Question, StepScope
from perdure.agents.ports import Earlier
from perdure.agents.storage import Approval
from perdure.engine.agents.approvals import DECIDED_EVENT, REQUESTED_EVENT
from perdure.model.errors import PerdureError
from perdure.model.ids import step_hash
from perdure.model.json import Json, encode
from perdure.sdk.execution import attempt_here, streaming
from perdure.sdk.function import Function
from perdure.sdk.step import step

_YEAR: Final = 365 * 24 * 3600 * 1000
_PAUSE: Final = 0.001
_PATIENCE: Final = 10.0
"""How long (seconds) a question is held back for the run's wait to be recorded."""


class Identity(msgspec.Struct, frozen=True):
    """Whose run it is: the ids under which its questions are found."""

    run_id: str
    engine_run_id: str
    agent_id: str
    agent_version: str
    thread_id: str | None = None
    resource_id: str | None = None


class DurableJournal:
    """The journal of one execution of a run's function."""

    def __init__(
        self,
        whose: Identity,
        engine: Engine,
        accelerators: Accelerators,
        delegate: Callable[[Journal, Delegation], Awaitable[Json]],
    ) -> None:
        self.run_id = whose.run_id
        self._accelerators = accelerators
        self._delegate = delegate
        self._loop = asyncio.get_running_loop()
        self._whose = whose
        self._engine = engine
        self.tasks: BackgroundTasks | None = None
        """What carries out the background tasks of the run, where its agent has some."""
        self.earlier: Earlier | None = None
        """The earlier runs of its thread."""
        self.children: ChildRuns | None = None
        """Who carries out its sub-agents."""

    def now(self) -> int:
        return self._engine.now()

    def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Awaitable[Json]:
        seconds = None if timeout is None else timeout / 1000
        return step.with_(retries=retries, timeout=seconds).run(id, self._attempt, id, call, once)

    async def _attempt(self, id: str, call: Callable[[StepScope], Awaitable[Json]], once: bool) -> Json:
        attempt = attempt_here()
        if once:
            # An attempt that a crash cut off was never reported; only this tells of it.
            attempt = max(attempt, await self._engine.storage.begin_step(self.run_id, id))
        return await call(StepScope(id, attempt))

    def push(self, said: Chunk) -> None:
        found = streaming()
        if found is not None:
            sink, scope = found
            sink.push(scope.step_id, encode(said))
            if self._accelerators.any:
                # Tools that are plain functions say things from their threads.
                self._loop.call_soon_threadsafe(self._accelerators.told, said, self.run_id)

    async def drained(self) -> None:
        found = streaming()
        if found is not None and found[0].full:
            await found[0].drained()

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        place = question.place
        waiting = asyncio.ensure_future(
            step.wait_for_event(
                f"approve:{place}",
                event=DECIDED_EVENT,
                timeout=(_YEAR if question.timeout is None else question.timeout) / 1000,
                if_=f"async.data.runId == {_quoted(self.run_id)} && async.data.toolCallId == {_quoted(place)}",
            )
        )
        try:
            await step.run(f"ask:{place}", self._put, question, place, announce)
            event = await waiting
        except BaseException:
            waiting.cancel()
            raise
        if event is not None:
            return msgspec.convert(_decision(event.data), Decision)
        late = await step.run(f"expire:{place}", self._expire, place)
        return None if late is None else msgspec.convert(late, Decision)

    async def _put(self, question: Question, place: str, announce: Callable[[], Awaitable[Chunk]]) -> None:
        await self.until_it_waits(f"approve:{place}")
        whose, storage, now = self._whose, self._engine.storage, self.now()
        await storage.put_approval(
            Approval(
                run_id=whose.run_id,
                agent_id=whose.agent_id,
                agent_version=whose.agent_version,
                tool_call_id=place,
                tool_name=question.tool_name,
                kind=question.kind,
                args=question.args,
                args_hash=question.args_hash,
                payload=question.payload,
                resume_schema=question.resume_schema,
                thread_id=whose.thread_id,
                resource_id=whose.resource_id,
                asked_at=now,
                expires_at=None if question.timeout is None else now + question.timeout,
            )
        )
        told = {"runId": whose.run_id, "agentId": whose.agent_id, "toolCallId": question.tool_call_id}
        what = {"toolName": question.tool_name, "args": question.args, "kind": question.kind}
        await self._engine.send(
            {"name": REQUESTED_EVENT, "id": f"{REQUESTED_EVENT}:{whose.run_id}:{place}", "data": {**told, **what}}
        )
        await storage.set_run_status(whose.run_id, "suspended")
        self.push(await announce())

    async def open_questions(self) -> dict[str, Question]:
        page = await self._engine.storage.approvals(run_ids=[self.run_id], statuses=["pending"], per_page=None)
        rows = sorted(page.items, key=lambda row: (row.asked_at, row.tool_call_id))
        return {
            row.tool_call_id: Question(
                row.tool_call_id, row.tool_name, row.args, row.kind, row.args_hash, row.payload, row.resume_schema
            )
            for row in rows
        }

    async def until_it_waits(self, wait: str) -> None:
        """Inside a step: until the engine knows that the run waits in the step `wait`."""
        hashed = step_hash(wait)
        try:
            async with asyncio.timeout(_PATIENCE):
                while not await self._engine.waits(self._whose.engine_run_id, hashed):
                    await asyncio.sleep(_PAUSE)
        except TimeoutError:
            raise PerdureError(f"the run {self.run_id} did not come to wait in {wait!r}; asking again") from None

    async def _expire(self, place: str) -> Json:
        """None if nobody decided in time; a decision that came at the last moment counts."""
        storage = self._engine.storage
        if await storage.expire_approval(self.run_id, place):
            return None
        row = await storage.approval(self.run_id, place)
        if row is None or row.status not in ("approved", "declined"):
            return None
        told = {"approved": row.status == "approved", "reason": row.reason, "data": row.data}
        return {**told, "args": row.new_args, "by": row.decided_by}

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        return await step.invoke(id, function, data=data)

    async def delegate(self, delegation: Delegation) -> Json:
        if self.children is not None:
            return await self.children.carry_out(self, delegation)
        return await self._delegate(self, delegation)


def _decision(data: dict[str, Json]) -> dict[str, Json]:
    return {key: data[key] for key in ("approved", "reason", "data", "args", "by") if key in data}


def _quoted(text: str) -> str:
    return encode(text).decode()
