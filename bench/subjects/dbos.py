"""DBOS in process, synchronous (its faster form), in the variants "sqlite" (as shipped) and "postgres"."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

from dbos import DBOS, DBOSConfig

from bench import postgres
from bench.meter import Meter
from bench.subject import Measured, Task, serve

WARM_UP = 100


@DBOS.step()
def number(n: int) -> dict[str, int]:
    return {"n": n}


@DBOS.workflow()
def three(n: int) -> dict[str, int]:
    number(1)
    number(2)
    return number(3)


def _flood(count: int) -> float:
    begun = time.perf_counter()
    for handle in [DBOS.start_workflow(three, n) for n in range(count)]:
        handle.get_result()
    return count / (time.perf_counter() - begun)


def _run(task: Task, meter: Meter) -> Measured:
    _flood(WARM_UP)
    measured = Measured()
    for n in range(task.one):
        begun = time.perf_counter()
        # The direct call is durable too, and quicker than a handle.
        three(n)
        measured.one.append((time.perf_counter() - begun) * 1000)
    cpu = meter.cpu()
    measured.bursts = [_flood(task.flight) for _ in range(task.bursts)]
    measured.cpu_ms = (meter.cpu() - cpu) * 1000 / (task.flight * task.bursts)
    measured.memory = meter.memory()
    return measured


def _measure(task: Task) -> Measured:
    directory = Path(task.directory)
    with ExitStack() as stack:
        if task.variant == "postgres":
            url, _ = stack.enter_context(postgres.server(directory / "postgres"))
        else:
            url = f"sqlite:///{directory / 'dbos.sqlite'}"
        DBOS(config=DBOSConfig(name="bench", system_database_url=url, console_log_level="ERROR"))
        DBOS.launch()
        stack.callback(DBOS.destroy)
        # PostgreSQL is a child of this process, so the meter covers it.
        return _run(task, Meter(os.getpid()))


if __name__ == "__main__":
    serve(_measure)
