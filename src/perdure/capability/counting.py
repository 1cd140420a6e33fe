"""How often operations were carried out, with what outcome, and how long they took; told as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from perdure.capability.requests import CallError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counts:
    """The counts of one capability. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._done: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, float] = {}

    @contextmanager
    def counted(self, operation: str) -> Generator[list[int]]:
        """Counts what is done inside, with the status that is put into the list, or that of the error."""
        began, status = self._clock(), [200]
        try:
            yield status
        except CallError as error:
            status[0] = error.status
            raise
        except BaseException:
            status[0] = 500
            raise
        finally:
            key = (operation, status[0])
            self._done[key] = self._done.get(key, 0) + 1
            self._seconds[operation] = self._seconds.get(operation, 0.0) + self._clock() - began

    def samples(self, adapter: str) -> Iterator[str]:
        """The samples, one a line."""
        label = f'capability="{_escaped(adapter)}"'
        for (operation, status), number in sorted(self._done.items()):
            yield f'capability_operations_total{{{label},operation="{_escaped(operation)}",status="{status}"}} {number}'
        for operation, seconds in sorted(self._seconds.items()):
            yield f'capability_operation_seconds_sum{{{label},operation="{_escaped(operation)}"}} {seconds:.6f}'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
