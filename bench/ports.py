"""Ports of the loopback interface, and waiting for a server behind one."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time


def free(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def wait_for(port: int, process: subprocess.Popen[bytes], timeout: float = 30.0) -> None:
    """Waits until a process accepts connections; raises `RuntimeError` when it ends or takes too long."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on port {port} (exit code {process.poll()})")
