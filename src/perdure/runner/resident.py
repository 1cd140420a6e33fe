"""A resident run: the life of one handler's coroutine in this process, and the host of its execution.

While it holds the lease it records what the handler does; when everything in it waits, it parks: the lease goes
back and only the coroutine stays, to be resumed without replay, or evicted and replayed later. Whatever is lost
here is in the store. Invariants:
- nothing is recorded without the lease, and a report refused as stale ends the residence at once;
- an operation reported while parked waits for the lease to come back;
- parking is refused by the store when a step was decided meanwhile; then the steps are read again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec

from perdure.engine import advance, drive
from perdure.engine.advance import Situation
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.drive import HandlerFailure
from perdure.engine.limits import exceeded
from perdure.engine.turn import Decided, Start
from perdure.model.errors import ErrorInfo, StoreError
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.model.ops import STEP_RUN, Memo, Op, Retry
from perdure.model.records import Run, RunStatus, Step, StepStatus
from perdure.runner.loading import load_steps, snapshot_of
from perdure.runner.places import Places
from perdure.runner.residence import FAREWELL, Keeper, Residence
from perdure.runner.streams import Sink
from perdure.runner.waits import Answer, Waits
from perdure.sdk.execution import Execution
from perdure.sdk.failure import failure_of
from perdure.sdk.function import Function
from perdure.sdk.lull import Lull
from perdure.sdk.port import FetchRequest, FetchResponse

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger("perdure.runner")


class Handler(msgspec.Struct, frozen=True):
    """The code of a function of this process: its handler."""

    function: Function[Json]

    @property
    def id(self) -> str:
        return self.function.id

    @property
    def pool(self) -> None:
        return None

    def reside(self, keeper: Keeper, start: Start, compiled: CompiledFunction) -> Resident:
        return Resident(keeper, self, start, compiled)


class Resident(Residence):
    """A run whose handler's coroutine lives here."""

    def __init__(self, keeper: Keeper, code: Handler, start: Start, compiled: CompiledFunction) -> None:
        super().__init__(keeper, code, start, compiled)
        self.function = code.function
        self._life: asyncio.Task[None] | None = None
        self._fatal: ErrorInfo | None = None
        self._progressed = False
        self._waits = Waits()
        self._outbox: list[tuple[int, Op, Answer]] = []
        self._lull = Lull(self._loop, self._on_lull)
        self._places = Places(self._decider, self._spawn) if compiled.counts_steps else None
        self._sink: Sink | None = None
        self._thread = threading.get_ident()

    def begin(self, run: Run, events: list[Event], steps: list[Step]) -> None:
        self.run = run
        self._started_at = self._decider.clock.now()
        self._seq = len(steps)
        self._names = {step.id: step.name for step in steps}
        self._state_bytes = sum(len(step.data or b"") for step in steps)
        self._events = events
        self.execution = Execution(
            self.function,
            snapshot_of(steps),
            self,
            events,
            self.run_id,
            self._attempt,
            self._max_attempts,
            self._open_sink,
        )
        self._life = self._loop.create_task(self._live())

    def _open_sink(self) -> Sink:
        if threading.get_ident() == self._thread:
            return self._sink_here()

        async def on_loop() -> Sink:
            return self._sink_here()

        # The first who says something is a plain step, in its thread.
        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    def _sink_here(self) -> Sink:
        if self._sink is None:
            self._sink = self._keeper.streams.sink(self.run_id)
        return self._sink

    def hush(self) -> None:
        if self._sink is not None:
            self._sink.close()

    @property
    def begun(self) -> bool:
        return self._life is not None

    @property
    def executing(self) -> list[Op]:
        return list(self.execution.executing.values()) if self.begun else []

    @property
    def idle(self) -> bool:
        # A branch of it may await what is not a step.
        return self.execution.sequential

    # The host's side: what the execution asks for.

    def now(self) -> int:
        return self._decider.clock.now()

    def enter_step(self, op: Op) -> Awaitable[None] | None:
        if self._places is not None or self.lease is None or self._draining:
            return self._enter()
        self._lull.running += 1
        self._lull.stir()
        return None

    async def _enter(self) -> None:
        if self._leaving:
            await self._stand_still()
        # It counts as committing: a run must not park while a step of it waits to begin.
        self._lull.committing += 1
        try:
            lease = self.lease or await self._regain()
            if self._places is not None:
                await self._places.enter(lease)
        except StoreError as error:
            self._give_up(error)
            await self._stand_still()
        finally:
            self._lull.committing -= 1
            self._lull.stir()
        if self._draining:
            # What still executes will end the residence; nothing begins any more.
            await self._loop.create_future()
        self._lull.running += 1

    def leave_step(self) -> None:
        self._lull.running -= 1
        self._lull.stir()
        if self._places is not None:
            self._places.leave(self.lease)
        if self._waits:
            self._lull.look_out()

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await self._keeper.in_thread(call)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return await self._keeper.fetch(request)

    async def report(self, op: Op) -> Memo | Retry:
        self._lull.stir()
        seq = self._count(op)
        op.started_at = op.started_at or self._decider.clock.now()
        if self._fatal is not None or self._leaving:
            return await self._stand_still()
        if op.op == STEP_RUN and (self._progressed or not self._attempt):
            return await self._record(seq, op)
        # The first step after a failure of the handler takes the long way, which lets its attempts count anew.
        self._plain = False
        future: Answer = self._loop.create_future()
        self._outbox.append((seq, op, future))
        self._lull.look_out()
        return await future

    async def rejoin(self, step_id: str) -> Memo | Retry:
        self._lull.stir()
        future: Answer = self._loop.create_future()
        self._got(self._waits.add(step_id, future))
        self._lull.look_out()
        return await future

    async def _record(self, seq: int, op: Op) -> Memo:
        # A finished step is committed at once: nothing else could join it, and the handler waits for it.
        self._lull.committing += 1
        try:
            lease = self.lease or await self._regain()
            kept = await self._decider.commit(partial(advance.record, lease, self.run_id, seq, op))
            while not kept and self.lease is not lease and not self._leaving:
                # It was parked while this was on its way, which was a wrong guess.
                lease = self.lease or await self._regain()
                kept = await self._decider.commit(partial(advance.record, lease, self.run_id, seq, op))
        except StoreError as error:
            self._give_up(error)
            return await self._stand_still()
        finally:
            self._lull.committing -= 1
            self._lull.stir()
        if not kept:
            self._drop()
            return await self._stand_still()
        self._progressed = True
        if self._draining and not self._lull.running:
            self._drop()
            return await self._stand_still()
        if self._waits:
            self._lull.look_out()
        return Memo(op.data or b"null")

    async def _stand_still(self) -> Memo:
        """For what must go no further: the execution is about to be cancelled."""
        if self._life is not None:
            self.execution.put_away()
            self._life.cancel()
        nothing: asyncio.Future[Memo] = self._loop.create_future()
        return await nothing

    def _count(self, op: Op) -> int:
        if op.attempt == 0:
            # A later attempt is of a step that counts already.
            self._seq += 1
        if op.data is not None:
            self._state_bytes += len(op.data)
        self._fatal = self._fatal or exceeded(op, self._seq, self._state_bytes)
        return self._seq

    # Waiting: collect what waits, commit it, park.

    def _on_lull(self) -> None:
        if self.ending or self._leaving:
            return
        quiet = self._lull.quiet
        if self._outbox or (quiet and self._waits and self.lease is not None):
            ops, self._outbox = self._outbox, []
            self._lull.committing += 1
            self._spawn(self._flush(ops, parking=quiet))

    async def _flush(self, ops: list[tuple[int, Op, Answer]], *, parking: bool) -> None:
        try:
            lease = self.lease or await self._regain()
            situation = Situation(self.run, self._events[0].to_json(), self._max_attempts)
            pairs = [(seq, op) for seq, op, _ in ops]
            answer = await self._decider.decide(advance.report, lease, situation, pairs, parking=parking)
        except StoreError as error:
            self._give_up(error)
            return
        finally:
            self._lull.committing -= 1
            self._lull.stir()
        if isinstance(answer, str):
            self._drop()
            return
        for _, op, future in ops:
            memo = answer.memos.get(op.id)
            if memo is None:
                self._waits.note(op)
                self._got(self._waits.add(op.id, future))
            elif not future.done():
                future.set_result(memo)
        self._progressed = self._progressed or bool(answer.memos)
        if answer.parked and self.lease is lease:
            self.lease = None
            if self.ending:
                # The handler has returned meanwhile: its end takes the lease back.
                return
            if self._draining:
                self._drop()
                return
            self.wakes_at = self._waits.wakes_at
            self._keeper.parked(self)
        elif self._draining and not self._lull.running:
            self._drop()
        elif parking and not answer.memos:
            await self._refresh()
        elif self._waits:
            self._lull.look_out()

    # Waking: what the runner tells.

    def wake(self, decided: Decided) -> None:
        self._lull.stir()
        self._got(self._waits.decide(decided))

    def _got(self, memo: Memo | None) -> None:
        if memo is not None:
            self._progressed = True
            self._state_bytes += len(memo.data)

    def resume(self, start: Start) -> None:
        self._lull.stir()
        self._regained(start.lease)
        if start.step is not None:
            self.wake(start.step)
            self._lull.look_out()
        else:
            self._spawn(self._refresh())

    def refresh(self) -> None:
        if self.begun:
            self._spawn(self._refresh())

    async def _refresh(self) -> None:
        """Reads the steps that wait: something was decided while nobody listened."""
        for step in await self._decider.view(partial(load_steps, self.run_id, self._waits.step_ids)):
            if step.status not in (StepStatus.WAITING, StepStatus.RETRYING) and step.id in self._waits:
                self.wake(Decided(step.id, step.status, step.data or b"null", step.attempt))
        self._lull.look_out()

    # The end.

    async def _live(self) -> None:
        try:
            output = await self.execution.run()
        except asyncio.CancelledError:
            if self._leaving:
                return
            task = asyncio.current_task()
            if self._fatal is None and task is not None and task.cancelling():
                # Somebody else ended the task, the event loop at its end say: no verdict on the run.
                self._drop()
                return
            error = self._fatal or ErrorInfo("CancelledError", "the handler was cancelled from within")
            await self._finish(RunStatus.FAILED, msgspec.json.encode(error))
        except (Exception, SystemExit) as raised:
            await self._failed(raised)
        else:
            self._report_unused()
            await self._finish(RunStatus.COMPLETED, output)

    def _report_unused(self) -> None:
        """Names recorded steps that the handler no longer asks for: its code has changed since they were done."""
        unused = self.execution.unused_steps if self._names else ()
        if unused:
            names = ", ".join(sorted(self._names.get(step_id, step_id) for step_id in unused))
            _log.warning("run %s of %s ended without its recorded steps: %s", self.run_id, self.function.id, names)

    async def _finish(self, status: RunStatus, output: bytes) -> None:
        if self._sink is not None:
            # What it said outside of steps must be kept before its end: afterwards nothing is.
            await self._sink.settle()
        large = exceeded(Op(STEP_RUN, "", "the function's result", data=output), 0, 0)
        if large is not None:
            status, output = RunStatus.FAILED, msgspec.json.encode(large)
        if self._plain and status == RunStatus.COMPLETED:
            await self._end(drive.complete_plain, self.run, output)
            return
        await self._end(drive.complete, self.run, status, output)

    async def _failed(self, raised: BaseException) -> None:
        if self._sink is not None:
            await self._sink.settle()
        failure = failure_of(raised, self._decider.clock.now())
        # After a step succeeded the handler's attempts count anew (C.6).
        attempt = 0 if self._progressed else self._attempt
        found = HandlerFailure(
            msgspec.json.encode(failure.info), attempt, self._started_at, failure.no_retry, failure.retry_after
        )
        await self._end(drive.fail_attempt, self.run, found, self._max_attempts)

    def drain(self) -> None:
        self._draining = True
        if self._lull.quiet and not self.ending:
            self._drop()

    def stop(self) -> None:
        if self._life is not None:
            self.execution.put_away()
            self._life.cancel()
        super().stop()

    async def stopped(self) -> None:
        # Not for ever: the handler may catch its cancellation.
        if self._life is not None:
            await asyncio.wait([self._life], timeout=FAREWELL)
