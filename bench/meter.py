"""CPU time and memory of processes with all their children."""

from __future__ import annotations

import psutil

_MIB = 1024 * 1024


class Meter:
    """Measures the trees under some processes, whose children must stay while it is in use."""

    def __init__(self, *pids: int) -> None:
        self._roots = [psutil.Process(pid) for pid in pids]

    def _processes(self) -> list[psutil.Process]:
        return [process for root in self._roots for process in (root, *root.children(recursive=True))]

    def cpu(self) -> float:
        """CPU seconds spent so far."""
        return sum(sum(process.cpu_times()[:4]) for process in self._processes())

    def memory(self) -> float:
        """MiB in use: each page shared by several processes counts once (PSS), where the system tells."""
        total = 0
        for process in self._processes():
            info = process.memory_full_info()
            total += getattr(info, "pss", info.rss)
        return total / _MIB
