"""The demo's server: `perdure dev` in a process of its own, with one database file, to be killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import click

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """One database, one port, and the process that serves them at the moment."""

    def __init__(self, folder: Path, app_folder: Path, app: str, http: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.database = folder / "shop.db"
        self.ledger = folder / "ledger.jsonl"
        self.log = folder / "server.log"
        self._app_folder = app_folder
        self._app = app
        self._http = http
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Starts the process and waits until it answers. Raises `ClickException` with its log when it does not."""
        port = self.url.rpartition(":")[2]
        command = [
            sys.executable,
            "-m",
            "perdure",
            "dev",
            self._app,
            "--port",
            port,
            "--db",
            str(self.database),
            "--no-reload",
        ]
        paths = [str(self._app_folder), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            "ORDERS_LEDGER": str(self.ledger),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._app_folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while not await self._healthy():
                    if self._process.poll() is not None:
                        raise click.ClickException(f"the server ended at once:\n{self._tail()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise click.ClickException(f"the server did not answer in time:\n{self._tail()}") from None

    async def _healthy(self) -> bool:
        try:
            async with self._http.get(f"{self.url}/health") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    async def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed, no connection is closed properly."""
        self._signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        await self._gone()

    async def stop(self) -> None:
        """Asks the process to end, and kills it if it does not in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await self._gone()
        except TimeoutError:
            await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if sys.platform == "win32":
            self._process.send_signal(number)
        else:
            # The process leads a group of its own, so that nothing that it started outlives it.
            os.killpg(self._process.pid, number)

    async def _gone(self) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
