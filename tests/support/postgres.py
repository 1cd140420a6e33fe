"""A PostgreSQL server for tests, of any version (`postgres_binaries`), and an empty database a test.

The binaries are driven directly: the Python code would add a system user when run by root. Nothing here
survives the power going out, which makes it fast.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.support.postgres_binaries import binaries
from tests.support.postgres_session import PostgresSession, PostgresSessionError

_WHILE_HELD = 'exec 3<&0; "$@" 3<&- & server=$!; (cat <&3 > /dev/null; kill -QUIT $server 2> /dev/null) & wait $server'
"""The server ends with whoever started it, killed or not: then nobody holds the other end of its input any more."""
FAST = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "shared_buffers=32MB",
    "log_min_messages=panic",
)


class PostgresServer:
    """A server with its data in a directory of its own. `version` is one of 14 to 18.

    `primary`: a server that runs, of which this one is a hot standby from its start on.
    """

    def __init__(
        self, version: int = 18, *, settings: tuple[str, ...] = FAST, primary: PostgresServer | None = None
    ) -> None:
        self._version = version
        self.binaries = binaries(version)
        """The folder of PostgreSQL's programs."""
        self._settings = settings
        self._user = "nobody" if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        if self._user is not None:
            self.directory.chmod(0o755)
            os.chown(self.directory, pwd.getpwnam(self._user).pw_uid, -1)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._names = self._tries = 0
        self._started = False
        self.free: list[str] = []
        """Databases that are empty, but for perdure's schema."""
        if primary is not None:
            self._call("pg_basebackup", "-D", "data", "-R", "--checkpoint=fast", "-d", primary.url())
            return
        self._call("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")

    def write(self, path: Path, text: str, *, mode: int) -> None:
        """Writes a file that the server reads, as its own."""
        path.write_text(text)
        path.chmod(mode)
        if self._user is not None:
            os.chown(path, pwd.getpwnam(self._user).pw_uid, -1)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, or starts it again, on the port that it has; returns once it answers."""
        while not self._starts():
            # Somebody took the port between our look and the server's; a server that was there before keeps its own.
            if self._started or self._tries == 5:
                raise RuntimeError(f"PostgreSQL does not start: {(self.directory / 'log').read_text()[-2000:]}")
            self._tries += 1
            self.port = _free_port()
        self._started = True

    def _starts(self) -> bool:
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", *self._settings)
        command = [str(self.binaries / "postgres"), "-D", "data", "-k", str(self.directory)]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WHILE_HELD, "sh", *command, *(w for setting in settings for w in ("-c", setting))],
                cwd=self.directory,
                user=self._user,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        pid, deadline = self.directory / "data" / "postmaster.pid", time.monotonic() + 60
        appeared = False
        # Its own word comes first: on its port there might be somebody else.
        while not (_is_ready(pid) and self._answers()):
            appeared = appeared or pid.exists()
            if time.monotonic() > deadline or self._process.poll() is not None or (appeared and not pid.exists()):
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.wait(60)
                return False
            time.sleep(0.02)
        return True

    def _answers(self) -> bool:
        try:
            PostgresSession(self.url()).close()
        except (OSError, PostgresSessionError):
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: SIGINT cuts connections and shuts down in order, SIGQUIT is as good as a crash."""
        if self._process is not None:
            pid = self.directory / "data" / "postmaster.pid"
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                os.kill(int(pid.read_text().split()[0]), how)
            deadline = time.monotonic() + 60
            # The last thing that goes when it ends in order.
            while how != signal.SIGQUIT and pid.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert self._process.stdin is not None
            self._process.stdin.close()
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
        # Before version 15 there was no other way.
        strategy = "STRATEGY file_copy" if self._version > 14 else ""
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template.rpartition('/')[2]} {strategy}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, sql: str) -> None:
        with closing(PostgresSession(self.url())) as session:
            session.execute(sql)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        subprocess.run(command, cwd=self.directory, user=self._user, check=True, stdout=subprocess.DEVNULL)


def _is_ready(pid: Path) -> bool:
    """Whether a server says in its file that it takes connections."""
    try:
        return any(line.strip() == "ready" for line in pid.read_text().splitlines()[7:])
    except FileNotFoundError:
        return False


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
