"""`perdure dev` (or `perdure start`) in a process of its own, on a free port."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE = 20.0


class DevServer:
    """A server process and what it prints. Use as a context manager: it is running inside."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: str = "dev",
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perdure", command, *arguments, "--port", str(port)],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def __enter__(self) -> Self:
        self.url = self.wait_for("perdure serves on ").rpartition(" ")[2]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def wait_for(self, text: str) -> str:
        """The next line that holds the text."""
        while True:
            try:
                line = self._lines.get(timeout=_PATIENCE)
            except queue.Empty:
                line = None
            if line is None:
                raise AssertionError(f"the server never printed {text!r}, but: {''.join(self.printed)}")
            if text in line:
                return line.strip()

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the server with a signal; returns its exit code."""
        self.send_signal(number)
        return self._process.wait(_PATIENCE)

    def wait(self) -> int:
        """Waits until it has ended; returns its exit code."""
        return self._process.wait(_PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.printed.append(line)
            self._lines.put(line)
        self._lines.put(None)
