"""What a request does, reported in order: one report at a time, the first of which begins the run.

What is done while a report is under way goes out together with the next one, so steps beside each other cost few
reports. Invariant: `record` returns only when what it was given is recorded; and once a report failed every later one
fails, for what it would say rests on the one that is missing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from perdure.model.json import Json
from perdure.serving.endpoints.checkpoints import Begun, Checkpoints, NewRun
from perdure.serving.outbound import ServerError

_log = logging.getLogger("perdure.serving")


class Recorder:
    """Reports one run. `begun` is what the server said of it, None before the first report."""

    def __init__(self, checkpoints: Checkpoints, run: NewRun, now: Callable[[], int]) -> None:
        self._checkpoints = checkpoints
        self._run = run
        self._now = now
        self._waiting: list[tuple[list[dict[str, Json]], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.begun: Begun | None = None

    async def record(self, *ops: dict[str, Json]) -> Begun:
        """Has operations recorded. Raises `RefusedReportError`, `ServerError`.

        A caller that is cancelled stops nothing: what was reported is recorded.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((list(ops), done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(_heed)
            raise
        assert self.begun is not None
        return self.begun

    async def beat(self) -> None:
        """Lets the server hear that more may come. That it cannot be reached is for the next report to find out.

        Raises `RefusedReportError` when the run goes on without this request.
        """
        if self.begun is None or self._writer is not None or self._failure is not None:
            return
        try:
            await self._checkpoints.steps(self.begun, [], self._now())
        except ServerError as error:
            _log.debug("run %s: its server was not reached: %s", self._run.run_id, error)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await self._report([op for ops, _ in batch for op in ops])
            except Exception as error:
                self._failure = error
            for _, done in batch:
                if self._failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(self._failure)
        self._writer = None

    async def _report(self, ops: list[dict[str, Json]]) -> None:
        if self._failure is not None:
            raise self._failure
        if self.begun is None:
            self.begun = await self._checkpoints.begin(self._run, ops)
        else:
            await self._checkpoints.steps(self.begun, ops, self._now())


def _heed(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()
