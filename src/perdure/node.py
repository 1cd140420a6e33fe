"""The one place that puts parts together: a store, a runner, apps, and the doors to them.

A `Node` is what `perdure.embedded` hands to a program and what the server serves: it takes events, starts and
cancels runs, and answers questions about them. Everything it accepts is committed before it answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar, overload

import msgspec

from perdure import expressions
from perdure.apps.availability import Availability
from perdure.apps.registry import Registry
from perdure.apps.remote import WEBSOCKET, RemoteApps
from perdure.apps.workers import WorkerPool
from perdure.bus import Hub
from perdure.engine import intake, operate, reads, replays, views
from perdure.engine.catalogue import Catalogue, CompiledFunction
from perdure.engine.intake import Invoked
from perdure.engine.retention import Retention
from perdure.engine.schedule import Refused
from perdure.engine.turn import Decision, Turn
from perdure.model import values
from perdure.model.config import FunctionConfig
from perdure.model.errors import ConfigError, NotFoundError, RefusedError, StoreError
from perdure.model.event import FUNCTION_INVOKED, EventError, StoredEvent, parse_event
from perdure.model.ids import UlidFactory, seeded_ulid
from perdure.model.json import Json
from perdure.model.keys import Keys
from perdure.model.limits import MAX_EVENT_BYTES
from perdure.model.records import Replay, RunStatus
from perdure.runner import Clock, Runner, SystemClock
from perdure.runner.decider import Decider
from perdure.runner.handle import RunHandle
from perdure.runner.resident import Handler
from perdure.runner.sweeper import Sweeper
from perdure.sdk.app import App
from perdure.sdk.function import Function
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
_log = logging.getLogger("perdure")


class Accepted(msgspec.Struct):
    """Events that were accepted: their internal ids, and the ids of the runs that each started."""

    event_ids: list[str]
    run_ids: list[list[str]]


class Node:
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
        shutdown_timeout: float = 10.0,
        keys: Keys | None = None,
        allow_private: bool = True,
    ) -> None:
        self.clock = clock or SystemClock()
        self.store = store
        self.apps = list(apps)
        self._ids = UlidFactory(self.clock.now, entropy)
        self.realtime = Hub(self.clock.now, UlidFactory(self.clock.now, entropy))
        self._decider = Decider(store, self.clock, self._ids, chance, fixed_retry=retry_interval)
        self.runner = Runner(self._decider, max_active=max_active, max_per_app=max_per_app)
        self.sweeper = Sweeper(self._decider, retention or Retention())
        self._shutdown_timeout = shutdown_timeout
        self._started = False
        # One change of the catalogue at a time: each is made from the one before.
        self._registering = asyncio.Lock()
        self.workers = WorkerPool(self.clock, entropy)
        self._remote = RemoteApps(self.runner, self.workers, keys=keys, allow_private=allow_private)
        self.registry = Registry(
            self.runner, self._remote.code, self._registering, self._is_embedded, entropy, self._is_reachable
        )
        self._availability = Availability(self.workers, self.runner, self._remote.code)

    async def start(self) -> None:
        """Opens the store, registers the apps, and begins to run what is due."""
        await self.store.open()
        try:
            self._decider.catalogue = Catalogue(await self._stored_functions())
            await self.registry.load()
            self._availability.load()
            # What waited for room among the calls of a process that is gone competes again.
            remote = [function.config for function in self.catalogue.functions.values() if function.config.url]
            await self._decider.decide(intake.unblock, remote)
            for app in self.apps:
                await self.register(app)
            await self.runner.start()
        except BaseException:
            await self.store.close()
            raise
        self.sweeper.start()
        attach: Callable[[Callable[[], Awaitable[None]]], None] | None = getattr(self.clock, "attach", None)
        if attach is not None:
            attach(self.settle)
        self._started = True

    def _is_reachable(self, config: FunctionConfig) -> bool:
        """Whether a function of another server's app can be called now; one of a worker needs the worker."""
        return not (config.url or "").startswith(WEBSOCKET) or config.id in self.workers.served

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

    async def register(self, app: App) -> None:
        """Puts an app's functions in force: new starts, and in-flight runs from their next step on, use this code."""
        configs = [function.config for function in app.functions.values()]
        await self.registry.hand_over(app.id)
        await self.register_configs(app.id, configs)
        self.runner.drop(function.id for old in self.apps if old.id == app.id for function in old.functions.values())
        self.runner.use(Handler(function) for function in app.functions.values())
        # What was blocked under the old limits, or came before the code was there, competes under the new ones.
        await self._decider.decide(intake.unblock, configs)
        self.apps = [old for old in self.apps if old.id != app.id] + [app]
        app.bind(self)

    async def register_configs(self, app_id: str, configs: list[FunctionConfig]) -> None:
        """Registers the functions of an app, wherever its code runs. Raises `ConfigError`."""
        async with self._registering:
            functions = await self._decider.decide(intake.register, app_id, configs)
            self._decider.catalogue = Catalogue(functions)

    @property
    def catalogue(self) -> Catalogue:
        """The functions in force."""
        return self._decider.catalogue

    # Events and runs.

    async def ingest(self, bodies: Sequence[Json], *, seed: tuple[int, bytes] | None = None) -> Accepted:
        """Accepts events from outside, all or none. Raises `EventError` with the index of a malformed one."""
        now = self.clock.now()
        stored = [
            parse_event(
                body,
                now=now,
                internal_id=self._ids() if seed is None else seeded_ulid(seed[0], seed[1], index + 1),
                index=index,
            )
            for index, body in enumerate(bodies)
        ]
        started = await self._decider.decide(intake.ingest, stored, seeded=seed is not None)
        return Accepted([event.internal_id for event in stored], started)

    async def send(self, events: list[dict[str, Json]]) -> list[str]:
        """Accepts events and returns their ids: the `Sender` of the apps."""
        return (await self.ingest(events)).event_ids

    @overload
    async def trigger(
        self,
        function: Function[R],
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[R]: ...
    @overload
    async def trigger(
        self,
        function: str,
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[Json]: ...
    async def trigger(
        self,
        function: Function[Json] | str,
        data: object = None,
        *,
        user: dict[str, Json] | None = None,
        id: str | None = None,
    ) -> RunHandle[Json]:
        """Starts one function and returns its run. `id` makes the start idempotent: within 24h, the same id gives
        the run that it started first.

        Raises `NotFoundError` for an unknown function, `EventError` for data over 3 MiB, `RefusedError` when flow
        control starts no run now.
        """
        function_id = function if isinstance(function, str) else function.id
        invoked = await self.invoke(function_id, {"data": _plain(data), "user": user, "id": id})
        if invoked.run_id is not None:
            return RunHandle(self.runner, invoked.run_id, function, fresh=invoked.refused is None)
        raise _refused(invoked.refused)

    async def invoke(self, function_id: str, body: dict[str, Json]) -> Invoked:
        """Starts one function with an event without a name. Raises `EventError`, `NotFoundError`."""
        now, internal_id = self.clock.now(), self._ids()
        event = parse_event({**body, "name": "invoked"}, now=now, internal_id=internal_id).event
        event.name = FUNCTION_INVOKED
        stored = StoredEvent(internal_id, event, now, internal=True)
        invoked = await self._decider.decide(intake.invoke, function_id, stored)
        if invoked is None:
            raise self._no_function(function_id)
        return invoked

    def _no_function(self, function_id: str) -> NotFoundError:
        known = sorted(self.catalogue.functions)
        return NotFoundError(f"there is no function {function_id!r}; registered are {known}")

    async def runs_of(self, event_id: str) -> list[RunHandle[Json]]:
        """The runs that an event started, by the event's internal id (what `app.send` returns)."""
        return [self.run(run.id) for run in await self.view(partial(views.runs_of_event, event_id))]

    def run(self, run_id: str, function: Function[R] | None = None) -> RunHandle[R]:
        """The handle of a run by its id."""
        return RunHandle(self.runner, run_id, function)

    async def cancel(self, run_id: str) -> RunStatus:
        """Cancels a run; returns the status it had. Raises `NotFoundError`."""
        status = await self._decider.decide(intake.cancel, run_id)
        if status is None:
            raise NotFoundError(f"there is no run {run_id}")
        return status

    async def rerun(
        self, run_id: str, from_step: str | None = None, arguments: list[Json] | None = None
    ) -> RunHandle[Json]:
        """Starts a run once more, with the same events, as a new run.

        `from_step` is the name of a step, or its hash: what was recorded before it is not done again, that step and
        later ones are. `arguments` are what it gets instead of its own, if its app is on another server. Raises
        `NotFoundError` for an unknown run, `RefusedError` otherwise (`reason` "step_not_found", "input_fixed",
        "unregistered", "function_paused", "skipped", "events_gone").
        """
        outcome = await self._decider.decide(operate.rerun, run_id, from_step, arguments)
        if outcome is None:
            raise NotFoundError(f"there is no run {run_id}")
        if isinstance(outcome, Refused):
            raise _refused(outcome)
        return RunHandle(self.runner, outcome, fresh=True)

    async def pause_function(self, function: Function[Json] | str) -> None:
        """Pauses a function: events and ticks start nothing, and its runs rest as soon as no step of theirs executes.

        It stays paused over restarts until `resume_function`. Raises `NotFoundError`.
        """
        await self._set_paused(function if isinstance(function, str) else function.id, True)

    async def resume_function(self, function: Function[Json] | str) -> None:
        """Ends a pause: the function's runs go on where they were. Raises `NotFoundError`."""
        await self._set_paused(function if isinstance(function, str) else function.id, False)

    async def _set_paused(self, function_id: str, paused: bool) -> None:
        async with self._registering:
            function = await self._decider.decide(operate.set_paused, function_id, paused)
            if function is None:
                raise self._no_function(function_id)
            # A catalogue in use by the store's thread must not change under it.
            others = [other for other in self.catalogue.functions.values() if other.id != function_id]
            self._decider.catalogue = Catalogue([*others, function])
        if not paused:
            # Now that the catalogue knows: before, they would have been blocked again.
            await self._decider.decide(intake.unblock, [function.config])

    async def cancel_many(
        self,
        function_id: str,
        *,
        started_after: int | None = None,
        started_before: int | None = None,
        if_: str | None = None,
    ) -> int:
        """Cancels the runs of a function that began in a span of time (ms) and satisfy `if_`; returns how many."""
        condition = expressions.compile(if_, variables=frozenset({"event"})) if if_ else None
        cancelled, cursor = 0, ""
        while True:
            count, following = await self._decider.decide(
                intake.cancel_many,
                function_id,
                started_after=started_after,
                started_before=started_before,
                condition=condition,
                after_id=cursor,
            )
            cancelled += count
            if following is None:
                return cancelled
            cursor = following

    async def replay(
        self,
        function: Function[Json] | str,
        *,
        id: str | None = None,
        statuses: Sequence[RunStatus] = (RunStatus.FAILED,),
        queued_from: int | None = None,
        queued_until: int | None = None,
    ) -> Replay:
        """Starts the runs of a function that ended with one of the statuses and were queued in a span of time (ms,
        both ends included) once more; returns what came of it.

        `id` makes it idempotent for 30 days: the same id does nothing twice, and goes on where a crash ended it.
        Raises `NotFoundError`, and `RefusedError` (`reason` "replay_mismatch" when the id was taken by another
        choice of runs, "function_paused").
        """
        function_id = function if isinstance(function, str) else function.id
        if self.catalogue.get(function_id) is None:
            raise self._no_function(function_id)
        replay_id = id or self._ids()
        choice = replays.Choice([int(status) for status in statuses], queued_from, queued_until)
        replay = await self._decider.decide(replays.begin, replay_id, function_id, choice)
        while isinstance(replay, Replay) and replay.ended_at is None:
            replay = await self._decider.decide(replays.advance, replay_id)
        if isinstance(replay, Refused):
            raise _refused(replay)
        return replay

    async def decide(self, make: Callable[Concatenate[Turn, P], Decision[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Makes a decision of the engine durable."""
        return await self._decider.decide(make, *args, **kwargs)

    async def signal(self, name: str, data: object = None) -> str | None:
        """Sends a signal; returns the id of the run that waited for it, None when none did."""
        plain = _plain_value(data, f"the data of signal {name!r}")
        return await self._decider.decide(intake.signal, name, plain)

    async def view(self, begin: Callable[[], Decision[T]]) -> T:
        """Answers a question of `perdure.engine.views` or `reads`."""
        return await self._decider.view(begin)

    @property
    def load(self) -> tuple[int, int]:
        """How many runs execute, and how many are parked in memory."""
        return self.runner.load

    def asgi(self) -> ASGIApp:
        """The server as an ASGI application (events, REST, metrics), to serve or to mount into another one.

        Use: `Mount("/perdure", engine.asgi())` in Starlette, `api.mount("/perdure", engine.asgi())` in FastAPI.
        """
        # Programs without a server need not load one.
        from perdure.server import make_app

        return make_app(self)

    async def health(self) -> views.Health:
        """Counts, and what should not be there."""
        return await self.view(views.health)

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


def _refused(refused: Refused | None) -> RefusedError:
    return RefusedError(refused.reason, refused.message) if refused else RefusedError("refused", "no run was started")


def _plain(data: object) -> dict[str, Json]:
    if data is None:
        return {}
    encoded = values.encode(data, where="the data of the event")
    if len(encoded) > MAX_EVENT_BYTES:
        raise EventError(f"event has {len(encoded)} bytes, and at most {MAX_EVENT_BYTES} are allowed: send a reference")
    plain = values.decode(encoded, None)
    if not isinstance(plain, dict):
        raise TypeError(f"data must be an object, got {type(data).__name__}")
    return plain


def _plain_value(data: object, where: str) -> Json:
    return values.decode(values.encode(data, where=where), None, where=where)


async def _jump(clock: Clock, at: int) -> bool:
    """Moves a clock that can be moved."""
    jump: Callable[[int], Awaitable[None]] | None = getattr(clock, "jump_to", None)
    if jump is None:
        return False
    await jump(at)
    return True
