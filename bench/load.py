"""The load that every subject is put under, in its asynchronous form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from bench.meter import Meter
from bench.subject import Measured, Task

Trigger: TypeAlias = Callable[[int], Awaitable[None]]
"""Starts run number n and returns when its result is here."""


async def measure(task: Task, trigger: Trigger, meter: Meter) -> Measured:
    """Warms up, then takes the measurements that the task asks for."""
    # As many at once as later: a peer whose clients have connections opens them now.
    await flood(trigger, task.flight, task.flight)
    measured = Measured()
    for number in range(task.one):
        begun = time.perf_counter()
        await trigger(number)
        measured.one.append((time.perf_counter() - begun) * 1000)
    cpu = meter.cpu()
    measured.bursts = [await flood(trigger, task.flight, task.flight) for _ in range(task.bursts)]
    measured.cpu_ms = (meter.cpu() - cpu) * 1000 / (task.flight * task.bursts)
    if task.long:
        measured.long = await flood(trigger, task.long, task.flight)
    measured.memory = meter.memory()
    return measured


async def flood(trigger: Trigger, total: int, in_flight: int) -> float:
    """Runs `total` with at most `in_flight` at once; returns runs/s."""
    numbers = iter(range(total))

    async def worker() -> None:
        for number in numbers:
            await trigger(number)

    begun = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(min(total, in_flight))))
    return total / (time.perf_counter() - begun)
