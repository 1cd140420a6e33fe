"""pgbouncer before a database, giving out sessions by the transaction: the machine's, for there is no package of it.

`PERDURE_TEST_PGBOUNCER` names the program where it is not on the path.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

_SETTINGS = """[databases]
{name} = host=127.0.0.1 port={server} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 200
"""


def program() -> str | None:
    """Where it is, if it is there."""
    return os.environ.get("PERDURE_TEST_PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


class PgBouncer:
    """Listens on a port of its own; five sessions are all that there are for any number of clients."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._name = parts.path[1:]
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self._port: int = taken.getsockname()[1]
        self._user = "nobody" if os.geteuid() == 0 else None
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-pgbouncer-"))
        text = _SETTINGS.format(name=self._name, server=parts.port, port=self._port)
        (self._directory / "settings.ini").write_text(text)
        if self._user is not None:
            self._directory.chmod(0o755)
            os.chown(self._directory, pwd.getpwnam(self._user).pw_uid, -1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """The URL for its clients, once it answers."""
        found = program()
        assert found is not None
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [found, "settings.ini"], cwd=self._directory, user=self._user, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=5).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError((self._directory / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return f"postgresql://postgres@127.0.0.1:{self._port}/{self._name}"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        shutil.rmtree(self._directory, ignore_errors=True)
