"""What the engine adds: CPU time a run by thread, and where it goes by room and by function.

In the variant "skeleton" only the first, for the floor. The first pass runs unobserved and says how much CPU a run
takes in the loop's thread and in the writer's. The second runs under cProfile on each thread's CPU clock: waiting
does not count, calls of small Python functions count for more than they cost; so its shares are applied to the
times of the first pass.
"""

from __future__ import annotations

import cProfile
import pstats
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import psutil

import perdure
from bench import load, loops
from bench.subject import Measured, Task, serve
from bench.subjects import perdure as subject
from bench.subjects import skeleton

_TOP = 25
_PACKAGE = str(Path(perdure.__file__).parent)
_BENCH = str(Path(__file__).parent.parent)

Entry: TypeAlias = tuple[str, int, str]
"""A function as pstats names it: file ("~" for C), line, name."""


def _cpu_by_thread() -> dict[str, float]:
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent: dict[str, float] = defaultdict(float)
    for thread in psutil.Process().threads():
        spent[names.get(thread.id, "other")] += thread.user_time + thread.system_time
    return spent


async def _cpu_a_run(trigger: load.Trigger, task: Task) -> dict[str, float]:
    """CPU microseconds a run by thread."""
    await load.flood(trigger, task.flight, task.flight)
    before = _cpu_by_thread()
    await load.flood(trigger, task.scale, task.flight)
    after = _cpu_by_thread()
    found = {name: (after[name] - before[name]) * 1e6 / task.scale for name in after}
    return {name: cost for name, cost in found.items() if cost > 0}


async def _profiled(task: Task) -> dict[str, cProfile.Profile]:
    """Profiles of the loop's thread and of each thread that begins meanwhile."""
    profiles: dict[str, cProfile.Profile] = {}

    def begin(name: str) -> None:
        profiles[name] = cProfile.Profile(time.thread_time)
        profiles[name].enable()

    def hook(_frame: FrameType, _event: str, _argument: object) -> None:
        begin(threading.current_thread().name)

    threading.setprofile(hook)
    begin(threading.current_thread().name)
    async with perdure.embedded(subject.app, db=Path(task.directory) / "profiled.db") as node:
        await load.flood(subject.trigger_of(node), task.scale, task.flight)
    profiles[threading.current_thread().name].disable()
    threading.setprofile(None)
    return profiles


def room_of(entry: Entry) -> str | None:
    """The room of perdure that a function belongs to, or what else it is part of; None for C code of the callers'."""
    file, _, name = entry
    if file == "~":
        return "SQLite" if "sqlite3." in name else "event loop" if "run_until_complete" in name else None
    if file.startswith(_PACKAGE):
        inside = Path(file).relative_to(_PACKAGE)
        return inside.parts[0] if len(inside.parts) > 1 else inside.stem
    return "benchmark" if file.startswith(_BENCH) else "standard library"


def _by_room(stats: dict[Entry, Any]) -> dict[str, float]:
    """Seconds by room; C functions count for the rooms that call them."""
    rooms: dict[str, float] = defaultdict(float)
    for entry, (_, _, own, _, callers) in stats.items():
        room = room_of(entry)
        if room is not None:
            rooms[room] += own
            continue
        for caller, (_, _, part, _) in callers.items():
            rooms[room_of(caller) or "C code"] += part
    return rooms


def _tables(thread: str, cost: float, profile: cProfile.Profile, runs: int) -> list[str]:
    stats: dict[Entry, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rooms = _by_room(stats)
    total = sum(rooms.values())
    lines = [f"### {thread}: {cost:.0f} us a run", "", "| room | share | us a run |", "|---|---:|---:|"]
    for room, own in sorted(rooms.items(), key=lambda item: -item[1]):
        if own >= total / 1000:
            lines.append(f"| {room} | {own / total:.1%} | {own / total * cost:.1f} |")
    lines += ["", "| function | calls a run | share of its own code |", "|---|---:|---:|"]
    for entry, (_, calls, own, _, _) in sorted(stats.items(), key=lambda item: -item[1][2])[:_TOP]:
        lines.append(f"| `{_name(entry)}` | {calls / runs:.1f} | {own / total:.1%} |")
    return [*lines, ""]


def _name(entry: Entry) -> str:
    file, line, name = entry
    if file == "~":
        return name
    path = Path(file)
    short = path.relative_to(_PACKAGE) if file.startswith(_PACKAGE) else Path(*path.parts[-2:])
    return f"{short}:{line} {name}"


async def _perdure(task: Task) -> Measured:
    async with perdure.embedded(subject.app, db=Path(task.directory) / "perdure.db") as node:
        costs = await _cpu_a_run(subject.trigger_of(node), task)
    lines: list[str] = []
    for thread, profile in (await _profiled(task)).items():
        # Threads with less are start and stop: reading the schema, closing.
        if costs.get(thread, 0) >= 1:
            lines += _tables(thread, costs[thread], profile, task.scale)
    return Measured(figures=costs, text="\n".join(lines))


async def _skeleton(task: Task) -> Measured:
    commits = skeleton.Commits(Path(task.directory) / "skeleton.db")
    return Measured(figures=await _cpu_a_run(skeleton.trigger_of(commits), task))


if __name__ == "__main__":
    serve(lambda task: loops.run((_skeleton if task.variant == "skeleton" else _perdure)(task), ""))
