"""Durable operations: an operation with steps as a run of perdure, which survives its process.

Each step is recorded before the next begins. One that fails for a reason that may pass is tried again; one that an
upstream refuses fails the run at once. The credentials are those of the document: a caller's own are not recorded, so
they are not used.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from perdure.capability.arguments import Argument, arguments
from perdure.capability.model import Action, Exposure
from perdure.capability.performing import Outcome, Performer
from perdure.capability.requests import CallError
from perdure.capability.running import Running
from perdure.model.errors import NonRetriableError, RunCancelledError, RunFailedError, StepError
from perdure.model.json import Json
from perdure.sdk.app import App
from perdure.sdk.context import Context
from perdure.sdk.step import step

_APP = "capability"
_TOLD = re.compile(r"(\d{3}) (\w+): (.*)", re.DOTALL)
_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})
_WAIT = 60.0
"""How long a caller waits for a run (seconds); then it is told its id."""


class Handle(Protocol):
    """A run that was started."""

    run_id: str

    async def result(self, timeout: float | None = None) -> Json:
        """Its result. Raises `RunFailedError`, `RunCancelledError`, `TimeoutError`."""
        ...


class Engine(Protocol):
    """A running engine, as far as it is needed here."""

    async def trigger(self, function: str, data: object = None) -> Handle:
        """Starts a function."""
        ...


class DurableRuns:
    """Durable operations of capabilities: the app of their functions, and the way to start them on an engine."""

    def __init__(self, running: Iterable[Running], wait: float = _WAIT) -> None:
        self.app = App(_APP)
        self._wait = wait
        self._slugs: dict[int, str] = {}
        self._engine: Engine | None = None
        for one in running:
            for exposure in one.opened.capability.exposures:
                for action, path in _durable(exposure):
                    found = arguments(one.opened.capability, exposure, action, path)
                    name = f"{exposure.namespace}-{action.name}"
                    _register(self.app, name, one.performer, exposure, action, found)
                    self._slugs[id(action)] = f"{_APP}-{name}"
                    one.performer.durable = self

    @property
    def any(self) -> bool:
        """Whether there is a durable operation."""
        return bool(self._slugs)

    def use(self, engine: Engine) -> None:
        """The engine that runs the app."""
        self._engine = engine

    async def start(self, action: Action, given: Mapping[str, Json]) -> str:
        """See `Durable.start`."""
        return (await self._trigger(action, given)).run_id

    async def run(self, action: Action, given: Mapping[str, Json]) -> Outcome:
        """See `Durable.run`."""
        handle = await self._trigger(action, given)
        try:
            return Outcome(value=await handle.result(self._wait))
        except TimeoutError:
            return Outcome(status=202, value={"runId": handle.run_id, "status": "RUNNING"})
        except RunFailedError as error:
            told = _TOLD.search(str(error))
            if told is None:
                raise CallError(502, "run_failed", str(error)) from error
            raise CallError(int(told[1]), told[2], told[3]) from error
        except RunCancelledError as error:
            raise CallError(409, "run_cancelled", str(error)) from error

    async def _trigger(self, action: Action, given: Mapping[str, Json]) -> Handle:
        if self._engine is None:
            raise CallError(503, "no_engine", f"{action.name}: the engine has not started")
        return await self._engine.trigger(self._slugs[id(action)], dict(given))


def _durable(exposure: Exposure) -> Iterable[tuple[Action, str]]:
    found = [(each.action, each.path) for each in exposure.operations] + [(each.action, "") for each in exposure.tools]
    return [(action, path) for action, path in found if action.durable and action.steps]


def _register(
    app: App, name: str, performer: Performer, exposure: Exposure, action: Action, found: list[Argument]
) -> None:
    async def handler(ctx: Context) -> Json:
        try:
            return await performer.replay(exposure, action, found, ctx.event.data, _record)
        except CallError as error:
            raise NonRetriableError(f"{error.status} {error.code}: {error}") from error

    app.function(name)(handler)


async def _record(name: str, call: Callable[[], Awaitable[Json]]) -> Json:
    async def attempt() -> Json:
        try:
            return await call()
        except CallError as error:
            told = f"{error.status} {error.code}: {error}"
            if error.status in _MAY_PASS:
                raise OSError(told) from error
            raise NonRetriableError(told) from error

    try:
        return await step.run(name, attempt)
    except StepError as error:
        told = _TOLD.search(str(error))
        if told is None:
            raise
        raise CallError(int(told[1]), told[2], told[3]) from error
