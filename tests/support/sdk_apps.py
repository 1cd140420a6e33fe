"""Apps on the protocol's real SDKs, each in a process of its own, and the server that runs their functions.

The programs are in tests/interop/sdk. An app is started when a test first asks for it, and serves all tests from then
on: what a test sends carries a key of its own, and what functions did is noted in the app under that key.
"""

from __future__ import annotations

import asyncio
import functools
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from perdure.client import Client, RunInfo, Span
from perdure.model.keys import NO_EVENT_KEY
from tests.support.dev_server import DevServer
from tests.support.provider import provider

T = TypeVar("T")
Json = Any

ROOT = Path(__file__).parents[2]
SDK = ROOT / "tests/interop/sdk"
PROGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    # The program of an app, and the paths that it serves; a worker has none.
    "v4": ("app_v4.mjs", ("/api/inngest", "/api/secret", "/api/streamed")),
    "v3": ("v3/app_v3.mjs", ("/api/inngest", "/api/secret")),
    "endpoints": ("endpoints.mjs", ("/api/inngest",)),
    "streams": ("streams.mjs", ()),
    "transcripts": ("transcripts.mjs", ()),
    "edge": ("edge.mjs", ()),
    "v4-worker": ("worker_v4.mjs", ()),
    "v3-worker": ("v3/worker_v3.mjs", ()),
    "py-fastapi": ("app_fastapi.py", ("/api/inngest", "/api/secret", "/api/streamed")),
    "py-flask": ("app_flask.py", ("/api/inngest", "/secret/api/inngest")),
    "py-worker": ("worker.py", ()),
    "js-scenarios": ("app_scenarios.mjs", ("/api/inngest",)),
    "py-scenarios": ("app_scenarios.py", ("/api/inngest",)),
}
_PATIENCE = 60.0
_START = 30.0
_BIN = Path(sys.executable).parent
_keys = itertools.count(1)


class NotInstalled(Exception):
    """npm could not install the SDKs; the text is what it said."""


def install() -> None:
    """Installs what package-lock.json pins, unless that is done. Raises NotInstalled."""
    marker = SDK / "node_modules/.installed"
    lock = SDK / "package-lock.json"
    if marker.exists() and marker.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = shutil.which("npm", path=f"{_BIN}{os.pathsep}{os.environ['PATH']}")
    if npm is None:
        raise NotInstalled("there is no npm")
    command = [npm, "ci", "--prefix", str(SDK), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, env=environment({}), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotInstalled(done.stderr[-2000:])
    marker.touch()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a program is started with: the environment of the tests without settings of the SDKs, and more."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("INNGEST_")}
    return inherited | {"PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | dict(more)


@functools.cache
def node() -> str:
    """The program that node is. What is found by that name may start it as a child, which outlives being killed."""
    found = shutil.which("node", path=environment({})["PATH"]) or "node"
    return subprocess.run([found, "-p", "process.execPath"], capture_output=True, text=True, check=True).stdout.strip()


async def eventually(ask: Callable[[], Awaitable[T | None]], what: str, seconds: float = _PATIENCE) -> T:
    """Asks again and again until the answer is neither None nor empty; AssertionError says what never came."""
    last: object = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                last = answer = await ask()
                if answer:
                    return answer
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"within {seconds:g}s there was no {what}; at last there was {last!r}") from None


class Server:
    """A server with a database in a folder. It can be killed, and started again at its address."""

    def __init__(self, folder: Path, *arguments: str, command: str = "dev") -> None:
        self._arguments = arguments if "--db" in arguments else (*arguments, "--db", "sdk.db")
        self._folder, self._command = folder, command
        self._running: DevServer | None = None
        self.url = ""

    def start(self) -> None:
        """Starts it: at first on a free port, later on the same."""
        port = int(self.url.rpartition(":")[2] or "0")
        self._running = DevServer(self._folder, *self._arguments, command=self._command, port=port).__enter__()
        self.url = self._running.url

    def kill(self) -> None:
        """Ends it as a power cut does."""
        if self._running is not None:
            self._running.stop(signal.SIGKILL)
            self._running.__exit__(None, None, None)

    @property
    def printed(self) -> str:
        """The last lines that it printed."""
        return "" if self._running is None else "".join(self._running.printed[-30:])


class SdkApp:
    """An app in a process: sends events through its SDK, and tells what its functions noted."""

    def __init__(self, id: str, program: str, fleet: Fleet, log: Path) -> None:
        self.id = id
        self.program = program
        self.url = ""
        self.fleet = fleet
        self.client = fleet.client
        self.provider = fleet.provider
        self._log, self._http = log, fleet.http
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, *, register: bool = True, **settings: str) -> None:
        """Starts the process, and asks the app to register itself."""
        file, paths = PROGRAMS[self.program]
        if file.endswith(".mjs"):
            command = [node(), str(SDK / file)]
        else:
            command = [sys.executable, "-m", f"tests.interop.sdk.{Path(file).stem}"]
        known = {"APP_ID": self.id, "PYTHONUNBUFFERED": "1"}
        inherited = environment({**known, **self.fleet.environment, **settings})
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=inherited, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self.url = await eventually(self._address, f"address printed by {self.id}", _START)
        except AssertionError as error:
            error.add_note(self.printed)
            raise
        for path in paths if register else ():
            async with self._http.put(self.url + path) as response:
                assert response.status == 200, f"{self.id} did not register: {await response.text()}"

    async def _address(self) -> str | None:
        assert self._process is not None and self._process.poll() is None, f"{self.id} ended:\n{self.printed}"
        found = [line for line in self.printed.splitlines() if line.startswith("app listens on ")]
        return found[0].rpartition(" ")[2] if found else None

    @property
    def printed(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:]) if self._log.exists() else ""

    def kill(self) -> None:
        """Ends the process as a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """Asks the process to end."""
        assert self._process is not None
        self._process.terminate()

    # What its own SDK does.

    async def ask(self, path: str, body: Json = None) -> Json:
        """Asks the app for something besides its functions."""
        # As a file: aiohttp warns of large bodies that are not read from one.
        content, headers = io.BytesIO(json.dumps(body).encode()), {"content-type": "application/json"}
        async with self._http.post(self.url + path, data=content, headers=headers) as response:
            answer = await response.json()
        assert response.status == 200, f"{self.id}{path}: {answer}"
        return answer

    async def send(self, *events: Json) -> list[str]:
        """Sends events through the SDK's client; returns the ids that the SDK was given."""
        return list(await self.ask("/send", list(events)))

    # Runs.

    def key(self) -> str:
        """A key that nobody else uses."""
        return f"{self.id}-{next(_keys)}"

    async def begin(self, function: str, data: Json = None, **event: Json) -> str:
        """Sends the event of a function; returns the id of the run that it starts."""
        (sent,) = await self.send({"name": f"{self.id}/{function}", "data": data or {}, **event})
        return await self.run_of(sent)

    async def run_of(self, event_id: str) -> str:
        """The id of the run that the event started."""
        runs = await eventually(lambda: self.client.runs_of_event(event_id), "run of the event")
        assert len(runs) == 1
        return runs[0]

    async def ended(self, run_id: str, seconds: float = _PATIENCE) -> RunInfo:
        """The run, once it has ended."""

        async def ask() -> RunInfo | None:
            run = await self.client.get_run(run_id)
            return run if run.ended else None

        try:
            return await eventually(ask, "end of the run", seconds)
        except AssertionError as error:
            error.add_note(f"trace: {await self.client.get_trace(run_id)}")
            raise

    async def run(self, function: str, data: Json = None, **event: Json) -> RunInfo:
        """Sends the event of a function, and waits for the end of its run."""
        return await self.ended(await self.begin(function, data, **event))

    async def result(self, function: str, data: Json = None) -> Json:
        """What a function returns."""
        run = await self.run(function, data)
        assert run.status == "COMPLETED", run
        return run.output

    async def spans(self, run_id: str) -> dict[str, Span]:
        """The steps of a run, by name."""
        return {span.name: span for span in (await self.client.get_trace(run_id)).children}

    async def waiting(self, run_id: str, step: str) -> Span:
        """The span of a step, once the run waits in it."""

        async def ask() -> Span | None:
            span = (await self.spans(run_id)).get(step)
            return span if span is not None and span.status == "WAITING" else None

        return await eventually(ask, f"wait in {step}")

    # What its functions noted.

    async def journal(self, key: str) -> list[Json]:
        """What was noted under the key, and when: `{"what", "at"}`, `at` in ms."""
        async with self._http.get(f"{self.url}/journal", params={"key": key}) as response:
            return list(await response.json())

    async def noted(self, key: str) -> list[Json]:
        """What was noted under the key, in order."""
        return [entry["what"] for entry in await self.journal(key)]

    async def until_noted(self, key: str, count: int = 1) -> list[Json]:
        """What was noted under the key, once there is so much of it."""

        async def ask() -> list[Json] | None:
            found = await self.noted(key)
            return found if len(found) >= count else None

        return await eventually(ask, f"{count} notes under {key}")


class Fleet:
    """The server and the apps that call it theirs. `fleet.app("v4")` starts what is not there yet."""

    def __init__(
        self, server: Server, folder: Path, client: Client, http: aiohttp.ClientSession, provider: str
    ) -> None:
        self.server = server
        self.client = client
        self.environment: Mapping[str, str] = {"INNGEST_DEV": server.url}
        self.http = http
        self.provider = provider
        self._folder = folder
        self._apps: list[SdkApp] = []
        self._started: dict[str, asyncio.Task[SdkApp]] = {}

    async def app(self, id: str) -> SdkApp:
        """The app of that id, started and registered."""
        if id not in self._started:
            self._started[id] = asyncio.create_task(self._start(id))
        # Whoever is cancelled while it waits leaves the app to those who wait too.
        return await asyncio.shield(self._started[id])

    async def _start(self, id: str) -> SdkApp:
        app = self.process(id, id)
        await app.start()
        return app

    def process(self, id: str, program: str) -> SdkApp:
        """A process of an app, to be started. Several may be of one app."""
        self._apps.append(SdkApp(id, program, self, self._folder / f"{len(self._apps)}-{id}.log"))
        return self._apps[-1]

    def stop(self) -> None:
        """Ends the apps and the server."""
        for app in self._apps:
            app.kill()
        self.server.kill()


@asynccontextmanager
async def running(
    folder: Path, *arguments: str, command: str = "dev", event_key: str = NO_EVENT_KEY, signing_key: str | None = None
) -> AsyncGenerator[Fleet, None]:
    """A fleet on a server of its own. With keys, what it is started with goes to the apps too."""
    if signing_key is not None:
        arguments = (*arguments, "--event-key", event_key, "--signing-key", signing_key)
    server = Server(folder, *arguments, command=command)
    server.start()
    with provider() as provider_url:
        async with (
            Client(server.url, event_key=event_key, signing_key=signing_key) as client,
            aiohttp.ClientSession() as http,
        ):
            fleet = Fleet(server, folder, client, http, provider_url)
            if signing_key is not None:
                fleet.environment = {
                    "INNGEST_DEV": "0",
                    "INNGEST_BASE_URL": server.url,
                    "INNGEST_EVENT_KEY": event_key,
                    "INNGEST_SIGNING_KEY": signing_key,
                }
            try:
                yield fleet
            finally:
                fleet.stop()
