"""Compaction of the logs of runs that are over: some time after the end, when whoever read along has read it.

A timer that was lost with its process is made up for when the app is run again. What is put together twice changes
nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Final

from perdure.agents.durable.engines import Engine
from perdure.agents.storage import AgentRun
from perdure.engine.agents.records import AgentRunStatus
from perdure.model.errors import PerdureError
from perdure.model.json import Json

_log = logging.getLogger("perdure.agents")

_OVER: Final[tuple[AgentRunStatus, ...]] = ("finished", "failed", "aborted")
_PAUSE: Final = 0.1
_LATE: Final = 10_000
"""How much later (ms) than it was due a compaction may have been begun, at most."""
_LOOKED_AT: Final = 500


class Compacting:
    """Compacts the logs of an agent's runs, `after` seconds; None leaves them as they are.

    Without an `agent_id` it is made up for the lost timers of all agents: those made of data are not known by name.
    """

    def __init__(self, agent_id: str | None, after: float | None) -> None:
        self._agent_id = agent_id
        self._after = after
        self._going: set[asyncio.Task[None]] = set()

    def later(self, engine: Engine, engine_run_id: str) -> None:
        """A run has come to its end."""
        if self._after is None:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(self._after, lambda: self._begin(self._compact(engine, engine_run_id)))

    def catch_up(self, engine: Engine) -> None:
        """The app is run, maybe again: those are compacted whose timers ended with the process before."""
        if self._after is not None:
            self._begin(self._lost(engine, int(self._after * 1000)))

    async def _lost(self, engine: Engine, after: int) -> None:
        try:
            page = await engine.storage.runs(agent_id=self._agent_id, statuses=_OVER, per_page=_LOOKED_AT)
            # That process lived at least until then, and had seen to all that was due.
            lived = max((run.ended_at or 0 for run in page.items), default=0)
            lost = [run for run in page.items if (run.ended_at or 0) >= lived - after - _LATE]
            for run in sorted(lost, key=lambda run: run.ended_at or 0):
                await asyncio.sleep(max((run.ended_at or 0) + after - engine.now(), 0) / 1000)
                await self._with_children(engine, run)
        except PerdureError as error:
            _log.info("the logs of agent %s stay as they are: %s", self._agent_id, error)

    async def _with_children(self, engine: Engine, run: AgentRun) -> None:
        if run.engine_run_id is not None:
            await self._compact(engine, run.engine_run_id)
        for child in await engine.storage.child_runs(run.run_id):
            await self._with_children(engine, child)

    async def _compact(self, engine: Engine, engine_run_id: str) -> None:
        try:
            while not (await engine.standing(engine_run_id)).status.final:
                await asyncio.sleep(_PAUSE)
            await engine.compact(engine_run_id)
        except PerdureError as error:
            # The engine may have closed meanwhile, and the run may be gone.
            _log.info("the log of run %s stays as it is: %s", engine_run_id, error)

    def _begin(self, work: Coroutine[Json, Json, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._going.add(task)
        task.add_done_callback(self._going.discard)
