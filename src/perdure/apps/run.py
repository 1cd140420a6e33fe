"""The residence of a run whose function is an app's on another server: it calls the app until the run waits or ends.

While it holds the lease it carries out its `Plan`: it calls for the steps that are planned, calls the function where
it may go on, and makes the requests that the app left to the server. What the app answers, or reports by a checkpoint
while it still works on its answer, is recorded before anything follows from it. When everything waits, it parks.
Invariants:
- only answers to calls that are open here are recorded: an answer or a checkpoint to an earlier one is stale;
- one discovery at a time, so that a run cannot end twice;
- a failure of the function is settled when no other call of the run is open.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from perdure.apps.dispatch import NOT_CARRIED
from perdure.apps.gateway import GatewayFailure
from perdure.apps.plan import DEFERS, Entry, Plan
from perdure.apps.records import ENDS, OpenCall, RecordedRun
from perdure.apps.transport import Call, CallError, Transport
from perdure.engine import advance, drive
from perdure.engine.catalogue import CompiledFunction
from perdure.engine.drive import HandlerFailure
from perdure.engine.limits import exceeded
from perdure.engine.turn import Decided, Start
from perdure.model.errors import PerdureError, StoreError, error_object
from perdure.model.event import Event
from perdure.model.json import Json, decode, encode
from perdure.model.ops import DISCOVERY_REQUEST, RUN_ERROR, STEP_ERROR, STEP_RAW, STEP_RUN, Op
from perdure.model.records import Run, RunStatus, Step, StepStatus
from perdure.runner.places import Places
from perdure.runner.residence import Keeper
from perdure.wire.calls import DISCOVERY, NO_VERSION, CallContext, build_body, call_headers, canonical_events
from perdure.wire.replies import Failed, Finished, Outcome, outcome, request_version

_log = logging.getLogger("perdure.apps")

_CHECKPOINTED: Final = frozenset({STEP_RUN, STEP_RAW}) | DEFERS
"""A step that is planned in a checkpoint has begun, in the call that is open: it must not be called for as well."""
_MAX_FRUITLESS: Final = 50
"""How often in a row a function may be called from its start without anything coming of it."""


class StaleCallError(PerdureError):
    """A checkpoint for a call that is no longer open: the work was, or will be, given out again."""


class UnknownRunError(StaleCallError):
    """A checkpoint for a run that is not there, or has ended."""


class RemoteCode(msgspec.Struct, frozen=True):
    """The code of a function of an app on another server: where it is, and how it is reached.

    `perform` makes the requests of step.fetch and step.ai.infer: it takes the operation and its options, and returns
    the result as JSON, or raises `GatewayFailure`.
    """

    id: str
    app_id: str
    url: str
    transport: Transport
    perform: Callable[[str, dict[str, Json]], Awaitable[bytes]]

    @property
    def pool(self) -> str:
        return f"@app:{self.app_id}"

    def reside(self, keeper: Keeper, start: Start, compiled: CompiledFunction) -> RemoteRun:
        return RemoteRun(keeper, self, start, compiled)


class RemoteRun(RecordedRun):
    """A run of a `RemoteCode` in residence."""

    def __init__(self, keeper: Keeper, code: RemoteCode, start: Start, compiled: CompiledFunction) -> None:
        super().__init__(keeper, code, start, compiled)
        self._app = code
        self._busy: set[str] = set()
        self._discovering = False
        self._parking = False
        self._failure: HandlerFailure | None = None
        self._places = Places(self._decider, self._spawn) if compiled.counts_steps else None

    @property
    def idle(self) -> bool:
        return True

    def begin(self, run: Run, events: list[Event], steps: list[Step]) -> None:
        self._wire_events = canonical_events(events)
        self._recall(run, events, steps)
        self._advance()

    @property
    def _at_rest(self) -> bool:
        return not (self._calls or self._busy)

    # What is next.

    def _advance(self) -> None:
        if self._over() or self._plan is None or self.lease is None:
            return
        if self._draining:
            if not (self._calls or self._busy or self._committing):
                self._drop()
            return
        if self._failure is None:
            self._begin_what_is_due(self._plan)
            if self._stands and not self._plan.waits and self._failure is None:
                # The app was called, and nothing that is open will bring the run on: it must not park.
                self._plan.ask()
                self._begin_what_is_due(self._plan)
        if not self._stands:
            return
        if self._failure is not None:
            self.ending = True
            self._spawn(self._end(drive.fail_attempt, self.run, self._failure, self._max_attempts))
        elif not self._parking:
            self._parking = True
            self._spawn(self._park())

    @property
    def _stands(self) -> bool:
        """Whether nothing is under way."""
        return not (self._calls or self._busy or self._discovering or self._committing)

    def _begin_what_is_due(self, plan: Plan) -> None:
        for entry in plan.to_call():
            if entry.id not in self._busy:
                self._busy.add(entry.id)
                self._spawn(self._call(entry))
        for entry in plan.to_perform():
            if entry.id not in self._requests:
                # After a restart: what to request was not kept, for it may hold a secret. The app says it again, if
                # it still wants it: it is asked once, until the run gets on.
                if not (self._discovering or self._asked):
                    self._asked = True
                    plan.ask()
            elif entry.id not in self._busy:
                self._busy.add(entry.id)
                self._spawn(self._perform(entry))
        if plan.wants_discovery and not self._discovering:
            self._fruitless += 1
            if self._fruitless > _MAX_FRUITLESS:
                self._failure = self._no_progress()
                return
            self._discovering = True
            self._spawn(self._call(None))

    def _no_progress(self) -> HandlerFailure:
        told = f"The app answered {_MAX_FRUITLESS} times in a row without an operation that was not known already."
        error = encode({"name": "NoProgress", "message": told})
        return HandlerFailure(error, self._attempt, self._decider.clock.now(), False, None)

    async def _park(self) -> None:
        lease = self.lease
        if lease is None:
            return
        try:
            answer = await self._decider.decide(advance.report, lease, self._situation(), [], parking=True)
        except StoreError as error:
            self._give_up(error)
            return
        finally:
            self._parking = False
        if isinstance(answer, str):
            self._drop()
        elif answer.parked and self.lease is lease:
            self._parked()
        elif answer.parked:
            # It was woken since, and is leased anew.
            self._advance()
        else:
            await self._refresh()

    # What the runner tells.

    def wake(self, decided: Decided) -> None:
        if self._plan is None:
            # What is being read for us may be of before that.
            self._early[decided.step_id] = decided
            return
        self._learn(decided)
        self._advance()

    def resume(self, start: Start) -> None:
        self._regained(start.lease)
        if start.step is not None:
            self.wake(start.step)
        elif self.begun:
            self._spawn(self._refresh())

    def drain(self) -> None:
        self._draining = True
        if self.lease is None and self.begun:
            self._drop()
        else:
            self._advance()

    # Calls.

    async def _call(self, entry: Entry | None) -> None:
        try:
            lease = self.lease
            if self._places is not None and lease is not None:
                await self._places.enter(lease)
            try:
                call, result = await self._exchange(entry)
            finally:
                if self._places is not None:
                    self._places.leave(self.lease)
            self._calls.pop(call.request_id, None)
            async with call.turn:
                if not self._over():
                    await self._take(call, result)
        except CallError:
            # Nobody was there to be called: no attempt was made. The run goes back, and waits until somebody is.
            self._draining = True
        except StoreError as error:
            self._give_up(error)
        finally:
            if entry is None:
                self._discovering = False
            else:
                self._busy.discard(entry.id)
        self._advance()

    async def _exchange(self, entry: Entry | None) -> tuple[OpenCall, Outcome]:
        plan, now = self.plan, self._decider.clock.now
        if entry is None:
            attempt = plan.attempt
            call = OpenCall(self._decider.ids(), None, self._attempt if attempt is None else attempt, now())
        else:
            call = OpenCall(self._decider.ids(), entry.id, entry.attempt, now())
        self._calls[call.request_id] = call
        request = self._request(call)
        if entry is None:
            plan.discovering()
        try:
            reply = await self._app.transport.call(request)
        except CallError as error:
            if error.code in NOT_CARRIED:
                del self._calls[call.request_id]
                raise
            return call, Failed(encode({"error": error.code, "name": error.code, "message": error.message}))
        if plan.version == NO_VERSION:
            version = request_version(reply.headers)
            if version is not None:
                plan.version = self._chosen = version
        return call, outcome(reply.status, reply.headers, reply.body, now=now(), attempt=call.attempt)

    def _request(self, call: OpenCall) -> Call:
        plan = self.plan
        step_id = call.step_id or DISCOVERY
        context = CallContext(
            self.run_id, self._app.id, call.request_id, step_id, len(plan.stack), call.attempt, self._max_attempts,
            call.step_id is None and plan.executes_in_place, plan.version,
        )  # fmt: skip
        body = build_body(context, self._wire_events, plan.memos, plan.stack, plan.defers)
        return Call(
            _for_step(self._app.url, step_id), call_headers(context), body,
            self._app.app_id, self._app.id, self.run_id, call.request_id, step_id, context.job_id,
        )  # fmt: skip

    async def _take(self, call: OpenCall, result: Outcome) -> None:
        if isinstance(result, Finished):
            await self._finish(result.output)
        elif isinstance(result, Failed):
            await self._failed(call, result)
        else:
            await self._reported(call, result.ops)

    async def _finish(self, output: bytes) -> None:
        if self._plain:
            await self._end(drive.complete_plain, self.run, output)
        else:
            await self._end(drive.complete, self.run, RunStatus.COMPLETED, output)
        self._hang_up()

    async def _failed(self, call: OpenCall, failed: Failed) -> None:
        attempt = 0 if call.progressed else call.attempt
        error = error_object(decode(failed.error))
        # Without the message, which may carry what must not be logged.
        _log.info("run %s of %s: attempt %d failed with %s", self.run_id, self.code.id, attempt, error["name"])
        if call.step_id is None:
            self._failure = HandlerFailure(
                failed.error, attempt, call.started_at, failed.fatal, failed.retry_after, failed.cause, self._chosen
            )
            if failed.fatal or attempt + 1 >= self._max_attempts:
                await self._end(drive.fail_attempt, self.run, self._failure, self._max_attempts)
                self._hang_up()
        elif failed.fatal or call.attempt + 1 >= self._max_attempts:
            # The step never got to say what became of it: the function cannot go on.
            await self._fail(failed.error, failed.cause)
        else:
            op = self._unsuccessful(call.step_id, call.started_at, encode(error), failed.retry_after)
            await self._record([op])

    def _unsuccessful(self, step_id: str, started_at: int, error: bytes, retry_after: int | None) -> Op:
        entry, now = self.plan.entries[step_id], self._decider.clock.now()
        return Op(
            STEP_ERROR, step_id, entry.name, data=error, attempt=entry.attempt,
            started_at=started_at, ended_at=now, retry_after=retry_after,
        )  # fmt: skip

    async def _perform(self, entry: Entry) -> None:
        """Makes a request for the app."""
        started_at = self._decider.clock.now()
        try:
            try:
                result = await self._app.perform(entry.op, self._requests[entry.id])
            except GatewayFailure as failure:
                error = encode(failure.info.to_json())
                op = self._unsuccessful(entry.id, started_at, error, failure.retry_after)
                op.no_retry = failure.no_retry
            else:
                now = self._decider.clock.now()
                op = Op(STEP_RUN, entry.id, entry.name, None, result, None, entry.attempt, started_at, now)
            if not self._over():
                await self._record([op])
        except StoreError as error:
            self._give_up(error)
        finally:
            self._busy.discard(entry.id)
        self._advance()

    # Operations.

    async def checkpoint(self, request_id: str, ops: list[Op]) -> None:
        """Records steps that the app finished while its answer is still to come.

        What was recorded already is passed by. Raises `StaleCallError` when the call is no longer open, `StoreError`.
        """
        call = self._calls.get(request_id)
        if call is not None:
            async with call.turn:
                if self._calls.get(request_id) is call and not self._over():
                    await self._take_checkpoint(call, [op for op in ops if op.op in _CHECKPOINTED])
                    return
        raise StaleCallError(f"request {request_id} is not being answered any more: its work was given out again")

    async def _take_checkpoint(self, call: OpenCall, outcomes: list[Op]) -> None:
        for op in outcomes:
            op.attempt = call.attempt
        try:
            await self._record(self._sift(outcomes))
        finally:
            lost = self._over()
            # Its call may have ended meanwhile: then the run waited for this.
            self._advance()
        if lost:
            raise StaleCallError(f"request {call.request_id} lost its lease, or its run has ended")
        call.progressed = call.progressed or bool(outcomes)

    async def _reported(self, call: OpenCall, ops: list[Op]) -> None:
        end = next((op for op in ops if op.op in ENDS), None)
        for op in ops:
            op.attempt = call.attempt
        asks = any(op.op == DISCOVERY_REQUEST for op in ops)
        if asks:
            self.plan.ask()
        found = self._sift(ops)
        await self._record(found, alone=end is None and not asks)
        if self._over():
            return
        if end is not None and end.op == RUN_ERROR:
            cause = "NonRetriableError" if end.no_retry else None
            await self._failed(call, Failed(end.data or b"null", end.no_retry, end.retry_after, cause))
        elif end is not None:
            await self._complete(end)
        elif call.step_id is not None:
            await self._not_told(call, call.step_id)

    async def _not_told(self, call: OpenCall, step_id: str) -> None:
        """The app was called for a step: if it did not say what became of it, that attempt has failed."""
        if self.plan.entries[step_id].status == StepStatus.DUE:
            message = f"The app was called for step {self.plan.entries[step_id].name!r}, and did not report it."
            error = encode({"name": "StepNotReported", "message": message})
            await self._record([self._unsuccessful(step_id, call.started_at, error, None)])

    async def _complete(self, op: Op) -> None:
        output = op.data or b"null"
        large = exceeded(Op(STEP_RUN, "", "the function's result", data=output), 0, 0)
        if large is not None:
            await self._fail(msgspec.json.encode(large))
        else:
            await self._finish(output)


def _for_step(url: str, step_id: str) -> str:
    """The URL of a call: the app registered it with `stepId=step`."""
    if step_id == DISCOVERY:
        return url
    if f"stepId={DISCOVERY}" in url:
        return url.replace(f"stepId={DISCOVERY}", f"stepId={step_id}")
    return f"{url}{'&' if '?' in url else '?'}stepId={step_id}"
