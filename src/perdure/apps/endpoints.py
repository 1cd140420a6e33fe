"""What a node does for requests that become runs: takes reports of them, and tells how they ended."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from perdure.apps.endpoint import EndpointCode, EndpointRun, Known, LimitError, is_news
from perdure.apps.gateway import Gateway
from perdure.apps.http import HttpTransport
from perdure.apps.run import StaleCallError, UnknownRunError
from perdure.apps.settings import Patience
from perdure.engine import endpoints, reads
from perdure.engine.catalogue import Catalogue, CompiledFunction
from perdure.engine.limits import exceeded
from perdure.model.config import FunctionConfig
from perdure.model.errors import NotFoundError, PerdureError, StoreError, error_info
from perdure.model.event import Event, StoredEvent
from perdure.model.ops import STEP_RUN, Op
from perdure.model.records import AppRow, Run, RunStatus, Step, StepStatus
from perdure.runner.runner import Runner
from perdure.wire.endpoints import HTTP_REQUEST, NewRun
from perdure.wire.memos import memo_of

ENDPOINT = "endpoint+"
"""What the URLs of functions begin with whose requests were made first by somebody else."""
_MOST_FUNCTIONS = 500
"""How many functions of one domain are told apart by their paths."""


class BusyError(PerdureError):
    """The run of a report is not where reports are taken right now; the same report will be, a moment later."""


_REPORT: Final = "report"
_KEPT: Final = "kept"
_REFUSALS: Final = (UnknownRunError, StaleCallError, LimitError, BusyError, StoreError)
"""What becomes of a report that is not taken."""
_report = msgspec.json.Encoder()


class Endpoints:
    """The endpoints of a node. `registering` is the node's lock on changes of its functions."""

    def __init__(
        self,
        runner: Runner,
        transport: HttpTransport,
        gateway: Gateway,
        registering: asyncio.Lock,
        patience: Patience,
    ) -> None:
        self.patience = patience
        self._runner = runner
        self._decider = runner.decider
        self._transport = transport
        self._gateway = gateway
        self._registering = registering
        runner.neighbours.errands.doing[_REPORT] = self._take

    def code(self, config: FunctionConfig) -> EndpointCode:
        """What runs the requests of a function."""
        perform = self._gateway.perform
        return EndpointCode(config.id, config.app_id, config.url or "", self._transport, perform, self.patience)

    async def begin(self, new: NewRun) -> CompiledFunction:
        """Begins the run of a request, or takes another report of one that has begun; returns its function.

        Raises `StaleCallError`, `LimitError`, `BusyError`, `StoreError`.
        """
        function = await self._function(new)
        now = self._decider.clock.now()
        internal_id = self._decider.ids()
        event = Event(HTTP_REQUEST, new.request, internal_id, now)
        stored = StoredEvent(internal_id, event, now, internal=True)
        done = _plainly_done(new.ops)
        began = await self._decider.decide(endpoints.begin, new.run_id, function, stored, done)
        if began and done:
            return function
        if not began:
            run = await self._decider.view(lambda: reads.run_by_id(new.run_id))
            if run is not None and run.function_id != function.id:
                raise StaleCallError(
                    f"run {new.run_id} is one of {run.function_id}: each request needs an id of its own"
                )
        if began or new.ops:
            await self.report(new.run_id, new.ops, goes_on=new.goes_on)
        return function

    async def _function(self, new: NewRun) -> CompiledFunction:
        domain, name = new.domain, self._name(new)
        config = FunctionConfig(f"{domain}-{name}", domain, name, (), new.retries, url=f"{ENDPOINT}{domain}")
        async with self._registering:
            known = self._decider.catalogue.get(config.id)
            if known is not None and known.config == config:
                return known
            now = self._decider.clock.now()
            row = AppRow(domain, "api", domain, "", "", "", "", "", now, now)
            function = await self._decider.decide(endpoints.register, row, config)
            others = [each for each in self._decider.catalogue.functions.values() if each.id != config.id]
            self._decider.catalogue = Catalogue([*others, function])
        self._runner.use([self.code(config)])
        return function

    def _name(self, new: NewRun) -> str:
        """The function of a request: one for a method, once a domain has very many, for anybody can ask for paths."""
        functions = self._decider.catalogue.functions
        if f"{new.domain}-{new.name}" in functions or new.request.get("fn"):
            return new.name
        known = sum(function.app_id == new.domain for function in functions.values())
        return new.name if known < _MOST_FUNCTIONS else f"{new.request['method']} /*"

    async def report(self, run_id: str, ops: list[Op], *, goes_on: bool = False) -> None:
        """Takes what the app of a run reports; `goes_on`: a step that failed for good does not end the first request.

        Raises `UnknownRunError`, `StaleCallError`, `LimitError`, `BusyError`, `StoreError`.
        """
        resident = self._runner.resident(run_id)
        if isinstance(resident, EndpointRun) and resident.begun and await resident.report(ops, goes_on=goes_on):
            return
        run = await self._decider.view(lambda: reads.run_by_id(run_id))
        if run is None or not self._is_endpoint(run):
            raise UnknownRunError(f"there is no run {run_id} that began with a request")
        job = await self._decider.view(lambda: reads.job_by_id(run_id))
        if job is not None and job.node is not None and job.node != self._decider.node:
            if await self._pass_on(job.node, run_id, ops, goes_on=goes_on):
                return
            # What it has made of it is in the rows by now, as if it had come here.
            run = await self._load(run_id)
        if run.request_version is None and not RunStatus(run.status).final:
            raise BusyError(f"run {run_id} cannot take reports this moment; try again")
        steps = {step.id: step for step in await self._decider.view(lambda: reads.steps_of(run_id))}
        if any(is_news(op, _known(steps.get(op.id)), run) for op in ops):
            raise StaleCallError(_why(run))

    async def _pass_on(self, node: str, run_id: str, ops: list[Op], *, goes_on: bool) -> bool:
        """Gives a report to the node that drives the run; whether that has taken it."""
        try:
            answer = await self._runner.neighbours.errands.ask(node, _REPORT, run_id, _report.encode((ops, goes_on)))
        except TimeoutError:
            return False
        kind, _, text = answer.partition(" ")
        for error in _REFUSALS:
            if error.__name__ == kind:
                raise error(text)
        return kind == _KEPT

    async def _take(self, run_id: str, body: bytes) -> str:
        """A report that came by way of another node; what became of it."""
        resident = self._runner.resident(run_id)
        ops, goes_on = msgspec.json.decode(body, type=tuple[list[Op], bool])
        try:
            if isinstance(resident, EndpointRun) and resident.begun and await resident.report(ops, goes_on=goes_on):
                return _KEPT
        except _REFUSALS as error:
            return f"{type(error).__name__} {error}"
        return "left"

    def _is_endpoint(self, run: Run) -> bool:
        function = self._decider.catalogue.get(run.function_id)
        return function is not None and (function.config.url or "").startswith(ENDPOINT)

    def expects(self, run_id: str, request_id: str) -> bool:
        """Whether a request of a run was made again under this id, and is open: so an app in this process knows it."""
        resident = self._runner.resident(run_id)
        return isinstance(resident, EndpointRun) and resident.expects(request_id)

    async def outcome(self, run_id: str, within: float) -> Run | None:
        """A run when it has ended, None if it has not within some seconds. Raises `NotFoundError`."""
        ended = asyncio.Event()
        with self._runner.ended.subscribed(run_id, lambda _: ended.set()):
            run = await self._load(run_id)
            if RunStatus(run.status).final:
                return run
            try:
                async with asyncio.timeout(within):
                    await ended.wait()
            except TimeoutError:
                return None
        return await self._load(run_id)

    async def _load(self, run_id: str) -> Run:
        run = await self._decider.view(lambda: reads.run_by_id(run_id))
        if run is None:
            raise NotFoundError(f"there is no run {run_id}")
        return run


def _plainly_done(ops: list[Op]) -> list[Op]:
    """The operations, if they are steps that succeeded and nothing else: then they are recorded as their run begins."""
    size = 0
    for count, op in enumerate(ops, 1):
        size += len(op.data or b"")
        if op.op != STEP_RUN or op.metadata is not None or exceeded(op, count, size) is not None:
            return []
    return ops if len({op.id for op in ops}) == len(ops) else []


def _known(step: Step | None) -> Known | None:
    if step is None:
        return None
    failed = step.status == StepStatus.FAILED
    return Known(step.status, memo_of(step.op, step.data or b"null", failed=failed), step.started_at)


def _why(run: Run) -> str:
    status = RunStatus(run.status)
    if status == RunStatus.FAILED:
        info = error_info(run.output or b"null")
        return f"run {run.id} has failed, and takes no more: {info.name}: {info.message}"
    if status.final:
        return f"run {run.id} was {status}, and takes no more"
    return f"run {run.id} is no longer reported by the request that began it"
