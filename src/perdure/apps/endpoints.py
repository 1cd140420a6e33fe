"""What a node does for requests that become runs: takes reports of them, and tells how they ended."""

from __future__ import annotations

import asyncio

from perdure.apps.endpoint import EndpointCode, EndpointRun
from perdure.apps.gateway import Gateway
from perdure.apps.http import HttpTransport
from perdure.apps.run import StaleCallError, UnknownRunError
from perdure.engine import endpoints, reads
from perdure.engine.catalogue import Catalogue, CompiledFunction
from perdure.model.config import FunctionConfig
from perdure.model.event import Event, StoredEvent
from perdure.model.ops import Op
from perdure.model.records import AppRow, Run, RunStatus
from perdure.runner.handle import RunHandle
from perdure.runner.runner import Runner
from perdure.wire.endpoints import HTTP_REQUEST, NewRun

ENDPOINT = "endpoint+"
"""What the URLs of functions begin with whose requests were made first by somebody else."""


class Endpoints:
    """The endpoints of a node. `registering` is the node's lock on changes of its functions."""

    def __init__(self, runner: Runner, transport: HttpTransport, gateway: Gateway, registering: asyncio.Lock) -> None:
        self._runner = runner
        self._decider = runner.decider
        self._transport = transport
        self._gateway = gateway
        self._registering = registering

    def code(self, config: FunctionConfig) -> EndpointCode:
        """What runs the requests of a function."""
        return EndpointCode(config.id, config.app_id, config.url or "", self._transport, self._gateway.perform)

    async def begin(self, new: NewRun) -> CompiledFunction:
        """Begins the run of a request, or takes another report of one that has begun; returns its function.

        Raises `StaleCallError`, `StoreError`.
        """
        function = await self._function(new)
        now = self._decider.clock.now()
        internal_id = self._decider.ids()
        event = Event(HTTP_REQUEST, new.request, internal_id, now)
        stored = StoredEvent(internal_id, event, now, internal=True)
        began = await self._decider.decide(endpoints.begin, new.run_id, function, stored)
        if began or new.ops:
            await self.report(new.run_id, new.ops)
        return function

    async def _function(self, new: NewRun) -> CompiledFunction:
        domain, name = new.domain, new.name
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

    async def report(self, run_id: str, ops: list[Op]) -> None:
        """Takes what the app of a run reports. Raises `UnknownRunError`, `StaleCallError`, `StoreError`."""
        resident = self._runner.resident(run_id)
        if isinstance(resident, EndpointRun) and resident.begun:
            await resident.report(ops)
            return
        run = await self._decider.view(lambda: reads.run_by_id(run_id))
        if run is None:
            raise UnknownRunError(f"there is no run {run_id}")
        if RunStatus(run.status).final:
            # What ended it is told once more: its report was taken, and the answer to that was lost.
            return
        raise StaleCallError(f"run {run_id} cannot take reports now; try again")

    async def outcome(self, run_id: str, within: float) -> Run | None:
        """A run when it has ended, None if it has not within some seconds. Raises `NotFoundError`."""
        try:
            await RunHandle[object](self._runner, run_id).outcome(within)
        except TimeoutError:
            return None
        return await self._decider.view(lambda: reads.run_by_id(run_id))
