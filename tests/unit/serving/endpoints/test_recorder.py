"""Reports in order: one at a time, together where they come together, and none after one that failed."""

from __future__ import annotations

import asyncio

import pytest

from perdure.model.json import Json
from perdure.serving.endpoints.checkpoints import Begun, NewRun, State
from perdure.serving.endpoints.recorder import Recorder
from perdure.serving.outbound import ServerError

RUN = NewRun("R", {}, 3, 0)


class Gated:
    """Checkpoints that wait until they are let."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.reports: list[list[str]] = []
        self.failure: Exception | None = None

    async def _report(self, ops: list[dict[str, Json]]) -> None:
        await self.let.acquire()
        if self.failure is not None:
            raise self.failure
        self.reports.append([op["id"] for op in ops])

    async def begin(self, run: NewRun, ops: list[dict[str, Json]]) -> Begun:
        await self._report(ops)
        return Begun(run.run_id, "F", "A", "T", "RT")

    async def steps(self, begun: Begun, ops: list[dict[str, Json]], now: int) -> None:
        await self._report(ops)

    async def state(self, run_id: str) -> State:
        return State([], {})


async def test_what_comes_meanwhile_goes_out_together() -> None:
    gated = Gated()
    recorder = Recorder(gated, RUN, lambda: 0)
    tasks = [asyncio.ensure_future(recorder.record({"id": name})) for name in "abc"]
    await asyncio.sleep(0.001)
    tasks.append(asyncio.ensure_future(recorder.record({"id": "d"})))
    gated.let.release()
    await asyncio.gather(*tasks[:3])
    assert gated.reports == [["a", "b", "c"]] and not tasks[3].done()
    gated.let.release()
    await tasks[3]
    assert gated.reports == [["a", "b", "c"], ["d"]]


async def test_after_a_failure_nothing_is_reported() -> None:
    gated = Gated()
    gated.failure = ServerError("down")
    recorder = Recorder(gated, RUN, lambda: 0)
    gated.let.release()
    with pytest.raises(ServerError):
        await recorder.record({"id": "a"})
    gated.failure = None
    gated.let.release()
    with pytest.raises(ServerError):
        await recorder.record({"id": "b"})
    assert gated.reports == [] and recorder.begun is None


async def test_who_is_cancelled_stops_nothing() -> None:
    gated = Gated()
    recorder = Recorder(gated, RUN, lambda: 0)
    waiting = asyncio.ensure_future(recorder.record({"id": "a"}))
    await asyncio.sleep(0.001)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gated.let.release()
    gated.let.release()
    await recorder.record({"id": "b"})
    assert gated.reports == [["a"], ["b"]]
