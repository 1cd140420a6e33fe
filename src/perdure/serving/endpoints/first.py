"""The first request of a run: the host of an execution that answers its caller itself, as long as nothing must wait.

Steps run at once, beside each other where the handler has them so, and each is recorded before the handler sees its
result. What must wait (a sleep, an event, a retry, ...) is gathered until the handler stands still and what executes
is done; then it is reported, and this request is over: the server makes it again when there is more to do. Invariants:
- a step's outcome is shown to the handler, and told as committed, only when it is recorded;
- once something waits no further step begins; those that the handler comes upon are planned: the server calls for them;
- after a report that failed nothing of the handler goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, TypeVar

import msgspec

from perdure.model.config import FunctionConfig
from perdure.model.errors import ErrorInfo, PerdureError
from perdure.model.event import Event
from perdure.model.ids import step_hash
from perdure.model.json import Json, encode
from perdure.model.limits import MAX_STEP_BYTES, SECOND
from perdure.model.ops import SEND_EVENT, SEND_SIGNAL, STEP_ERROR, STEP_FAILED, STEP_RUN, Memo, Op, Retry
from perdure.sdk.execution import Execution
from perdure.sdk.failure import Failure, failure_of
from perdure.sdk.function import Function
from perdure.sdk.lull import Lull
from perdure.sdk.port import FetchRequest, FetchResponse, Snapshot
from perdure.serving import outgoing
from perdure.serving.endpoints.checkpoints import Begun, RefusedReportError
from perdure.serving.endpoints.recorder import Recorder
from perdure.serving.incoming import CallContext, IncomingCall
from perdure.serving.outbound import Outbound
from perdure.serving.sending import Deliveries
from perdure.serving.streaming import Channel, ChannelSink
from perdure.serving.threads import in_thread

T = TypeVar("T")

_log = logging.getLogger("perdure.serving")
_MINE: Final = frozenset({STEP_RUN, SEND_EVENT, SEND_SIGNAL})
_FUNCTION: Final = step_hash("complete")
"""The id under which the outcome of the handler itself is reported."""
_FAREWELL: Final = 1.0
_BEAT: Final = 120.0
"""How often a server that does not say for how long it waits hears that the handler is still at work (seconds), so that
it makes no other request."""


class EndpointTimeoutError(PerdureError):
    """The handler took longer than its endpoint allows."""


class Returned(msgspec.Struct):
    """The handler returned; its value is with whoever called it."""


class Raised(msgspec.Struct):
    """The handler failed, and will not be tried again."""

    error: BaseException
    failure: Failure


class Suspended(msgspec.Struct):
    """The run goes on without this request."""

    begun: Begun


class Broken(msgspec.Struct):
    """What the handler did could not be recorded."""

    error: Exception


Outcome: TypeAlias = Returned | Raised | Suspended | Broken


class _Found(msgspec.Struct, eq=False):
    """A step that the handler came upon and that has not begun."""

    op: Op
    own: bool
    go: asyncio.Future[None]


class FirstHost:
    """Drives the handler for the first request.

    `timeout` is in ms; `inside`: an engine of this process records the run; `on_begun` hears when it is recorded.
    """

    def __init__(
        self,
        function: Function[Json],
        event: Event,
        recorder: Recorder,
        outbound: Outbound,
        channel: Channel,
        now: Callable[[], int],
        *,
        timeout: int,
        inside: bool,
        on_begun: Callable[[Begun], None],
    ) -> None:
        self.now = now
        self._on_begun = on_begun
        self._function = function
        self._recorder = recorder
        self._outbound = outbound
        self._channel = channel
        self._timeout = timeout
        self._inside = inside
        self._beating: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._found: list[_Found] = []
        self._errors: list[Op] = []
        self._lull = Lull(self._loop, self._on_lull)
        self._life: asyncio.Task[None] | None = None
        self._leaving = self._expired = False
        call = IncomingCall(CallContext(event.id), [event], {}, 2, False)
        self._deliveries = Deliveries(outbound, call)
        most = function.config.retries + 1
        snapshot, sink = Snapshot({}, {}), ChannelSink(channel)
        self._execution: Execution[Json] = Execution(function, snapshot, self, [event], event.id, 0, most, lambda: sink)

    async def run(self) -> Outcome:
        """Runs the handler as far as this request goes."""
        self._life = self._loop.create_task(self._live())
        limit = self._loop.call_later(self._timeout / 1000, self._expire)
        try:
            return await self._outcome
        finally:
            limit.cancel()
            if self._beating is not None:
                self._beating.cancel()
            self._leave()
            await asyncio.wait([self._life], timeout=_FAREWELL)

    async def beat(self) -> None:
        """Lets the server hear, until it is cancelled, that this request goes on: while it is answered, too."""
        while self._recorder.begun is not None:
            await asyncio.sleep(_pause(self._recorder.begun, self._inside))
            try:
                await self._recorder.beat()
            except RefusedReportError as error:
                self._settle(Broken(error))
                return

    async def _live(self) -> None:
        try:
            await self._execution.run()
        except asyncio.CancelledError:
            if not self._leaving:
                await self._end_with(PerdureError("the handler was cancelled from within"))
        except (Exception, SystemExit) as raised:
            if not self._leaving:
                await self._end_with(raised)
        else:
            self._settle(Returned())

    async def _end_with(self, raised: BaseException) -> None:
        failure = failure_of(raised, self.now())
        # Without the message, which may carry what must not be logged: the record of the run has it.
        name, run_id = type(raised).__name__, self._execution.context.run_id
        _log.warning("run %s of %s: the handler failed with %s", run_id, self._function.id, name)
        final = failure.no_retry or self._function.config.retries == 0
        op: dict[str, Json] = {"id": _FUNCTION, "op": STEP_FAILED if final else STEP_ERROR}
        op["error"] = failure.info.to_json()
        op |= _later(failure.retry_after)
        begun = await self._recorded(op)
        if begun is not None:
            self._settle(Raised(raised, failure) if final else Suspended(begun))

    def _expire(self) -> None:
        if self._life is not None and not self._outcome.done():
            self._expired = self._leaving = True
            message = (
                f"the handler did not return within {self._timeout / SECOND:g}s (the option timeout of the endpoint)"
            )
            self._execution.put_away()
            self._life.cancel()
            self._expiring = self._loop.create_task(self._end_with(EndpointTimeoutError(message)))

    def _settle(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _leave(self) -> None:
        self._leaving = True
        if self._life is not None and not self._life.done():
            self._execution.put_away()
            self._life.cancel()

    async def _recorded(self, *ops: dict[str, Json]) -> Begun | None:
        """Has operations recorded; None, and the end of this request, where they are not."""
        self._lull.committing += 1
        try:
            is_first = self._recorder.begun is None
            begun = await self._recorder.record(*ops)
            if is_first:
                # Once whoever called has told the outcome of what it had recorded.
                self._loop.call_soon(self._on_begun, begun)
                self._beating = self._loop.create_task(self.beat())
            return begun
        except Exception as error:
            self._settle(Broken(error))
            return None
        finally:
            self._lull.committing -= 1
            self._lull.stir()

    async def _stand_still(self) -> Memo:
        nothing: asyncio.Future[Memo] = self._loop.create_future()
        return await nothing

    # The host's side: what the execution asks for.

    def enter_step(self, op: Op) -> Awaitable[None] | None:
        if self._found or self._errors:
            return self._find(op)
        self._lull.running += 1
        self._lull.stir()
        return None

    def leave_step(self) -> None:
        self._lull.running -= 1
        self._lull.stir()
        self._look_out()

    async def report(self, op: Op) -> Memo | Retry:
        if op.op == STEP_RUN:
            return await self._done(op)
        if op.op == STEP_ERROR:
            return await self._failed(op)
        if op.op not in _MINE:
            await self._find(op)
            return await self._stand_still()
        entering = self.enter_step(op)
        if entering is not None:
            await entering
        op.started_at = self.now()
        try:
            sent = await self._deliveries.deliver(op, self.now)
        finally:
            self.leave_step()
        return await (self._failed(sent) if sent.op == STEP_ERROR else self._done(sent))

    async def rejoin(self, step_id: str) -> Memo | Retry:
        """A run that begins has no open steps."""
        return await self._stand_still()

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await in_thread(call)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        return await self._outbound.fetch(request)

    # Steps that executed.

    async def _done(self, op: Op) -> Memo:
        size = len(op.data or b"")
        if size > MAX_STEP_BYTES:
            message = f"the result has {size} bytes, and at most {MAX_STEP_BYTES} can be recorded: return a reference"
            op.op, op.data, op.error, op.no_retry = STEP_ERROR, None, ErrorInfo("StepTooLargeError", message), True
            return await self._failed(op)
        if await self._recorded(outgoing.executed(op, beside=False)) is None:
            self._channel.rollback(op.id)
            return await self._stand_still()
        self._channel.commit(op.id)
        self._look_out()
        return Memo(op.data or b"null")

    async def _failed(self, op: Op) -> Memo:
        self._channel.rollback(op.id)
        retries = (op.opts or {}).get("retries", self._function.config.retries)
        goes_on = self._recorder.begun is None or self._recorder.begun.goes_on
        if (op.no_retry or retries == 0) and goes_on and not self._found and not self._errors:
            begun = await self._recorded(outgoing.executed(op, beside=False, final=True))
            if begun is None:
                return await self._stand_still()
            if begun.goes_on:
                self._look_out()
                return Memo(encode((op.error or ErrorInfo("Error", "")).to_json()), failed=True)
            # This server calls again at once: a step that failed is news for the handler.
            self._settle(Suspended(begun))
            return await self._stand_still()
        self._errors.append(op)
        self._lull.look_out()
        return await self._stand_still()

    # Steps that must wait.

    def _look_out(self) -> None:
        """What was found while a step executed, or was being recorded, has waited for its end."""
        if self._found or self._errors:
            self._lull.look_out()

    async def _find(self, op: Op) -> None:
        own = asyncio.current_task() is self._life or not self._function.is_async
        found = _Found(op, own, self._loop.create_future())
        self._found.append(found)
        self._lull.stir()
        self._lull.look_out()
        try:
            await found.go
        except asyncio.CancelledError:
            # By the handler, the loser of a race say: it asks for nothing any more.
            if found in self._found:
                self._found.remove(found)
                self._lull.look_out()
            else:
                self.leave_step()
            raise

    def _on_lull(self) -> None:
        if not self._lull.quiet or self._outcome.done() or self._leaving:
            return
        if self._errors or any(found.op.op not in _MINE for found in self._found):
            self._lull.committing += 1
            self._suspending = self._loop.create_task(self._suspend())
            return
        # What they stood back for is not asked for any more.
        for found in list(self._found):
            self._found.remove(found)
            self._lull.running += 1
            found.go.set_result(None)

    async def _suspend(self) -> None:
        beside = len(self._found) + len(self._errors) > 1 or any(not found.own for found in self._found)
        ops = [self._failure(op, beside) for op in self._errors]
        ops += [self._waiting(found.op, beside) for found in self._found]
        begun = await self._recorded(*ops)
        if begun is not None:
            self._settle(Suspended(begun))

    def _failure(self, op: Op, beside: bool) -> dict[str, Json]:
        retries = (op.opts or {}).get("retries", self._function.config.retries)
        final = op.no_retry or retries == 0
        return {**outgoing.executed(op, beside=beside, final=final), **({} if final else _later(op.retry_after))}

    def _waiting(self, op: Op, beside: bool) -> dict[str, Json]:
        if op.op in _MINE:
            return outgoing.planned(op, beside=beside)
        return outgoing.waiting(op, self.now(), beside=beside)


def _pause(begun: Begun, inside: bool) -> float:
    """How long the server may hear nothing (seconds)."""
    if not begun.silence:
        return _BEAT
    # An engine of this process does not end without it, so there is no restart to be heard after.
    return min(_BEAT, begun.silence / 5, begun.silence if inside else begun.grace * 0.8)


def _later(delay: int | None) -> dict[str, Json]:
    """When the next attempt may begin: whole seconds, of a delay in ms."""
    return {} if delay is None else {"retry_after": max(-(-delay // SECOND), 0)}


def function_of(app_id: str, name: str, retries: int, handler: Callable[[Json], Json]) -> Function[Json]:
    """A handler of requests as a function. `retries` is that of the endpoint."""
    return Function(FunctionConfig(f"{app_id}-{name}", app_id, name, (), retries), handler)
