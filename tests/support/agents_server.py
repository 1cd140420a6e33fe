"""A server of the agents of `agents_http` as a process of its own: `python -m tests.support.agents_server DB PORT`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from perdure import embedded
from tests.support.agents_http import agents_app


async def serve(db: str, port: int) -> None:
    """Serves until it is killed."""
    async with embedded(agents_app(), db=db) as node:
        config = uvicorn.Config(node.asgi(), port=port, log_level="warning", ws="none")
        await uvicorn.Server(config).serve()


class ServerProcess:
    """A server in a process of its own, on a port that stays the same when it is killed and started again."""

    def __init__(self, db: str) -> None:
        self._db = db
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._pid: int | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it; whoever asks at once must ask again."""
        command = [sys.executable, "-m", "tests.support.agents_server", self._db, str(self._port)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        self._pid = os.posix_spawn(sys.executable, command, environment)

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None


@contextmanager
def server_process(db: str) -> Generator[ServerProcess]:
    """A server that has been started."""
    made = ServerProcess(db)
    made.start()
    try:
        yield made
    finally:
        made.kill()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
