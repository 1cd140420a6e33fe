"""The ways to the apps of a node, in one place: HTTP, the WebSockets of workers, and the requests made for apps."""

from __future__ import annotations

import asyncio
from typing import Final

from perdure.apps.endpoints import ENDPOINT, Endpoints
from perdure.apps.gateway import Gateway
from perdure.apps.http import HttpTransport
from perdure.apps.run import RemoteCode, RemoteRun, StaleCallError, UnknownRunError
from perdure.apps.settings import Patience
from perdure.apps.workers import WorkerPool
from perdure.engine import reads
from perdure.model.config import FunctionConfig
from perdure.model.errors import StoreError
from perdure.model.keys import Keys
from perdure.model.records import RunStatus
from perdure.runner.runner import Runner
from perdure.wire.ops import parse_checkpoint

_CHECKPOINT: Final = "checkpoint"
WEBSOCKET = "wss://connect/"
"""What the URLs of functions of connected workers begin with."""


class RemoteApps:
    """What calls apps on other servers. `registering` is the node's lock on changes of its functions.

    With `keys` calls are signed; without `allow_private`, step.fetch and step.ai.infer reach public addresses only.
    """

    def __init__(
        self,
        runner: Runner,
        pool: WorkerPool,
        registering: asyncio.Lock,
        *,
        keys: Keys | None = None,
        allow_private: bool = True,
        patience: Patience | None = None,
    ) -> None:
        self._runner = runner
        self._pool = pool
        self._http = HttpTransport(runner.decider.clock.now, keys)
        runner.neighbours.errands.doing[_CHECKPOINT] = self._take
        self._gateway = Gateway(allow_private=allow_private, now=runner.decider.clock.now)
        self.endpoints = Endpoints(runner, self._http, self._gateway, registering, patience or Patience())

    def code(self, config: FunctionConfig) -> RemoteCode:
        """What runs a function of another server's app. Its `url` must be set."""
        url = config.url or ""
        if url.startswith(ENDPOINT):
            return self.endpoints.code(config)
        transport = self._pool if url.startswith(WEBSOCKET) else self._http
        return RemoteCode(config.id, config.app_id, url, transport, self._gateway.perform)

    async def checkpoint(self, run_id: str, body: bytes) -> None:
        """Records what an app has finished of a run while it still answers a call (part E.8).

        Raises `MalformedOpsError`, `FatalOpError`, `UnknownRunError`, `StaleCallError`, `StoreError`.
        """
        decider = self._runner.decider
        found = parse_checkpoint(body, decider.clock.now())
        resident = self._runner.resident(run_id)
        if isinstance(resident, RemoteRun) and resident.begun:
            await resident.checkpoint(found.request_id, found.ops)
            return
        run = await decider.view(lambda: reads.run_by_id(run_id))
        if run is None or RunStatus(run.status).final:
            raise UnknownRunError("run not found in state store")
        job = await decider.view(lambda: reads.job_by_id(run_id))
        if job is not None and job.node is not None and job.node != decider.node:
            await self._pass_on(job.node, run_id, body)
            return
        raise StaleCallError(f"run {run_id} is not being driven by that request any more")

    async def _pass_on(self, node: str, run_id: str, body: bytes) -> None:
        """Gives a checkpoint to the node that has made the call which it belongs to."""
        try:
            answer = await self._runner.neighbours.errands.ask(node, _CHECKPOINT, run_id, body)
        except TimeoutError:
            raise StaleCallError(f"the node that drives run {run_id} does not answer") from None
        kind, _, text = answer.partition(" ")
        if kind == "unknown":
            raise UnknownRunError(text)
        if kind == "stale":
            raise StaleCallError(text)
        if kind == "refused":
            raise StoreError(text)

    async def _take(self, run_id: str, body: bytes) -> str:
        """A checkpoint that came by way of another node; what became of it."""
        resident = self._runner.resident(run_id)
        if not (isinstance(resident, RemoteRun) and resident.begun):
            return f"stale run {run_id} is not being driven by that request any more"
        found = parse_checkpoint(body, self._runner.decider.clock.now())
        try:
            await resident.checkpoint(found.request_id, found.ops)
        except UnknownRunError as error:
            return f"unknown {error}"
        except StaleCallError as error:
            return f"stale {error}"
        except StoreError as error:
            return f"refused {error}"
        return "kept"

    async def close(self) -> None:
        """Closes what is open."""
        await self._http.close()
        await self._gateway.close()
