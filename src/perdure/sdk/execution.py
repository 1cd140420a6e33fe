"""One execution: one life of a handler's coroutine, replayed against what is recorded of its run.

Invariants:
- A step with a memo is not done again; its value is always the one decoded from what was stored, so the first
  run and every replay see the same.
- Nothing that a step did is shown to the handler before the host has made it durable.
- Being cancelled is no failure: it is never recorded, and the step is done again by the next execution.
- When the handler ends, whatever it left running is cancelled before the end is reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable
from typing import Generic, TypeVar

import msgspec

from perdure.model import values
from perdure.model.errors import ErrorInfo, NonRetriableError, PerdureError, StepError, error_info
from perdure.model.event import Event
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.ops import STEP_ERROR, STEP_RUN, Memo, Op, OpenStep, Retry
from perdure.model.records import StepStatus
from perdure.sdk.arguments import StepArgumentError
from perdure.sdk.context import Context
from perdure.sdk.failure import failure_of
from perdure.sdk.function import Function
from perdure.sdk.port import Host, Snapshot, StreamSink

R = TypeVar("R")
T = TypeVar("T")

_DUE = int(StepStatus.DUE)
_FIRST = Retry(0)
_log = logging.getLogger("perdure.execution")
_stubborn: set[asyncio.Task[Json] | None] = set()
"""Tasks that are left where they are."""

_REFUSALS = 10
"""How often a step is refused after the end. `finally` blocks call few; `while True:` with a bare `except:` around
a step goes on for ever, never lets the event loop turn, and would stand still everything else in the process."""


class StepCall(msgspec.Struct):
    """A call of `step.run` and its kin: what to call and how to record it. `timeout` is in ms."""

    id: str
    name: str
    call: Callable[..., Json]
    args: tuple[Json, ...]
    kwargs: dict[str, Json]
    is_async: bool
    returns: object | None
    opts: dict[str, Json] | None = None
    timeout: int | None = None
    data: bytes | None = None
    value: Json = None


class Scope:
    """Where code runs: in the handler of an execution, or (with `step`, whose hash is `step_id`) inside a step's
    callable. `over`: that attempt of the step, counted from 0, is past, whatever still runs of it."""

    __slots__ = ("attempt", "execution", "over", "step", "step_id")

    def __init__(
        self, execution: Execution[Json], step: str | None = None, step_id: str | None = None, attempt: int = 0
    ) -> None:
        self.execution = execution
        self.step = step
        self.step_id = step_id
        self.attempt = attempt
        self.over = False


_scope: ContextVar[Scope | None] = ContextVar("perdure_scope", default=None)


class Replay:
    """Whether a handler only repeats itself: memos are yet to be passed, and nothing new has happened."""

    __slots__ = ("live", "unpassed")

    def __init__(self, memos: Mapping[str, Memo]) -> None:
        self.unpassed: set[str] | None = set(memos) if memos else None
        self.live = False

    def silent(self) -> bool:
        scope = _scope.get()
        return bool(self.unpassed) and not self.live and (scope is None or scope.step is None)


class Execution(Generic[R]):
    """Runs a handler once. `snapshot` is what is recorded of the run, `host` makes durable what it does.

    `streams` makes the sink of what the handler streams; without it nobody hears of that.
    """

    loop: asyncio.AbstractEventLoop
    _main: asyncio.Task[Json] | None

    def __init__(
        self,
        function: Function[R],
        snapshot: Snapshot,
        host: Host,
        events: list[Event],
        run_id: str,
        attempt: int = 0,
        max_attempts: int = 1,
        streams: Callable[[], StreamSink] | None = None,
    ) -> None:
        self.function = function
        self.host = host
        self._streams = streams
        # Made when needed: most runs stream nothing.
        self._sink: StreamSink | None = None
        self._memos = snapshot.memos
        self._open: Mapping[str, OpenStep] = snapshot.open
        self._replay = Replay(snapshot.memos)
        self._uses: dict[str, int] = {}
        self._claimed: set[str] = set()
        # Made when needed: objects that live through a collection are what Python's collector costs.
        self._tasks: set[asyncio.Task[Json]] | None = None
        self._ended = self._cancelled = self._put_away = False
        self._refused, self._held = 0, False
        # The steps whose callables run at this moment, by hash: for those who look, nothing depends on it.
        self.executing: dict[str, Op] = {}
        self.context = Context(
            event=events[0],
            events=events,
            run_id=run_id,
            function_id=function.id,
            attempt=attempt,
            max_attempts=max_attempts,
            replay=self._replay,
        )

    async def run(self) -> bytes:
        """Runs the handler to its end; its result as JSON bytes. Raises what the handler raised."""
        self.loop = asyncio.get_running_loop()
        token = _scope.set(Scope(self))
        self._main = asyncio.current_task()
        try:
            function = self.function
            if function.is_async:
                awaitable: Json = function.handler(self.context)
                result = await awaitable
            else:
                result = await self._call_plain(partial(function.handler, self.context))
            return values.encode(result, where=f"the result of function {self.function.id!r}")
        except asyncio.CancelledError:
            self._cancelled = True
            raise
        finally:
            # The error of a task refers to its frames, and so to this object: keeping the task is a cycle.
            self._ended, self._main = True, None
            _scope.reset(token)
            if self._tasks:
                await self._stop_tasks()

    def put_away(self) -> None:
        """The coroutine is about to be cancelled from outside: from now on no step begins.

        Without this, a step in a `finally` block would be done each time a waiting run is put away.
        """
        self._put_away = True

    @property
    def sequential(self) -> bool:
        """Whether nothing but the handler itself is in a step: no other task of it has called one."""
        return not self._tasks

    @property
    def unused_steps(self) -> frozenset[str]:
        """Hashes of recorded steps that the handler did not ask for: when it ended, steps of older code."""
        return frozenset(self._memos.keys() | self._open.keys()) - self._claimed

    def claim(self, step_id: str) -> str:
        """The hash of the next use of a step id; taken when the step is called, not when it is awaited."""
        index = self._uses.get(step_id, 0)
        self._uses[step_id] = index + 1
        try:
            hashed = step_hash(step_id, index)
        except UnicodeEncodeError:
            raise StepArgumentError(step_id, "id", "holds half of a surrogate pair") from None
        if hashed in self._claimed:
            # The n-th use of "a" is hashed as "a:n", as is a step with that very id.
            raise StepArgumentError(step_id, "id", f"clashes with use {index} of another id; rename one of them")
        self._claimed.add(hashed)
        return hashed

    async def wait(self, op: Op, restore: Callable[[bytes], T]) -> T:
        """A step that the host decides: a sleep, a wait, an invoke, a sending."""
        task = self._enter(op.name)
        if self._refused > _REFUSALS:
            await self._hold()
        try:
            memo = self._recall(op.id)
            if memo is None:
                outcome = await self._rejoin(op.id)
                while isinstance(outcome, Retry):
                    op.attempt = outcome.attempt
                    outcome = await self.host.report(op)
                    self._replay.live = True
                memo = outcome
        finally:
            self._leave(task)
        if memo.failed:
            raise _step_error(op.name, memo)
        try:
            return restore(memo.data)
        except (values.RestoreError, msgspec.DecodeError) as error:
            raise _misfit(op.name, error) from error

    async def run_step(self, call: StepCall) -> Json:
        """A step that a callable decides, attempted until it succeeds or the host says that it failed."""
        task = self._enter(call.name)
        if self._refused > _REFUSALS:
            await self._hold()
        try:
            memo = self._recall(call.id)
            if memo is None:
                outcome = await self._rejoin(call.id)
                while isinstance(outcome, Retry):
                    outcome = await self._attempt(call, outcome.attempt)
                memo = outcome
        finally:
            self._leave(task)
        if memo.failed:
            raise _step_error(call.name, memo)
        if memo.data == call.data:
            return call.value
        try:
            return values.decode(memo.data, call.returns, where=f"step {call.name!r}")
        except values.RestoreError as error:
            raise _misfit(call.name, error) from error

    def _recall(self, hashed: str) -> Memo | None:
        memo = self._memos.get(hashed)
        if memo is not None and self._replay.unpassed is not None:
            self._replay.unpassed.discard(hashed)
        return memo

    async def _rejoin(self, hashed: str) -> Memo | Retry:
        opened = self._open.get(hashed)
        if opened is None:
            return _FIRST
        if opened.status == _DUE:
            return Retry(opened.attempt)
        outcome = await self.host.rejoin(hashed)
        self._replay.live = True
        return outcome

    async def _attempt(self, call: StepCall, attempt: int) -> Memo | Retry:
        host = self.host
        op = Op(STEP_RUN, call.id, call.name, opts=call.opts, attempt=attempt)
        entering = host.enter_step(op)
        if entering is not None:
            await entering
        op.started_at = host.now()
        self.executing[call.id] = op
        task = asyncio.current_task()
        cancels = task.cancelling() if task is not None else 0
        scope = Scope(self, call.name, call.id, op.attempt)
        token = _scope.set(scope)
        try:
            if call.timeout is not None:
                result = await self._call_within(call, call.timeout)
            elif call.is_async:
                result = await call.call(*call.args, **call.kwargs)
            else:
                result = await self._call_plain(partial(call.call, *call.args, **call.kwargs))
            where = f"step {call.name!r}"
            data = values.encode(result, where=where)
            call.value = values.decode(data, call.returns, where=where)
            if self._sink is not None:
                await self._sink.finish(call.id)
            op.data = call.data = data
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            # SystemExit too (argparse and the like): in a task of the handler it would end the event loop.
            # When this task was cancelled meanwhile (by the host, or a timeout or group of the handler), that
            # is no failure, even if the callable made another error of it. When it was not, the callable
            # awaited something cancelled: an error like any other, not the end of the run.
            if task is not None and task.cancelling() > cancels:
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise asyncio.CancelledError() from error
            self._fail(op, error)
        finally:
            del self.executing[call.id]
            host.leave_step()
            _scope.reset(token)
            scope.over = True
            if self._sink is not None and op.data is None:
                self._sink.rollback(call.id)
        op.ended_at = host.now()
        outcome = await host.report(op)
        if self._sink is not None and op.data is not None:
            self._sink.commit(call.id)
        self._replay.live = True
        return outcome

    async def _call_plain(self, call: Callable[[], Json]) -> Json:
        result = await self.host.in_thread(call)
        # A plain function, a lambda say, may still hand back something to await.
        return await result if isawaitable(result) else result

    async def _call_within(self, call: StepCall, timeout: int) -> Json:
        limit = asyncio.timeout(timeout / 1000)
        try:
            async with limit:
                if call.is_async:
                    return await call.call(*call.args, **call.kwargs)
                return await self._call_plain(partial(call.call, *call.args, **call.kwargs))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(f"step {call.name!r} did not end within {timeout / 1000:g}s") from error

    def _fail(self, op: Op, error: BaseException) -> None:
        failure = failure_of(error, self.host.now())
        # Without the message, which may carry what must not be logged: the record of the step has it.
        _log.info(
            "run %s of %s: attempt %d of step %r failed with %s",
            self.context.run_id,
            self.function.id,
            op.attempt + 1,
            op.name,
            failure.info.name,
        )
        op.op = STEP_ERROR
        op.error = failure.info
        op.no_retry = failure.no_retry
        op.retry_after = failure.retry_after

    def sink(self, scope: Scope) -> StreamSink | None:
        """Where code in a scope of this execution streams to; None when nobody is to hear it (again)."""
        if self._streams is None or self._ended or self._put_away or scope.over:
            return None
        if scope.step is None and self._replay.silent():
            return None
        if self._sink is None:
            self._sink = self._streams()
        return self._sink

    def _enter(self, step_id: str) -> asyncio.Task[Json] | None:
        self.check_not_ended(step_id)
        task = asyncio.current_task()
        if task is None or task is self._main:
            return None
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        return task

    def _leave(self, task: asyncio.Task[Json] | None) -> None:
        if task is not None and self._tasks is not None:
            self._tasks.discard(task)

    def check_not_ended(self, step_id: str) -> None:
        """Refuses a step once the execution is over. What does not take that for an answer is held when it awaits."""
        if not (self._put_away or self._ended):
            return
        self._refused += 1
        if self._refused > _REFUSALS:
            return
        if self._put_away or self._cancelled:
            # A handler in a thread goes on after its cancellation until it calls its next step: here.
            raise asyncio.CancelledError()
        raise PerdureError(
            f"step {step_id!r}: the run {self.context.run_id} of {self.function.id!r} has ended; "
            "await steps, and tasks that call them, in the handler"
        )

    async def _hold(self) -> None:
        """For code that goes on after its end: it waits, and is forgotten."""
        if not self._held:
            self._held = True
            _log.error(
                "run %s: the handler of %s catches its own cancellation and goes on with steps; it is left where it "
                "is. Catch `Exception` instead of everything, or raise CancelledError again",
                self.context.run_id,
                self.function.id,
            )
        # As garbage it would be closed, catch that too, and go on for ever: outside of a run every step fails at once.
        _stubborn.add(asyncio.current_task())
        await self.loop.create_future()

    async def _stop_tasks(self) -> None:
        # A step left running would go on beside the next attempt of the same handler, and be done twice.
        tasks = [task for task in self._tasks or () if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def streaming() -> tuple[StreamSink, Scope] | None:
    """Where the running code streams to, and its scope; None outside of runs, and where nobody is to hear it."""
    scope = _scope.get()
    sink = scope.execution.sink(scope) if scope is not None else None
    return None if scope is None or sink is None else (sink, scope)


def attempt_here() -> int:
    """Which attempt of its step the running code is, counted from 0; those that were cut off do not count."""
    scope = _scope.get()
    return 0 if scope is None else scope.attempt


def current(step_id: str) -> Execution[Json]:
    """The execution whose handler is calling a step. Raises where a step cannot be called."""
    scope = _scope.get()
    if scope is None:
        raise PerdureError(
            f"step {step_id!r} was called outside of a run: steps work in the handler of a function, "
            "which perdure runs (perdure.embedded(app), perdure dev)"
        )
    if scope.step is not None:
        raise NonRetriableError(
            f"step {step_id!r} was called inside step {scope.step!r}: a step is one unit of work and cannot "
            "hold another; call it from the handler, or make the outer one a function and use step.invoke"
        )
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise PerdureError(
            f"step {step_id!r} was called in a plain handler, which cannot await: "
            "use `from perdure.sync import step`, or make the handler `async def`"
        ) from None
    if loop is not scope.execution.loop:
        raise PerdureError(f"step {step_id!r} was called in another event loop than that of its run")
    scope.execution.check_not_ended(step_id)
    return scope.execution


def current_in_thread(step_id: str) -> Execution[Json]:
    """The execution whose plain handler is calling a blocking step."""
    scope = _scope.get()
    if scope is None or scope.step is not None:
        return current(step_id)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return scope.execution
    raise PerdureError(
        f"step {step_id!r} of perdure.sync was called in an event loop, which it would block: "
        "use `from perdure import step` and await it"
    )


def _step_error(name: str, memo: Memo) -> StepError:
    return StepError(name, error_info(memo.data))


def _misfit(name: str, error: Exception) -> StepError:
    return StepError(name, ErrorInfo(name=type(error).__name__, message=str(error)))
