"""SIGKILL of a Python app with endpoints, of its server, or of both, at each step boundary and in mid stream.

Steps a and b are done while the app answers, c and d after a sleep, when the request is made again; each step streams
twice. In every case two callers are there at once, one that is redirected and one that follows the stream. Whoever was
killed is started again at once. A ledger outside tells which steps were begun, in order.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import httpx2
import pytest

from perdure.client import Commit, Data, Rollback, StreamError, StreamResponse, fetch_with_stream
from perdure.model.json import Json
from tests.support.sdk_apps import ROOT, environment, eventually

FIRST = ["in a", "before b", "in b"]
LATER = ["asleep", "before c", "in c", "before d", "at the end"]
CASES = [
    *(("embedded", "app", place) for place in FIRST + LATER),
    *(("remote", who, place) for who in ("app", "server") for place in FIRST + LATER),
    *(("remote", "both", place) for place in ("before b", "in b", "asleep", "in c")),
]

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed by signals"),
]
_cases = itertools.count(1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Processes:
    """An app, and a server if it has one elsewhere, each at an address that it keeps when it is started again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        app, server = _free_port(), _free_port()
        self.app_url = f"http://127.0.0.1:{app}"
        self.api_url = f"http://127.0.0.1:{server}" if kind == "remote" else f"{self.app_url}/engine"
        told = self.api_url if kind == "remote" else str(folder / "engine.db")
        self._commands = {"app": ["-m", "tests.chaos.endpoint_app", str(app), str(self.ledger), told]}
        if kind == "remote":
            self._commands["server"] = [
                "-m", "perdure", "dev", "--db", str(folder / "server.db"), "--port", str(server), "--no-discovery",
                "--no-poll", "--retry-interval", "0.3", "--endpoint-silence", "1", "--endpoint-grace", "0.5",
            ]  # fmt: skip
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def revive(self) -> None:
        """Starts what is not running."""
        for name, command in self._commands.items():
            if name in self._running and self._running[name].poll() is None:
                continue
            with (self._folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, env=environment({}),
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            self.ledger.with_name(f"{name}.pid").write_text(str(self._running[name].pid))

    def kill(self, who: str) -> None:
        for name in ("server", "app") if who == "both" else (who,):
            self._running[name].send_signal(signal.SIGKILL)

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def begun(self, key: str) -> list[str]:
        """The steps of the request with this key, in the order in which they were begun."""
        entries = [line.split() for line in self.ledger.read_text().splitlines()]
        return [name for whose, name in entries if whose == key]

    async def ready(self, http: httpx2.AsyncClient) -> None:
        async def ask() -> bool:
            try:
                answers = [await http.get(f"{self.app_url}/up/"), await http.get(f"{self.api_url}/health")]
            except httpx2.TransportError:
                return False
            return [answer.status_code for answer in answers] == [404, 200]

        await eventually(ask, "app and server", 45)

    async def statuses(self, http: httpx2.AsyncClient) -> set[str] | None:
        """How the runs so far have ended; None if one of them has not."""
        try:
            runs = (await http.get(f"{self.api_url}/v1/runs", params={"limit": "100"})).json()["data"]
        except httpx2.TransportError:
            return None
        found = {run["status"] for run in runs}
        return None if found & {"Running", "Queued"} else found | {"none"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Generator[dict[str, Processes]]:
    made = {kind: Processes(kind, tmp_path_factory.mktemp(kind)) for kind in ("embedded", "remote")}
    try:
        yield made
    finally:
        for processes in made.values():
            processes.close()


class Redirected:
    """A caller that takes no stream. `led` and `answer`: where it was led, and what it got there."""

    def __init__(self) -> None:
        self.led: str | None = None
        self.answer: Json = None

    async def call(self, http: httpx2.AsyncClient, url: str) -> None:
        try:
            first = await http.get(url)
        except httpx2.TransportError:
            return
        if first.status_code == 302:
            self.led = first.headers["location"]
            self.answer = await self.follow(http)

    async def follow(self, http: httpx2.AsyncClient) -> Json:
        async def ask() -> httpx2.Response | None:
            try:
                found = await http.get(self.led or "", timeout=20)
            except httpx2.TransportError:
                return None
            # An app that is there again before its server says so.
            return found if found.status_code != 502 else None

        found = await eventually(ask, "answer", 40)
        assert found.status_code == 200, found.text
        return found.json()


class Streaming:
    """A caller that follows the stream. `kept`: what it has heard that counts, by step, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[str | None, list[Json]]] = []
        self.open: dict[str | None, list[Json]] = {}
        self.answer: StreamResponse | None = None

    def on_data(self, event: Data) -> None:
        self.open.setdefault(event.step, []).append(event.data)

    def on_commit(self, event: Commit) -> None:
        if event.step in self.open:
            self.kept.append((event.step, self.open.pop(event.step)))

    def on_rollback(self, event: Rollback) -> None:
        self.open.pop(event.step, None)

    async def call(self, url: str) -> None:
        # Where nothing was recorded its stream breaks off, and leads nowhere.
        with suppress(StreamError):
            self.answer = await fetch_with_stream(
                url, on_data=self.on_data, on_commit=self.on_commit, on_rollback=self.on_rollback, patience=20
            )


async def _reviving(processes: Processes) -> None:
    while True:
        processes.revive()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("kind", "who", "place"), CASES)
async def test_whoever_is_killed_each_caller_gets_the_answer_once(
    started: dict[str, Processes], kind: str, who: str, place: str
) -> None:
    processes, case = started[kind], f"c{next(_cases)}"
    url = f"{processes.app_url}/crash?case={case}&who={who}&at={place.replace(' ', '%20')}&key={case}"
    redirected, streaming = Redirected(), Streaming()
    async with httpx2.AsyncClient(timeout=30) as http:
        reviving = asyncio.create_task(_reviving(processes))
        try:
            await processes.ready(http)
            calls = asyncio.gather(redirected.call(http, f"{url}r"), streaming.call(f"{url}s"))
            if place == "asleep":
                await eventually(lambda: _begun(processes, f"{case}s", "b"), "sleep", 10)
                await asyncio.sleep(0.15)
                processes.kill(who)
            await calls
            statuses = await eventually(lambda: processes.statuses(http), "end of all runs", 30)
            assert statuses <= {"Completed", "none"}, statuses
            if redirected.led is not None:
                assert await redirected.follow(http) == redirected.answer
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)
    _check(processes, case, place, redirected, streaming)


async def _begun(processes: Processes, key: str, name: str) -> bool:
    return name in processes.begun(key)


def _check(processes: Processes, case: str, place: str, redirected: Redirected, streaming: Streaming) -> None:
    for key in (f"{case}r", f"{case}s"):
        begun = processes.begun(key)
        # A step begins when the one before it is recorded: from then on that one must never begin again.
        assert [name for name, _ in groupby(begun)] == list("abcd")[: len(set(begun))], begun
        assert all(begun.count(name) <= 2 for name in begun), begun
    done = {"steps": list("abcd")}
    if redirected.answer is not None or place in LATER:
        assert redirected.answer == {"done": f"{case}r", **done}
    if streaming.answer is not None or place in LATER:
        assert streaming.answer is not None, "it was not told how its run ended"
        assert (streaming.answer.status_code, streaming.answer.json()) == (200, {"done": f"{case}s", **done})
        assert [said for _, said in streaming.kept] == [[f"{name}1", f"{name}2"] for name in "abcd"]
    assert place == "asleep" or processes.ledger.with_name(f"killed.{case}").exists(), "nobody was killed"
