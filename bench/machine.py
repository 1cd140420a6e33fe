"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

import psutil

_SYNCS = 200


def describe(base: Path | None) -> dict[str, str]:
    """The machine, in words, as it is right now. `base` is where the databases will be."""
    return {
        "cores": f"{os.cpu_count()}, {_cpu_model()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "fsync of 4 KiB": f"p50 {_fsync(base):.2f} ms",
        "busy with other things": f"{psutil.cpu_percent(1.0):.0f}% of all cores before the start",
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _fsync(base: Path | None) -> float:
    """The median of a 4 KiB append with fsync, in ms."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=base) as file:
        for _ in range(_SYNCS):
            begun = time.perf_counter()
            file.write(b"." * 4096)
            file.flush()
            os.fsync(file.fileno())
            took.append((time.perf_counter() - begun) * 1000)
    return statistics.median(took)
