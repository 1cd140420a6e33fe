"""Subjects of the benchmark, and how one is run: as a process of its own, which measures itself.

The parent makes the directory that the subject works in and the process group that it lives in; so whatever
happens, ending the group and removing the directory leaves nothing behind. A subject whose parent is gone ends
its group itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
_LOG_LINES = 30


class Task(msgspec.Struct, frozen=True):
    """What a subject is to do: `one` runs one after another, `bursts` of `flight` runs at once, and `long` runs of
    which `flight` are in flight; or `scale` of whatever the subject is about. `directory` is made by the parent."""

    variant: str = ""
    directory: str = ""
    one: int = 0
    flight: int = 500
    bursts: int = 1
    long: int = 0
    scale: int = 0


class Measured(msgspec.Struct):
    """What a subject found: latencies in ms, throughputs in runs/s, CPU ms a run, memory in MiB, or named figures."""

    one: list[float] = []
    bursts: list[float] = []
    long: float | None = None
    cpu_ms: float | None = None
    memory: float | None = None
    figures: dict[str, float] = {}
    text: str = ""


class Subject(msgspec.Struct, frozen=True):
    """A subject: `module` of `bench.subjects`, run as `variant`."""

    name: str
    module: str
    title: str
    variant: str = ""


class SubjectFailedError(Exception):
    """A subject ended without a result; the message has the end of its log."""


def run(subject: Subject, task: Task, *, base: Path | None, timeout: float) -> Measured:
    """Runs a subject to its end, under `base` (default: the system's temporary directory)."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-bench-", dir=base))
    # PostgreSQL refuses to run as root, and the user that it runs as then must get through.
    directory.chmod(0o755)
    task = msgspec.structs.replace(task, variant=subject.variant, directory=str(directory))
    log = directory / "log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"bench.subjects.{subject.module}", msgspec.json.encode(task).decode()],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise SubjectFailedError(f"{subject.name}: no end after {timeout:.0f} s\n{_tail(log)}") from None
            finally:
                _end_group(process)
        if process.returncode != 0:
            raise SubjectFailedError(f"{subject.name}: exit {process.returncode}\n{_tail(log)}")
        return msgspec.json.decode((directory / "measured.json").read_bytes(), type=Measured)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def serve(measure: Callable[[Task], Measured]) -> None:
    """The main program of a subject."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = msgspec.json.decode(sys.argv[1], type=Task)
    measured = measure(task)
    (Path(task.directory) / "measured.json").write_bytes(msgspec.json.encode(measured))


def _end_with_parent() -> None:
    # Nobody writes to it: it ends when the parent does.
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)
