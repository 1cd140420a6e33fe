"""The residence of a run that began with a request (Durable Endpoints): reported by its app first, called again later.

While the app answers the request, its reports come in one by one, as a call that is open; nothing is called. When a
report says that the run must wait, or no report has come for too long, that call is over: from then on the request is
made again wherever the run may go on, and its answers are those of any app. Invariants:
- the run's protocol version is recorded exactly when its app no longer answers the first request, so whoever reads
  the rows knows which it is;
- a report that comes when the call is over is taken if it tells nothing new, and refused otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import msgspec

from perdure.apps.records import OpenCall
from perdure.apps.run import RemoteCode, RemoteRun, StaleCallError
from perdure.apps.settings import Patience
from perdure.apps.transport import Call
from perdure.engine import drive
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.limits import NAMES
from perdure.engine.turn import Start
from perdure.model.errors import PerdureError, StoreError, error_info
from perdure.model.event import Event
from perdure.model.json import encode
from perdure.model.limits import SECOND
from perdure.model.ops import RUN_COMPLETE, RUN_ERROR, STEP_ERROR, STEP_FAILED, STEP_RAW, STEP_RUN, Op
from perdure.model.records import Run, RunStatus, Step, StepStatus
from perdure.runner.clock import Timer
from perdure.runner.residence import Keeper
from perdure.wire.calls import CallContext
from perdure.wire.endpoints import (
    EndpointError,
    check_result,
    entry_headers,
    original_body,
    original_url,
    signed_part,
)
from perdure.wire.memos import memo_of

_log = logging.getLogger("perdure.apps")

FIRST_RETRY: Final = 5 * SECOND
"""After how long a step that failed while the app answered is tried again (ms): somebody waits for the answer."""
_FIRST: Final = "first"
_VERSION: Final = 2
_GOES_ON: Final = frozenset({STEP_RUN, STEP_RAW})
_FAILS: Final = frozenset({STEP_ERROR, RUN_ERROR})


class LimitError(PerdureError):
    """A report broke a limit of runs, and its run has failed; the text says which."""


def is_news(op: Op, known: Known | None, run: Run) -> bool:
    """Whether an operation that is reported when the first request is over tells anything but what was recorded.

    What is no news was told before, and the answer to that was lost. A result that differs from the recorded one, or is
    of another execution, is of an app that went on although its work was given out again: it must not take that for
    recorded, or it would go on with steps that are done. Executions are told apart by when they began, where apps say
    that; of one that does not, an equal result is taken, which the handler cannot tell from the recorded one.
    """
    status = RunStatus(run.status)
    if op.op == RUN_COMPLETE:
        return status != RunStatus.COMPLETED or (op.data or b"null") != (run.output or b"null")
    if op.op == RUN_ERROR:
        # The attempt failed, and the run went on without it, or ended with it.
        return status not in (RunStatus.RUNNING, RunStatus.FAILED)
    if known is None or op.op not in _GOES_ON:
        return known is None
    if op.timed and known.started_at is not None and op.started_at != known.started_at:
        return True
    return known.status != StepStatus.DONE or known.memo != memo_of(op.op, op.data or b"null", failed=False)


class Known(msgspec.Struct):
    """What is recorded of a step: its status, and its memo as the app is told it. `started_at` (ms) tells whose it is,
    where that is to be asked."""

    status: int
    memo: bytes | None
    started_at: int | None = None


class EndpointCode(RemoteCode, frozen=True):
    """The code of requests: where each is, its run knows."""

    patience: Patience = Patience()

    def reside(self, keeper: Keeper, start: Start, compiled: CompiledFunction) -> EndpointRun:
        return EndpointRun(keeper, self, start, compiled)


class EndpointRun(RemoteRun):
    """A run of an `EndpointCode` in residence."""

    def __init__(self, keeper: Keeper, code: RemoteCode, start: Start, compiled: CompiledFunction) -> None:
        super().__init__(keeper, code, start, compiled)
        patience = code.patience if isinstance(code, EndpointCode) else Patience()
        self._longest = int(patience.silence * SECOND)
        self._within = self._longest if start.run is not None else int(patience.grace * SECOND)
        self._silence: Timer | None = None
        self._reporting = asyncio.Lock()
        self._broken: str | None = None
        # The steps that the first request did, where that is known: what a later one did is no news of its.
        self._first_steps: set[str] | None = None

    def begin(self, run: Run, events: list[Event], steps: list[Step]) -> None:
        self._recall(run, events, steps)
        self._wire_events = []
        if run.request_version is None:
            self._first_steps = set(self.plan.entries)
            self._listen()
        else:
            self._advance()

    # The first request, which the app is answering.

    def _listen(self) -> None:
        self._calls[_FIRST] = OpenCall(_FIRST, None, self._attempt, self._decider.clock.now())
        self._discovering = True
        self.plan.discovering()
        self._expect()

    def _expect(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        clock = self._decider.clock
        self._silence = clock.call_at(clock.now() + self._within, self._on_silence)

    def _on_silence(self) -> None:
        if _FIRST in self._calls and not self._over():
            _log.warning(
                "run %s of %s: nothing was heard of its app for %g s; the request is made again",
                self.run_id, self.code.id, self._within / SECOND,
            )  # fmt: skip
            self._close()
            self._discovering = False
            self.plan.ask()
            self._advance()

    def _close(self) -> None:
        """The first request is over, as far as the run is concerned."""
        self._calls.pop(_FIRST, None)
        self.plan.version = self._chosen = _VERSION
        if self._silence is not None:
            self._silence.cancel()

    def stop(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        super().stop()

    def drain(self) -> None:
        if _FIRST in self._calls and not self._reporting.locked():
            # There is nothing of ours to wait for: whoever goes on with the run hears the next report.
            self._draining = True
            self._drop()
        else:
            super().drain()

    async def report(self, ops: list[Op], *, goes_on: bool = False) -> bool:
        """Takes what the app reports while it answers the first request; False when the rows must tell what came of it,
        because the run has ended, has left, or came back. `goes_on`: a step that failed for good does not end that
        request.

        Raises `StaleCallError` for news that come when that is over, `LimitError`, `StoreError`.
        """
        # One report after the other: one that is repeated while it is being recorded must find it recorded.
        async with self._reporting:
            if self._over():
                return False
            call = self._calls.get(_FIRST)
            if call is not None:
                await self._take_report(call, ops, _GOES_ON | {STEP_FAILED} if goes_on else _GOES_ON)
            elif self._first_steps is None:
                return False
            elif any(is_news(op, self._known(op), self.run) for op in ops):
                raise StaleCallError(f"run {self.run_id} is no longer reported by the request that began it")
        if self._draining:
            self.drain()
        return not self._over()

    def _known(self, op: Op) -> Known | None:
        entry = self.plan.entries.get(op.id)
        if entry is None or (self._first_steps is not None and op.id not in self._first_steps):
            return None
        return Known(entry.status, self.plan.memos.get(op.id))

    async def _complete(self, op: Op) -> None:
        try:
            check_result(op.data or b"null")
        except EndpointError as error:
            await self._fail(encode({"name": "InvalidAnswer", "message": f"The app's answer cannot be told: {error}"}))
            return
        await super()._complete(op)

    async def _take_report(self, call: OpenCall, ops: list[Op], open_after: frozenset[str]) -> None:
        self._within = self._longest
        self._expect()
        if not ops:
            return
        over = not all(op.op in open_after or op.op == RUN_COMPLETE for op in ops)
        if over:
            self._close()
        for op in ops:
            if op.op in _FAILS and op.retry_after is None and self._decider.fixed_retry is None:
                op.retry_after = FIRST_RETRY
        try:
            await self._reported(call, ops)
        except StoreError as error:
            # Whoever repeats the report must find the call open: a residence that has it as it is recorded.
            self._give_up(error)
            raise
        finally:
            # Not before: what the report says must be recorded when the request is made again.
            self._discovering = not over
            if self._first_steps is not None:
                self._first_steps.update(op.id for op in ops if op.id in self.plan.entries)
        if self._broken is not None:
            raise LimitError(self._broken)
        if self._failure is not None and not self._over():
            # Awaited, for the answer to the report says that the failure is recorded.
            await self._end(drive.fail_attempt, self.run, self._failure, self._max_attempts)
        self._advance()

    async def _fail(self, error: bytes, cause: str | None = None) -> None:
        info = error_info(error)
        if info.name in NAMES:
            self._broken = info.message
        await super()._fail(error, cause)

    # Later requests.

    def expects(self, request_id: str) -> bool:
        """Whether the request was made again under this id, and is open. Nobody else can know that id."""
        return request_id != _FIRST and request_id in self._calls

    def _request(self, call: OpenCall) -> Call:
        request = self._events[0].data
        plan, body = self.plan, original_body(self._events[0].data)
        context = CallContext(
            self.run_id, self._app.id, call.request_id, call.step_id or "step", len(plan.stack), call.attempt,
            self._max_attempts, call.step_id is None and plan.executes_in_place, plan.version,
        )  # fmt: skip
        headers = entry_headers(
            request, run_id=self.run_id, request_id=call.request_id, job_id=context.job_id, attempt=call.attempt,
            step_id=call.step_id, plan=not context.immediate,
        )  # fmt: skip
        return Call(
            original_url(request), headers, body, self._app.app_id, self._app.id, self.run_id, call.request_id,
            context.step_id, context.job_id, request["method"], signed_part(request, body),
            proven=True,
        )  # fmt: skip
