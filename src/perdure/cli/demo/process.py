"""The demo's programs, each in a process of its own at an address that it keeps: to be killed, and started again.

A `Server` is `perdure dev` with one database file, a `WebApp` an application of ASGI on uvicorn.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import click

LEDGER = "ORDERS_LEDGER"
"""The variable that tells the examples where the ledger of the outside is."""
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 15.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Program:
    """A Python module that serves HTTP, and the process that runs it at the moment. `log` has what it printed."""

    def __init__(
        self,
        folder: Path,
        http: aiohttp.ClientSession,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        cwd: Path,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{name}.log"
        self._command = [sys.executable, "-m", *command, "--port", str(self.port)]
        paths = [str(cwd), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._cwd = cwd
        self._http = http
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Starts the process and waits until it answers. Raises `ClickException` with its log when it does not."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self._cwd, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while not await self._healthy():
                    if self._process.poll() is not None:
                        raise click.ClickException(f"{self.log.stem} ended at once:\n{self._tail()}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise click.ClickException(f"{self.log.stem} did not answer in time:\n{self._tail()}") from None

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


class Server(Program):
    """`perdure dev` with one database; with an app, which writes what it does outside to `ledger`."""

    def __init__(
        self, folder: Path, http: aiohttp.ClientSession, app_folder: Path, app: str | None = None, *, name: str = "shop"
    ) -> None:
        self.database = folder / f"{name}.db"
        self.ledger = folder / f"{name}-ledger.jsonl"
        apps = [] if app is None else [app]
        command = ["perdure", "dev", *apps, "--db", str(self.database), "--no-reload", "--no-discovery"]
        super().__init__(folder, http, f"{name}-server", command, {LEDGER: str(self.ledger)}, cwd=app_folder)


class WebApp(Program):
    """An application of ASGI on uvicorn, the runs of whose endpoints `server` records."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession, app_folder: Path, app: str, server: Server) -> None:
        command = ["uvicorn", app, "--log-level", "warning"]
        environment = {"PERDURE_DEV": server.url, LEDGER: str(server.ledger)}
        super().__init__(folder, http, app.partition(":")[0], command, environment, cwd=app_folder)
