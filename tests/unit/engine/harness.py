"""What the engine's tests share: an engine under a virtual clock, looks into it, and crashes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

import perdure
from perdure import App, Node
from perdure.engine import reads, views
from perdure.engine.retention import Retention
from perdure.engine.turn import Decision, Read
from perdure.engine.views import RunDetail
from perdure.model.records import Job, Pause, Run, RunStatus, Step
from perdure.testing import VirtualClock
from tests.support.both_stores import Databases

NEVER = Retention(completed=None, failed=None, events=None)


@asynccontextmanager
async def running(
    app: App | list[App], clock: VirtualClock | None = None, db: str | Path = ":memory:", **options: Any
) -> AsyncGenerator[Node]:
    """An engine whose jitter is none, so that every time is exact."""
    options = {"chance": lambda: 0.0, **options}
    async with perdure.embedded(app, db=db, clock=clock or VirtualClock(), **options) as node:
        yield node


async def until(condition: Callable[[], bool]) -> None:
    """Lets the event loop turn until a condition holds; for tests that hold steps open, where nothing settles."""
    async with asyncio.timeout(3):
        while not condition():
            await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Lets the event loop turn, to show that something does not happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def ask(node: Node, name: str, *params: Any) -> list[tuple[Any, ...]]:
    """The rows of one of the store's statements."""

    def begin() -> Decision[list[tuple[Any, ...]]]:
        rows: list[tuple[Any, ...]] = yield Read(name, params)
        return rows

    return await node.view(begin)


async def runs(node: Node, function_id: str | None = None) -> list[Run]:
    """All runs, oldest first."""
    found = await node.view(lambda: views.list_runs(10_000, function_ids=[function_id] if function_id else None))
    return found[::-1]


async def statuses(node: Node, function_id: str | None = None) -> list[str]:
    """How the runs stand, oldest first."""
    return [RunStatus(run.status).name for run in await runs(node, function_id)]


async def detail(node: Node, run_id: str) -> RunDetail:
    found = await node.view(lambda: views.run_detail(run_id))
    assert found is not None
    return found


async def step_named(node: Node, run_id: str, name: str) -> Step:
    return next(step for step in (await detail(node, run_id)).steps if step.name == name)


async def recorded(node: Node, run_id: str, *names: str) -> None:
    """Waits until exactly these steps of a run are recorded."""
    async with asyncio.timeout(3):
        while sorted(step.name for step in (await detail(node, run_id)).steps) != sorted(names):
            await asyncio.sleep(0)


async def output(node: Node, run_id: str) -> Any:
    """What a run ended with: its result, or its error."""
    return msgspec.json.decode((await detail(node, run_id)).run.output or b"null")


async def pauses(node: Node, run_id: str) -> list[Pause]:
    return await node.view(lambda: views.pauses_of_run(run_id))


async def job(node: Node, job_id: str) -> Job | None:
    return await node.view(lambda: reads.job_by_id(job_id))


async def sound(node: Node) -> None:
    """Asserts what must hold at any time: every run has something that wakes it, and no slot is held by nobody."""
    health = await node.health()
    assert health.orphans == []
    assert health.leaked_slots == []


def crashed(db: Path) -> Path:
    """The database as a crash at this moment would leave it, for a second engine."""
    if Databases.current is not None:
        return Databases.current.crashed(db)
    copy = db.with_name(db.name + ".crashed")
    for suffix in ("", "-wal"):
        source = Path(f"{db}{suffix}")
        if source.exists():
            shutil.copy(source, f"{copy}{suffix}")
    return copy


class Gate:
    """A step that tests hold open: `enter` is the step's callable; `pass_` lets one of those inside go on."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.entered: list[str] = []
        self.cancelled: list[str] = []
        self.most = 0
        self._doors: dict[str, asyncio.Event] = {}

    async def enter(self, name: str) -> str:
        self.inside.append(name)
        self.entered.append(name)
        self.most = max(self.most, len(self.inside))
        door = self._doors[name] = asyncio.Event()
        try:
            await door.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.inside.remove(name)
        return name

    async def pass_(self, *names: str) -> None:
        """Lets the steps of these names end, once they are inside."""
        for name in names:
            await until(lambda name=name: name in self.inside)  # type: ignore[misc]
            self._doors[name].set()
            await until(lambda name=name: name not in self.inside)  # type: ignore[misc]

    async def waits(self, *names: str) -> None:
        """Waits until exactly these are inside, and stays so."""
        await until(lambda: sorted(self.inside) == sorted(names))
        await turns()
        assert sorted(self.inside) == sorted(names)


def raising(*errors: Exception | None) -> Callable[[], Awaitable[int]]:
    """A callable that raises these errors in turn, and then gives the number of its calls."""
    calls = 0
    left: Iterator[Exception | None] = iter(errors)

    async def call() -> int:
        nonlocal calls
        calls += 1
        error = next(left, None)
        if error is not None:
            raise error
        return calls

    return call
