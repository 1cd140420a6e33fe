"""One call of a function: the host of an execution that lives as long as the request.

The execution replays what the call brings along, and this host decides what of the rest is done here and now. What
the handler comes upon is gathered until it stands still. Then a step that stands alone, awaited by the handler itself,
is executed; everything else is reported, and the server calls again: for each step that is to be executed beside
others on its own (`target`), and for the handler once any of them is done. So nothing is executed by two calls, and
branches of a handler go on independently, as they do in process. Invariants:
- at most one step executes in a call, and there is exactly one answer;
- a step's outcome is shown to the handler, and what it streamed is committed, only if the server has recorded it, or
  is about to by the answer;
- once the answer is found nothing of the handler goes on: no step begins any more, and its coroutine is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from perdure.model.errors import ErrorInfo
from perdure.model.json import Json
from perdure.model.ops import SEND_EVENT, SEND_SIGNAL, STEP_ERROR, STEP_RUN, Memo, Op, Retry
from perdure.sdk.execution import Execution
from perdure.sdk.failure import failure_of
from perdure.sdk.function import Function
from perdure.sdk.lull import Lull
from perdure.sdk.port import FetchRequest, FetchResponse, Snapshot
from perdure.serving import outgoing
from perdure.serving.checkpoint import Checkpoints, Taken
from perdure.serving.exchange import Answer, problem
from perdure.serving.incoming import IncomingCall
from perdure.serving.outbound import Outbound
from perdure.serving.sending import Deliveries
from perdure.serving.streaming import Channel, ChannelSink
from perdure.serving.threads import in_thread

T = TypeVar("T")

_log = logging.getLogger("perdure.serving")
_MINE: Final = frozenset({STEP_RUN, SEND_EVENT, SEND_SIGNAL})
"""What the app does by itself; what else a handler asks for is decided by the server."""
_PATIENCE: Final = 10.0
"""How long a handler may take to come upon the step that it was called for (seconds)."""
_FAREWELL: Final = 1.0
"""How long a cancelled handler has for its `finally` blocks before the answer goes out (seconds)."""


class _Found(msgspec.Struct, eq=False):
    """A step that the handler came upon. `own`: it is awaited by the handler itself, not by a task of it."""

    op: Op
    go: asyncio.Future[None]
    own: bool


class CallHost:
    """Drives one call. `target` is the hash of the one step to be executed, None for all that comes."""

    def __init__(
        self,
        function: Function[Json],
        call: IncomingCall,
        target: str | None,
        outbound: Outbound,
        channel: Channel,
        now: Callable[[], int],
        *,
        checkpointing: bool,
    ) -> None:
        self.now = now
        self._function = function
        self._call = call
        self._target = target
        self._outbound = outbound
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Answer] = self._loop.create_future()
        self._found: list[_Found] = []
        self._lull = Lull(self._loop, self._on_lull)
        self._life: asyncio.Task[None] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._leaving = False
        self._gone = False
        possible = checkpointing and target is None and Checkpoints.possible(call)
        self._checkpoints = Checkpoints(outbound, call, now()) if possible else None
        self._deliveries = Deliveries(outbound, call)
        most = call.ctx.max_attempts or function.config.retries + 1
        snapshot, sink = Snapshot(call.memos, {}), ChannelSink(channel)
        self._execution: Execution[Json] = Execution(
            function, snapshot, self, call.events, call.ctx.run_id, call.ctx.attempt, most, lambda: sink
        )

    async def run(self) -> Answer:
        """Runs the handler as far as this call goes."""
        self._life = self._loop.create_task(self._live())
        try:
            return await self._answer
        finally:
            self._leave()
            # The next call may come at once: what this one holds, in `with` blocks say, is let go before.
            await asyncio.wait([self._life], timeout=_FAREWELL)

    def hang_up(self) -> None:
        """The caller is gone: what executes may finish and be recorded, but nothing begins any more."""
        self._gone = True
        if self._lull.quiet:
            self._settle(Answer(499))

    async def _live(self) -> None:
        try:
            output = await self._execution.run()
        except asyncio.CancelledError:
            if not self._leaving:
                self._settle(outgoing.error(ErrorInfo("CancelledError", "the handler was cancelled from within")))
        except (Exception, SystemExit) as raised:
            if not self._leaving:
                run_id, name = self._call.ctx.run_id, type(raised).__name__
                # Without the message, which may carry what must not be logged: the record of the run has it.
                _log.warning("run %s of %s: the handler failed with %s", run_id, self._function.id, name)
                self._settle(outgoing.failed(failure_of(raised, self.now())))
        else:
            recorded = self._checkpoints is not None and self._checkpoints.recorded
            self._settle(outgoing.result(output, recorded=recorded))

    def _settle(self, found: Answer) -> None:
        if not self._answer.done():
            self._answer.set_result(found)

    def _leave(self) -> None:
        self._leaving = True
        if self._patience is not None:
            self._patience.cancel()
        if self._life is not None and not self._life.done():
            self._execution.put_away()
            self._life.cancel()

    async def _stand_still(self) -> Memo:
        nothing: asyncio.Future[Memo] = self._loop.create_future()
        return await nothing

    # The host's side: what the execution asks for.

    def enter_step(self, op: Op) -> Awaitable[None]:
        return self._admit(op)

    def leave_step(self) -> None:
        self._lull.running -= 1
        self._lull.stir()
        # The handler may have cut the step short, and go on with others.
        self._lull.look_out()

    async def report(self, op: Op) -> Memo | Retry:
        if op.op in (STEP_RUN, STEP_ERROR):
            return await self._executed(op)
        if op.op not in _MINE:
            await self._found_one(op)
            return await self._stand_still()
        await self._admit(op)
        op.started_at = self.now()
        try:
            done = await self._deliveries.deliver(op, self.now)
        finally:
            self.leave_step()
        return await self._executed(done)

    async def rejoin(self, step_id: str) -> Memo | Retry:
        """Calls bring no open steps along, so there is none to wait for."""
        return await self._stand_still()

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await in_thread(call)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return await self._outbound.fetch(request)

    # Finding: gather what the handler comes upon, then let one step go or report all.

    async def _admit(self, op: Op) -> None:
        await self._found_one(op)
        op.attempt = self._call.ctx.attempt

    async def _found_one(self, op: Op) -> None:
        own = asyncio.current_task() is self._life or not self._function.is_async
        found = _Found(op, self._loop.create_future(), own)
        self._found.append(found)
        self._lull.stir()
        self._lull.look_out()
        try:
            await found.go
        except asyncio.CancelledError:
            # By the handler, the loser of a race say: it asks for nothing any more.
            if found in self._found:
                self._found.remove(found)
            else:
                self.leave_step()
            raise

    def _on_lull(self) -> None:
        if not self._found or not self._lull.quiet or self._answer.done():
            return
        if self._gone:
            self._settle(Answer(499))
        elif self._target is not None:
            self._seek(self._target)
        elif self._stands_alone():
            self._let_go(self._found[0])
        else:
            beside = len(self._found) > 1 or not self._found[0].own
            self._settle(outgoing.operations(*(self._reported(found.op, beside=beside) for found in self._found)))

    def _stands_alone(self) -> bool:
        if len(self._found) > 1 or self._call.ctx.disable_immediate_execution:
            return False
        return self._found[0].own and self._found[0].op.op in _MINE

    def _reported(self, op: Op, *, beside: bool) -> dict[str, Json]:
        if op.op in _MINE:
            return outgoing.planned(op, beside=beside)
        return outgoing.waiting(op, self.now(), beside=beside)

    def _let_go(self, found: _Found) -> None:
        self._found.remove(found)
        self._lull.running += 1
        found.go.set_result(None)

    def _seek(self, target: str) -> None:
        wanted = next((found for found in self._found if found.op.id == target and found.op.op in _MINE), None)
        if wanted is not None:
            self._let_go(wanted)
        elif self._patience is None:
            # It may await something else first.
            self._patience = self._loop.call_later(_PATIENCE, self._miss, target)

    def _miss(self, target: str) -> None:
        if not self._lull.running:
            names = ", ".join(repr(found.op.name) for found in self._found) or "none"
            message = (
                f"the handler of {self._function.id} did not come upon step {target} within {_PATIENCE:g}s; the steps "
                f"that it waits for: {names}. Has its code changed, or does chance or time decide which steps it takes?"
            )
            self._settle(problem(500, "step_not_found", "StepNotFoundError", message, retry=True))

    # Executed: report it, or have it recorded and go on.

    async def _executed(self, op: Op) -> Memo:
        if op.op == STEP_ERROR:
            self._settle(self._failure(op))
            return await self._stand_still()
        done = outgoing.executed(op, beside=self._target is not None)
        if self._checkpoints is None:
            # The answer that carries the result is about to be given.
            self._channel.commit(op.id)
            self._settle(outgoing.operations(done))
            return await self._stand_still()
        self._lull.committing += 1
        try:
            taken = await self._checkpoints.record(done, self.now())
        finally:
            self._lull.committing -= 1
            self._lull.stir()
        if taken is Taken.STALE:
            self._channel.rollback(op.id)
        else:
            self._channel.commit(op.id)
        if taken is Taken.RECORDED and not self._gone:
            # What was found while the step executed has waited for this.
            self._lull.look_out()
            return Memo(op.data or b"null")
        self._settle(_unrecorded(taken, done))
        return await self._stand_still()

    def _failure(self, op: Op) -> Answer:
        retries = (op.opts or {}).get("retries")
        used_up = retries is not None and self._call.ctx.attempt >= retries
        final = op.no_retry or used_up
        found = outgoing.operations(outgoing.executed(op, beside=self._target is not None, final=final))
        if not final:
            found.headers = outgoing.later(op.retry_after)
        return found


def _unrecorded(taken: Taken, done: dict[str, Json]) -> Answer:
    if taken is Taken.REFUSED:
        return outgoing.operations(done)
    if taken is Taken.RECORDED:
        return Answer(499)
    message = "the server has given this call up, and calls again; what it did since then is not recorded"
    return problem(400, "stale_dispatch", "StaleDispatchError", message, retry=False)
