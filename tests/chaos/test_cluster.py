"""Three nodes on one PostgreSQL: killed, paused beyond their lease, cut off, and the server restarted under them, or
the bus between them stopped. Their clocks differ by a minute.

Every kind of flow control is in use, and a ledger outside says what every step gave and when. At the end every event
has its run, nothing is left over, and no limit was ever exceeded (`cluster_verdict`). PERDURE_CLUSTER_ROUNDS says how
many things happen to the nodes, 20 in CI, and PERDURE_CLUSTER_EVENTS how many events are sent before each: `make
chaos` sends 10,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from perdure.model.json import Json
from tests.chaos.cluster_node import LIMIT
from tests.chaos.cluster_verdict import ONE_EACH, OTHERS, wrong
from tests.support.postgres import PostgresServer
from tests.support.postgres_session import PostgresSession
from tests.support.tcp_proxy import TcpProxy
from tests.support.valkey import ValkeyServer

ROUNDS = int(os.environ.get("PERDURE_CLUSTER_ROUNDS", "20" if os.environ.get("CI") else "8"))
EVENTS = int(os.environ.get("PERDURE_CLUSTER_EVENTS", "30"))
ROOT = Path(__file__).parents[2]
LIFETIME = 2.0

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(600 + 10 * ROUNDS),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are paused and killed by signals"),
]


_FOLLOWED = {"waiting": "c/answer", "stoppable": "c/stop"}
"""The kinds for which another event is meant."""


class ClusterNode:
    """A process that is a node, behind a proxy of its own."""

    def __init__(self, server: PostgresServer, database: str, folder: Path, skew: int, bus: str) -> None:
        self._skew = skew
        self._bus = bus
        self._proxy = TcpProxy(server.port)
        self._database = database
        self._folder = folder
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.accepted: set[str] = set()

    async def start(self) -> None:
        if not self._port:
            self._port = await self._proxy.start()
        url = f"postgresql://postgres@127.0.0.1:{self._port}/{self._database}"
        arguments = (url, str(self._folder / "ledger"), str(LIFETIME), str(self._skew), self._bus)
        command = (sys.executable, "-m", "tests.chaos.cluster_node", *arguments)
        # While the server is away a node does not start: whoever runs it starts it again.
        while "ready" not in self.accepted:
            with (self._folder / "log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
                )
            self._reading = asyncio.create_task(self._read(self._process))
            while "ready" not in self.accepted and self._process.returncode is None:
                await asyncio.sleep(0.02)
        self.accepted.discard("ready")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            self.accepted.add(line.decode().strip())

    def send(self, event: dict[str, Json]) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write((json.dumps(event) + "\n").encode())

    def cut(self) -> None:
        self._proxy.cut()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self) -> int:
        assert self._process is not None and self._reading is not None
        try:
            code = await asyncio.wait_for(self._process.wait(), 60)
        except TimeoutError:
            self._process.send_signal(signal.SIGUSR2)
            await asyncio.sleep(2)
            self._process.kill()
            raise
        await self._reading
        self._process = None
        return code

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGTERM)
            assert await self.ended() == 0
        await self._proxy.stop()


class Cluster:
    """The nodes, the events that they are to accept, and a witness of the limits."""

    def __init__(self, server: PostgresServer, valkey: ValkeyServer, folder: Path, seed: int) -> None:
        self.server = server
        self.valkey = valkey
        self._has_bus = True
        self.url = server.new_database()
        self.folder = folder
        self.chance = random.Random(seed)
        name = self.url.rpartition("/")[2]
        self.nodes = [ClusterNode(server, name, folder, skew, valkey.url) for skew in (-60, 0, 60)]
        self.sent: dict[str, dict[str, Json]] = {}
        self.most = 0

    def accepted(self) -> set[str]:
        return set().union(*(node.accepted for node in self.nodes))

    def send(self, count: int) -> None:
        for _ in range(count):
            n = len(self.sent)
            kind = self.chance.choice(ONE_EACH + OTHERS)
            event: dict[str, Json] = {"name": f"c/{kind}", "id": f"e{n}", "data": {"n": n, "key": f"k{n % 3}"}}
            self.sent[f"e{n}"] = event
            self.chance.choice(self.nodes).send(event)
            if kind in _FOLLOWED and self.chance.random() < 0.5:
                following: dict[str, Json] = {"name": _FOLLOWED[kind], "id": f"a{n}", "data": {"n": n}}
                self.sent[f"a{n}"] = following
                asyncio.get_running_loop().call_later(0.5, self.chance.choice(self.nodes).send, following)

    def send_again(self) -> bool:
        """Events of which nobody has heard that they were accepted are sent once more; whether there are any."""
        missing = [event for event_id, event in self.sent.items() if event_id not in self.accepted()]
        for event in missing:
            self.chance.choice(self.nodes).send(event)
        return bool(missing)

    async def happen(self) -> None:
        """Something happens to the cluster."""
        what = self.chance.choice(("kill", "pause", "cut", "stop", "restart", "bus"))
        node = self.chance.choice(self.nodes)
        if what == "kill":
            await node.kill()
            await node.start()
        elif what == "pause":
            node.signal(signal.SIGSTOP)
            await asyncio.sleep(LIFETIME * 1.3)
            node.signal(signal.SIGCONT)
        elif what == "cut":
            for _ in range(5):
                node.cut()
                await asyncio.sleep(self.chance.random() * 0.2)
        elif what == "stop":
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            await node.start()
        elif what == "bus":
            # It stays away until the next time.
            await asyncio.to_thread(self.valkey.stop if self._has_bus else self.valkey.start)
            self._has_bus = not self._has_bus
        else:
            how = self.chance.choice((signal.SIGINT, signal.SIGQUIT))
            await asyncio.to_thread(self.server.stop, how)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(self.server.start)

    async def witness(self) -> None:
        """Looks again and again how many slots of a key are taken."""
        while True:
            with contextlib.suppress(Exception), closing(PostgresSession(self.url)) as session:
                for _ in range(50):
                    for (count,) in session.execute("SELECT count(*) FROM perdure.slot GROUP BY key"):
                        self.most = max(self.most, count)
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def cluster(folder: Path, seed: int) -> AsyncGenerator[Cluster]:
    server, valkey = PostgresServer(), ValkeyServer()
    try:
        server.start()
        valkey.start()
        made = Cluster(server, valkey, folder, seed)
        try:
            for node in made.nodes:
                await node.start()
            yield made
        finally:
            for node in made.nodes:
                with contextlib.suppress(ProcessLookupError):
                    await node.stop()
    finally:
        server.remove()
        valkey.remove()


@pytest.mark.parametrize("seed", [int(os.environ.get("PERDURE_CLUSTER_SEED", "1"))])
async def test_nothing_is_lost_or_doubled_whatever_happens_to_nodes_and_server(tmp_path: Path, seed: int) -> None:
    async with cluster(tmp_path, seed) as made:
        witnessing = asyncio.create_task(made.witness())
        for _ in range(ROUNDS):
            made.send(EVENTS)
            await asyncio.sleep(made.chance.uniform(0.2, 1.0))
            await made.happen()
        async with asyncio.timeout(90 + ROUNDS):
            while made.send_again():
                await asyncio.sleep(1)
        problems = await _at_rest(made)
        witnessing.cancel()
        assert problems == []
        with closing(PostgresSession(made.url)) as session:
            assert wrong(session, tmp_path / "ledger", made.sent) == []
        assert made.most <= LIMIT


async def _at_rest(made: Cluster) -> list[str]:
    """Waits until nothing is left to do but to tick; what is still there after a while."""
    left: list[str] = []
    for _ in range(120 + 2 * ROUNDS):
        await asyncio.sleep(0.5)
        with closing(PostgresSession(made.url)) as session:
            session.execute("SET search_path = perdure")
            rows = session.execute(
                "SELECT id, function_id, status FROM run WHERE status < 2 AND function_id <> 'c-ticking'"
            )
            left = [f"run {row}" for row in rows]
            left += [f"job {row}" for row in session.execute("SELECT * FROM job WHERE function_id <> 'c-ticking'")]
            for table in ("pause", "slot", "batch_item"):
                left += [f"{table} {row}" for row in session.execute(f"SELECT * FROM {table}")]
        if not left:
            return []
    return left
