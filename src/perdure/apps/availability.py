"""Functions of workers are runnable exactly while a worker that is ready serves them.

Without one, their runs wait as those of any function without code do: nothing is called, so no attempt is used up.
When a worker comes they go on. Functions that are called in another way are left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from perdure.apps.remote import WEBSOCKET
from perdure.apps.workers import WorkerPool
from perdure.engine import intake
from perdure.model.config import FunctionConfig
from perdure.model.errors import StoreError
from perdure.runner.residence import Code
from perdure.runner.runner import Runner

_log = logging.getLogger("perdure.connect")

_PAUSE_AFTER_ERROR = 1.0


class Availability:
    """Tells a runner which functions of workers it can call. `code_of` makes them callable."""

    def __init__(self, pool: WorkerPool, runner: Runner, code_of: Callable[[FunctionConfig], Code]) -> None:
        self._pool = pool
        self._runner = runner
        self._code_of = code_of
        self._tasks: set[asyncio.Task[None]] = set()
        pool.on_change = self._on_change

    def load(self) -> None:
        """Puts aside the stored functions of workers: none is connected yet. Before anything runs."""
        everything = self._runner.decider.catalogue.functions
        self._runner.drop(config.id for config in self._configs(everything) if config.id not in self._pool.served)

    async def close(self) -> None:
        """Ends what is going on."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_change(self, gained: frozenset[str], lost: frozenset[str]) -> None:
        self._runner.drop(config.id for config in self._configs(lost))
        configs = self._configs(gained)
        if configs:
            self._runner.use(self._code_of(config) for config in configs)
            task = asyncio.get_running_loop().create_task(self._unblock(configs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _configs(self, function_ids: Iterable[str]) -> list[FunctionConfig]:
        catalogue = self._runner.decider.catalogue
        found = [catalogue.get(function_id) for function_id in function_ids]
        configs = [function.config for function in found if function is not None]
        return [config for config in configs if (config.url or "").startswith(WEBSOCKET)]

    async def _unblock(self, configs: list[FunctionConfig]) -> None:
        while True:
            try:
                await self._runner.decider.decide(intake.unblock, configs)
                return
            except StoreError as error:
                # It must not be skipped: the runs would wait until another worker comes.
                _log.error("the store refuses, trying again in %s s: %s", _PAUSE_AFTER_ERROR, error)
                await asyncio.sleep(_PAUSE_AFTER_ERROR)
