"""SIGTERM: what executes ends, or is handed back when the deadline has come; the next process goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.chaos.killing import Template, Workload, template
from tests.chaos.worker import lines

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked and ended by signals"),
]


@pytest.fixture
def workers() -> Generator[Template]:
    with template() as made:
        yield made


def begun(load: Workload, count: int) -> None:
    deadline = time.monotonic() + 10
    while sum(line.startswith("begin") for line in lines(load.folder / "ledger")) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def long_run(folder: Path, workers: Template) -> Workload:
    load = Workload(folder, workers, 0)
    load.add([{"name": "chaos/long", "id": "event-long", "data": {}}])
    return load


def test_a_step_that_ends_in_time_is_recorded(tmp_path: Path, workers: Template) -> None:
    load = long_run(tmp_path, workers)
    pid = load.start(seconds=0.4, shutdown_timeout=5.0)
    begun(load, 1)
    started = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert load.wait() == 0
    assert time.monotonic() - started < 3
    load.finish()
    load.check_end()
    assert sum(line.startswith("begin") and " a " in line for line in lines(tmp_path / "ledger")) == 1


def test_a_step_that_does_not_end_in_time_is_handed_back(tmp_path: Path, workers: Template) -> None:
    load = long_run(tmp_path, workers)
    pid = load.start(seconds=60.0, shutdown_timeout=0.3)
    begun(load, 1)
    started = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    assert load.wait() == 0
    assert 0.2 < time.monotonic() - started < 5
    load.finish()
    load.check_end()
    assert sum(line.startswith("begin") and " a " in line for line in lines(tmp_path / "ledger")) == 2


def test_nothing_is_lost_by_stopping_under_load(tmp_path: Path, workers: Template) -> None:
    load = Workload(tmp_path, workers, 40)
    for seconds in (0.03, 0.06, 0.09, 0.12):
        pid = load.start()
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        started = time.monotonic()
        assert load.wait() == 0
        assert time.monotonic() - started < 4, "nothing here takes long: stopping need not wait for the deadline"
    load.finish()
    load.check_end()
