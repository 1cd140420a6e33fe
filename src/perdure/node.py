"""The one place that puts parts together: a store, a runner, apps, and the doors to them.

A `Node` is what `perdure.embedded` hands to a program and what the server serves: it takes events, starts and
cancels runs, and answers questions about them. Everything it accepts is committed before it answers.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from perdure.apps.availability import Availability
from perdure.apps.registry import Registry
from perdure.apps.remote import WEBSOCKET, RemoteApps
from perdure.apps.settings import Patience
from perdure.apps.workers import WorkerPool
from perdure.bus import Hub, RedisBus
from perdure.engine import intake, reads, views
from perdure.engine.catalogue import Catalogue, CompiledFunction
from perdure.engine.endpoints import installation_secret
from perdure.engine.retention import Retention
from perdure.model.config import FunctionConfig
from perdure.model.environments import MAIN_ID
from perdure.model.errors import ConfigError, StoreError
from perdure.model.ids import UlidFactory
from perdure.model.json import Json
from perdure.model.keys import Keys
from perdure.model.ops import Op
from perdure.model.records import AppRow, FunctionRow
from perdure.model.streams import MAX_STREAM_BYTES
from perdure.runner import Clock, Runner, SystemClock
from perdure.runner.decider import Decider
from perdure.runner.operations import Operations
from perdure.runner.resident import Handler
from perdure.runner.shared_clock import set_by
from perdure.runner.streams import Streams
from perdure.runner.sweeper import Sweeper
from perdure.sdk.app import App
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_log = logging.getLogger("perdure")


class Node(Operations):
    """A running perdure. Made by `embedded`, `lifespan` or the server commands.

    `apps` are registered when it starts: a function that changed gets a new version, one that is gone is archived.
    """

    def __init__(
        self,
        apps: Sequence[App],
        store: Store,
        *,
        clock: Clock | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        chance: Callable[[], float] = random.random,
        retention: Retention | None = None,
        retry_interval: int | None = None,
        max_active: int = 1000,
        max_per_app: int = 1000,
        max_stream_bytes: int = MAX_STREAM_BYTES,
        shutdown_timeout: float = 10.0,
        lifetime: float = 15.0,
        bus: str | None = None,
        keys: Keys | None = None,
        allow_private: bool = True,
        endpoint_silence: float = Patience().silence,
        endpoint_grace: float = Patience().grace,
        environment_id: str = MAIN_ID,
    ) -> None:
        clock = clock or SystemClock()
        decider = Decider(store, clock, UlidFactory(clock.now, entropy), chance, fixed_retry=retry_interval)
        super().__init__(
            Runner(
                decider,
                max_active=max_active,
                max_per_app=max_per_app,
                max_stream_bytes=max_stream_bytes,
                lifetime=int(lifetime * 1000),
                bus=None if bus is None else RedisBus(bus),
            )
        )
        self.store = store
        self.apps = list(apps)
        self.environment_id = environment_id
        self.realtime = Hub(clock.now, UlidFactory(clock.now, entropy), environment_id)
        self.sweeper = Sweeper(decider, retention or Retention())
        self._shutdown_timeout = shutdown_timeout
        self._started = False
        self.workers = WorkerPool(clock, entropy, environment_id=environment_id)
        self._remote = RemoteApps(
            self.runner, self.workers, self._registering, keys=keys, allow_private=allow_private,
            patience=Patience(endpoint_silence, endpoint_grace),
        )  # fmt: skip
        self.registry = Registry(
            self.runner, self._remote.code, self._registering, self._is_embedded, entropy, self._is_reachable
        )
        self.endpoints = self._remote.endpoints
        self._entropy = entropy
        self._secret = b""
        self._known: tuple[list[FunctionRow], list[AppRow]] = ([], [])
        self._availability = Availability(self.workers, self.runner, self._remote.code)

    async def start(self) -> None:
        """Opens the store, registers the apps, and begins to run what is due."""
        await self.store.open()
        try:
            await set_by(self.store, self.clock)
            self.decider.catalogue = Catalogue(await self._stored_functions())
            self._secret = await self.decide(installation_secret, "tokens", self._entropy(32))
            await self.registry.load()
            self._availability.load()
            self.runner.neighbours.on_apps = self._apps_changed
            if not self.store.exclusive:
                self.runner.neighbours.on_said = self.realtime.hear
                self.realtime.outward = self._tell_others
            # What waited for room among the calls of a process that is gone competes again.
            remote = [function.config for function in self.catalogue.functions.values() if function.config.url]
            await self.decider.decide(intake.unblock, remote)
            for app in self.apps:
                await self.register(app)
            if not self.store.exclusive:
                self._known = await self._stored()
            # A copy of a database has the same secrets.
            await self.runner.start(f"{self.secret('bus').hex()}:{await self.store.identity()}")
        except BaseException:
            await self.store.close()
            raise
        self.sweeper.start()
        attach: Callable[[Callable[[], Awaitable[None]]], None] | None = getattr(self.clock, "attach", None)
        if attach is not None:
            attach(self.settle)
        self._started = True

    def _tell_others(self, said: str) -> None:
        self.runner.neighbours.relay.tell(f"say {said}")

    async def _apps_changed(self) -> None:
        """Another node has registered functions, paused them, or synced apps."""
        async with self._registering:
            stored = await self._stored()
            if stored == self._known:
                return
            self._known = stored
            self.decider.catalogue = Catalogue(await self._stored_functions())
            await self.registry.load()
            self._availability.load()

    async def _stored(self) -> tuple[list[FunctionRow], list[AppRow]]:
        """What is registered, as it was when this node last looked."""
        return await self.view(reads.functions), await self.view(reads.apps)

    def _is_reachable(self, config: FunctionConfig) -> bool:
        """Whether a function of another server's app can be called now; one of a worker needs the worker."""
        return not (config.url or "").startswith(WEBSOCKET) or config.id in self.workers.served

    def secret(self, purpose: str) -> bytes:
        """What this installation signs tokens of a kind with: random, and the same after a restart."""
        if not self._secret:
            raise RuntimeError("the engine has not started: ask it for its application once it has")
        return hmac.digest(self._secret, purpose.encode(), "sha256")

    def _is_embedded(self, app_id: str) -> bool:
        return any(app.id == app_id for app in self.apps)

    async def checkpoint(self, run_id: str, body: bytes) -> None:
        """Records what an app on another server has finished of a run; see `RemoteApps.checkpoint`."""
        await self._remote.checkpoint(run_id, body)

    async def _stored_functions(self) -> list[CompiledFunction]:
        """The functions that apps have registered before; their apps need not be here now."""
        functions: list[CompiledFunction] = []
        for row in await self.view(reads.functions):
            try:
                if row.archived_at is None:
                    functions.append(intake.in_force(row))
            except ConfigError as error:
                # An app of an older version left it; the app's next registration says so to who can mend it.
                _log.error("function %s is not in force: %s", row.id, error)
        return functions

    async def stop(self) -> None:
        """Lets executing steps finish within the shutdown timeout, hands back the rest, and closes the store.

        Harmless when it has been stopped already.
        """
        if not self._started:
            return
        self._started = False
        for app in self.apps:
            app.unbind(self)
        self.hang_up()
        detach: Callable[[Callable[[], Awaitable[None]]], None] | None = getattr(self.clock, "detach", None)
        if detach is not None:
            detach(self.settle)
        await self.sweeper.stop()
        await self._availability.close()
        parting = asyncio.create_task(self.workers.close(self._shutdown_timeout))
        try:
            await self.runner.stop(self._shutdown_timeout)
        except StoreError as error:
            _log.error("the store could not take the last changes; the next start recovers: %s", error)
        finally:
            await parting
            await self._remote.close()
            await self.store.close()

    def hang_up(self) -> None:
        """Ends the connections that would stay open otherwise; whoever serves calls it before it waits for them."""
        self.realtime.hang_up("the server stops")
        self.streams.hang_up()

    async def register(self, app: App) -> None:
        """Puts an app's functions in force: new starts, and in-flight runs from their next step on, use this code."""
        if app.offers:
            # Programs without agents need not load them.
            from perdure.agents.stored import serve_stored_agents

            serve_stored_agents(app)
        configs = [function.config for function in app.functions.values()]
        await self.registry.hand_over(app.id)
        await self.register_configs(app.id, configs)
        self.runner.drop(function.id for old in self.apps if old.id == app.id for function in old.functions.values())
        self.runner.use(Handler(function) for function in app.functions.values())
        # What was blocked under the old limits, or came before the code was there, competes under the new ones.
        await self.decider.decide(intake.unblock, configs)
        self.apps = [old for old in self.apps if old.id != app.id] + [app]
        app.bind(self)

    async def register_configs(self, app_id: str, configs: list[FunctionConfig]) -> None:
        """Registers the functions of an app, wherever its code runs. Raises `ConfigError`."""
        async with self._registering:
            functions = await self.decider.decide(intake.register, app_id, configs)
            self.decider.catalogue = Catalogue(functions)

    @property
    def agents(self) -> dict[str, Json]:
        """The agents of the apps, by id, each with its app."""
        return {id: (agent, app) for app in reversed(self.apps) for id, agent in app.agents.items()}

    @property
    def streams(self) -> Streams:
        """What runs say while they go on."""
        return self.runner.streams

    @property
    def changes(self) -> str:
        """How far the records have got; where other nodes record, too, it changes every 2 s."""
        others = 0 if self.store.exclusive else self.clock.now() // 2000
        return f"{self.decider.node}-{self.store.submitted}-{others}"

    @property
    def retention(self) -> Retention:
        """How long what has ended is kept."""
        return self.sweeper.policy

    @property
    def id(self) -> str:
        """What tells this node from others on its database; new with every start."""
        return self.decider.node

    @property
    def has_bus(self) -> bool:
        """Whether its news travel over a bus that all nodes of the database hear."""
        return self.runner.neighbours.relay.shared

    @property
    def load(self) -> tuple[int, int]:
        """How many runs execute, and how many are parked in memory."""
        return self.runner.load

    def executing(self, run_id: str) -> Sequence[Op]:
        """The steps of a run that execute on this node at this moment, as far as that is known."""
        resident = self.runner.resident(run_id)
        return () if resident is None else resident.executing

    def asgi(self) -> ASGIApp:
        """The server as an ASGI application (events, REST, metrics), to serve or to mount into another one.

        Use: `Mount("/perdure", engine.asgi())` in Starlette, `api.mount("/perdure", engine.asgi())` in FastAPI.
        """
        # Programs without a server need not load one.
        from perdure.server import make_app

        return make_app(self)

    # For tests and for those who wait.

    async def drain(self, timeout: float = 60.0) -> None:
        """Waits until nothing is left to do, what is due later included; cron ticks alone keep nothing going.

        A virtual clock jumps there: sleeps, timeouts and retries of months pass in milliseconds. Raises
        `TimeoutError` after `timeout` seconds of real time.
        """
        async with asyncio.timeout(timeout):
            while True:
                await self.settle()
                due_at = await self.view(views.next_due_besides_cron)
                if due_at is None:
                    return
                if not await _jump(self.clock, due_at):
                    await asyncio.sleep(max(0.01, (due_at - self.clock.now()) / 1000))

    async def settle(self) -> None:
        """Waits until everything that can run now has run, and the rest waits."""
        quiet = 0
        while quiet < 5:
            quiet = quiet + 1 if self.runner.idle else 0
            await asyncio.sleep(0 if quiet else 0.0005)


async def _jump(clock: Clock, at: int) -> bool:
    """Moves a clock that can be moved."""
    jump: Callable[[int], Awaitable[None]] | None = getattr(clock, "jump_to", None)
    if jump is None:
        return False
    await jump(at)
    return True
