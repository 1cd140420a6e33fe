"""A run as its caller holds it: to wait for, ask about, or cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from typing import Generic, TypeVar

from perdure.engine import intake, reads
from perdure.engine.turn import Ended
from perdure.model import values
from perdure.model.errors import NotFoundError, RunCancelledError, RunFailedError, error_info
from perdure.model.records import Run, RunStatus
from perdure.model.streams import StreamEvent
from perdure.runner.runner import Runner
from perdure.sdk.function import Function

R = TypeVar("R")


class RunHandle(Generic[R]):
    """A run to wait for, ask about or cancel.

    `result` raises `RunFailedError` or `RunCancelledError` when the run did not complete.
    """

    def __init__(
        self, runner: Runner, run_id: str, function: Function[R] | str | None = None, *, fresh: bool = False
    ) -> None:
        self.run_id = run_id
        self._runner = runner
        self._fresh = self._listening = fresh
        self._returns = function.returns if isinstance(function, Function) else None
        self._ended: Ended | None = None
        self._waiting: list[asyncio.Future[Ended]] = []
        if fresh:
            runner.ended.subscribe(run_id, self._on_ended)

    def _on_ended(self, ended: Ended) -> None:
        self._runner.ended.unsubscribe(self.run_id, self._on_ended)
        self._ended = ended
        for future in self._waiting:
            if not future.done():
                future.set_result(ended)

    async def result(self, timeout: float | None = None) -> R:
        """The run's result once it has ended; raises `TimeoutError` after `timeout` seconds.

        Values are restored from the handler's return annotation.
        """
        ended = await self.outcome(timeout)
        if ended.status == RunStatus.COMPLETED:
            result: R = values.decode(ended.output, self._returns, where=f"the result of run {self.run_id}")  # type: ignore[assignment]
            return result
        if ended.status == RunStatus.FAILED:
            info = error_info(ended.output)
            message = f"run {self.run_id} of {ended.function_id} failed: {info.name}: {info.message}"
            raise RunFailedError(self.run_id, message, info)
        message = f"run {self.run_id} of {ended.function_id} was {RunStatus(ended.status)}"
        raise RunCancelledError(self.run_id, message)

    async def outcome(self, timeout: float | None = None) -> Ended:
        """How the run ended, once it has; raises `TimeoutError` after `timeout` seconds, `NotFoundError`."""
        if self._ended is None and not self._fresh:
            if not self._listening:
                self._listening = True
                self._runner.ended.subscribe(self.run_id, self._on_ended)
            # It may have ended before this handle listened.
            run = await self._load()
            if run.status >= RunStatus.COMPLETED and self._ended is None:
                self._on_ended(Ended(run.id, run.function_id, run.status, run.output or b"null"))
        if self._ended is not None:
            return self._ended
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            return await future if timeout is None else await asyncio.wait_for(future, timeout)
        except TimeoutError:
            raise TimeoutError(f"run {self.run_id} has not ended within {timeout:g} s; it goes on") from None
        finally:
            self._waiting.remove(future)

    async def _load(self) -> Run:
        run = await self._runner.decider.view(partial(reads.run_by_id, self.run_id))
        if run is None:
            self._runner.ended.unsubscribe(self.run_id, self._on_ended)
            self._listening = False
            raise NotFoundError(f"there is no run {self.run_id}")
        return run

    async def stream(self, offset: int = 0) -> AsyncGenerator[StreamEvent]:
        """What the run says while it goes on, from after an offset: what is kept first, without what was taken back.

        Its last event is the response. Raises `NotFoundError`.
        """
        with self._runner.streams.following(self.run_id, offset) as reader:
            while events := await reader.next():
                for event in events:
                    yield event

    async def status(self) -> RunStatus:
        """Where the run stands."""
        return RunStatus((await self._load()).status)

    async def cancel(self) -> None:
        """Cancels the run; a step that is executing is interrupted. One that has ended stays as it is."""
        await self._runner.decider.decide(intake.cancel, self.run_id)
