"""SIGKILL of the server, of an app on npm's SDK, or of both, at each step boundary of a request that becomes a run.

Steps a and b are done while the app answers, c and d after a sleep, when the request is made again. Whoever was killed
is started again at once. A ledger outside of both tells which steps were begun how often.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest

from tests.support.sdk_apps import ROOT, SDK, NotInstalled, environment, eventually, install, node

PLACES = ["in a", "before b", "in b", "asleep", "before c", "in c", "before d", "in d", "at the end"]
FIRST_REQUEST = PLACES[:3]
VICTIMS = ["app", "server", "both"]

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are killed by signals"),
]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Pair:
    """A server and an app, each at an address that it keeps when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "ledger"
        self.ledger.touch()
        server, app = _free_port(), _free_port()
        self.server_url, self.app_url = f"http://127.0.0.1:{server}", f"http://127.0.0.1:{app}"
        options = [
            "--db", "chaos.db", "--port", str(server), "--no-discovery", "--no-poll", "--retry-interval", "1",
            # Whoever says nothing is given up early, so that a test need not wait ten minutes for that.
            "--endpoint-silence", "2", "--endpoint-grace", "1",
        ]  # fmt: skip
        self._commands = {
            "server": [sys.executable, "-m", "perdure", "dev", *options],
            "app": [node(), str(SDK / "endpoints.mjs")],
        }
        more = {"INNGEST_DEV": self.server_url, "PORT": str(app), "LEDGER": str(self.ledger), "APP_ID": "chaos"}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._environment = environment(more) | {"PYTHONPATH": path}
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.keys = itertools.count(1)

    def revive(self) -> list[str]:
        """Starts what is not running; returns what that was."""
        dead = [name for name in self._commands if name not in self._running or self._running[name].poll() is not None]
        for name in dead:
            with (self._folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(
                    self._commands[name], cwd=ROOT if name == "app" else self._folder, env=self._environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip
            if name == "server":
                self.ledger.with_name("ledger.server").write_text(str(self._running[name].pid))
        return dead

    def kill(self, who: str) -> None:
        """Kills the server, the app, or both."""
        for name in ("server", "app") if who == "both" else (who,):
            self._running[name].kill()

    def close(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def begun(self, key: str) -> Counter[str]:
        """How often each step of the request with this key was begun."""
        entries = [line.split() for line in self.ledger.read_text().splitlines()]
        return Counter(name for whose, name in entries if whose == key)

    async def ready(self, http: httpx2.AsyncClient) -> None:
        """Waits until both answer."""

        async def ask() -> bool:
            try:
                answers = [await http.get(f"{self.server_url}/health"), await http.get(f"{self.app_url}/none")]
            except httpx2.TransportError:
                return False
            return [answer.status_code for answer in answers] == [200, 201]

        await eventually(ask, "server and app", 20)

    async def run(self, http: httpx2.AsyncClient, key: str) -> dict[str, object] | None:
        """The run of the request with this key, if it has begun."""
        query = {"function_id": f"{self.app_url}-GET /crashes", "limit": "20", "order": "DESC"}
        try:
            runs = (await http.get(f"{self.server_url}/v1/runs", params=query)).json()["data"]
            for run in runs:
                event = (await http.get(f"{self.server_url}/v1/events/{run['event_id']}")).json()["data"]
                if f"key={key}&" in event["data"]["query_params"]:
                    return dict(run)
        except httpx2.TransportError:
            pass
        return None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pair]:
    try:
        install()
    except NotInstalled as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"npm cannot install the SDKs: {error}")
    made = Pair(tmp_path_factory.mktemp("endpoints"))
    try:
        yield made
    finally:
        made.close()


async def _follow(http: httpx2.AsyncClient, location: str) -> httpx2.Response:
    """The answer to which a caller was led: while the server is away it asks again."""

    async def ask() -> httpx2.Response | None:
        try:
            return await http.get(location, timeout=20)
        except httpx2.TransportError:
            return None

    return await eventually(ask, "answer", 40)


async def _reviving(pair: Pair) -> None:
    while True:
        pair.revive()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("who", VICTIMS)
@pytest.mark.parametrize("place", PLACES)
async def test_whoever_is_killed_the_answer_comes_once(pair: Pair, place: str, who: str) -> None:
    key = f"k{next(pair.keys)}"
    url = f"{pair.app_url}/crashes?key={key}&who={who}&at={place.replace(' ', '%20')}"
    async with httpx2.AsyncClient(timeout=30) as http:
        reviving = asyncio.create_task(_reviving(pair))
        try:
            await pair.ready(http)
            try:
                first = await http.get(url)
            except httpx2.TransportError:
                first = None
            if place == "asleep":
                pair.kill(who)
            if first is not None and first.status_code == 302:
                answer = await _follow(http, first.headers["location"])
                assert (answer.status_code, answer.json()) == (200, {"done": key})
                assert (await _follow(http, first.headers["location"])).content == answer.content
            await _check_end(pair, http, place, who, key, first)
            assert place == "asleep" or pair.ledger.with_name(f"ledger.{key}").exists(), "nobody was killed"
        finally:
            reviving.cancel()
            await asyncio.gather(reviving, return_exceptions=True)


async def _check_end(
    pair: Pair, http: httpx2.AsyncClient, place: str, who: str, key: str, first: httpx2.Response | None
) -> None:
    if place not in FIRST_REQUEST:
        assert first is not None and first.status_code == 302, "it was led away before anything happened"
    elif who != "server":
        assert first is None
    if place == "in a" and (first is None or first.status_code == 500):
        # Nothing had been recorded: there is no run, and its caller knows that its request has failed.
        assert pair.begun(key) == {"a": 1}
        return

    async def ended() -> dict[str, object] | None:
        run = await pair.run(http, key)
        return run if run is not None and run["status"] not in ("Running", "Queued") else None

    run = await eventually(ended, "end of the run", 30)
    assert run["status"] == "Completed", run
    begun = pair.begun(key)
    # What was being done when somebody died may be done again, and only that. An app that died had begun nothing else.
    what, _, step = place.rpartition(" ")
    may_be_done_again = what == "in" or (what == "before" and who == "server")
    assert all(times == 1 or (times == 2 and name == step and may_be_done_again) for name, times in begun.items()), (
        begun
    )
    assert begun.keys() == {"a", "b", "c", "d"}
