"""How a run is read: from where, in which view, and with which callbacks; and the reader that comes of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from perdure.agents.agent import settled
from perdure.agents.durable.engines import Engine
from perdure.agents.durable.log import VIEWS, View
from perdure.agents.durable.reader import ChunkReader, history
from perdure.agents.durable.run import DurableRun
from perdure.agents.errors import GoneError, InvalidOptionError
from perdure.agents.options import CALLBACKS, Callbacks
from perdure.agents.results import Result, RunOutput
from perdure.agents.schemas import Shape
from perdure.agents.storage import AgentRun
from perdure.model.ids import UlidFactory
from perdure.model.json import Json

_PATIENCE: Final = 3.0
_LOOK: Final = 0.1
"""Seconds: how long a run is waited for that has not begun, and after how many it is looked for again."""

VIEWING: Final = ("view", "keep_open")
"""The options of a reader, besides its callbacks."""


class Reading(msgspec.Struct):
    """How a caller wants to read. `shape` is what the object of the run is to be read as."""

    view: View = "committed"
    keep_open: bool = False
    callbacks: Callbacks = msgspec.field(default_factory=Callbacks)
    shape: Shape | None = None


def reading_of(options: Mapping[str, Json]) -> Reading:
    """What is for the reader among some options. Raises `InvalidOptionError`."""
    view: Json = options.get("view") or "committed"
    if view not in VIEWS:
        raise InvalidOptionError(f"view: must be one of {', '.join(VIEWS)}, got {view!r}")
    callbacks = Callbacks(**{name: options[name] for name in CALLBACKS if options.get(name) is not None})
    return Reading(view, bool(options.get("keep_open", False)), callbacks)


def check_reading(options: Mapping[str, Json]) -> Reading:
    """The same where nothing else is allowed."""
    for name in options.keys() - {*VIEWING, *CALLBACKS}:
        raise InvalidOptionError(f"{name}: is no option of a reader; there are {', '.join((*VIEWING, *CALLBACKS))}")
    return reading_of(options)


def offset_of(offset: int, last_event_id: str | int | None) -> int:
    """The place after which to read. Raises `InvalidOptionError`."""
    found: int | str = offset if last_event_id is None or last_event_id == "" else last_event_id
    text = str(found)
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise InvalidOptionError(f"offset: must be the index of a chunk, 0 for the beginning, got {found!r}")
    return int(text)


async def begun(engine: Engine, run: AgentRun, patience: float) -> str:
    """The engine's run, which on a server begins a moment after the run is put down. Raises `GoneError` (seconds)."""
    with engine.storage.watch(f"run:{run.run_id}") as watch:
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        found: AgentRun | None = run
        while found is not None and found.engine_run_id is None and loop.time() < until:
            await watch.changed(_LOOK)
            found = await engine.storage.run(run.run_id)
    if found is None or found.engine_run_id is None:
        raise GoneError(f"run {run.run_id!r} was never begun: call `stream` with the same run_id and input again")
    return found.engine_run_id


async def read(
    engine: Engine,
    run: AgentRun,
    after: int,
    how: Reading,
    abort: Callable[[], Awaitable[bool]],
    silent: Callable[[], Awaitable[object]],
) -> DurableRun:
    """A reader of a run from after a place. Raises `GoneError` for a run that never began.

    `silent` is called where the run has ended without saying so.
    """
    engine_run_id = await begun(engine, run, _PATIENCE)
    reader = ChunkReader(
        engine, run.run_id, engine_run_id, after=after, view=how.view, keep_open=how.keep_open, silent=silent
    )
    output = RunOutput(
        reader,
        run_id=run.run_id,
        thread_id=run.thread_id,
        resource_id=run.resource_id,
        callbacks=how.callbacks,
        shape=how.shape,
        # What it all comes to counts from the beginning, wherever one reads from.
        before=await history(engine, run.run_id, engine_run_id, after) if after else (),
    )
    return DurableRun(output, reader, abort)


async def drained(run: DurableRun) -> Result:
    """What a reader's segment comes to. Raises `AgentFailedError` where the run has failed."""
    try:
        return await settled(run)
    finally:
        await run.close()


def new_ids() -> UlidFactory:
    """Ids of runs, by the wall clock."""
    return UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)
