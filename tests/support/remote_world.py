"""A world (see `world`) whose nodes have no functions of their own: they call a model app, which outlives them."""

from __future__ import annotations

import sqlite3

from perdure.apps.transport import Call, Reply
from perdure.engine import intake
from perdure.model.config import EventTrigger, FunctionConfig
from perdure.model.json import Json
from tests.support.model_app import ModelApp, Program
from tests.support.remote_app import URL
from tests.support.world import BusyNode, World

CONFIGS = [
    FunctionConfig(
        f"app-{name}", "app", name, (EventTrigger(f"t/{name}"),), 20, url=f"{URL}?fnId=app-{name}&stepId=step"
    )
    for name in ("f", "child")
]


class Ways:
    """What a node reaches the app by, in the place of HTTP and of its gateway."""

    def __init__(self, app: ModelApp) -> None:
        self._app = app

    async def call(self, call: Call) -> Reply:
        return await self._app.call(call)

    async def perform(self, kind: str, opts: dict[str, Json]) -> bytes:
        return await self._app.perform(kind, opts)

    async def close(self) -> None:
        pass


class RemoteWorld(World):
    """One process after another that calls the app for "t/f" (its program) and "t/child"."""

    def __init__(self, seed: int, program: Program) -> None:
        self._program = program
        self._app: ModelApp | None = None
        super().__init__(seed)

    @property
    def app(self) -> ModelApp:
        if self._app is None:
            assert isinstance(self.database, sqlite3.Connection)
            self._app = ModelApp(self._program, self.chance, self._checkpoint, self.database)
        return self._app

    async def _checkpoint(self, run_id: str, body: bytes) -> None:
        await self.node.checkpoint(run_id, body)

    async def _start(self) -> None:
        while True:
            self.store = self._new_store()
            if self._armed is not None:
                self.store.crash_at(*self._armed)
                self._armed = None
            self.node = BusyNode(
                [], self.store, clock=self.clock, entropy=self.chance.randbytes, chance=self.chance.random
            )
            remote = self.node._remote
            remote._http = remote._gateway = Ways(self.app)  # type: ignore[assignment]
            if await self._survives(self._begin()):
                return
            await self._abandon()

    async def _begin(self) -> None:
        await self.node.start()
        await self.node.register_configs("app", CONFIGS)
        self.node.runner.use(self.node._remote.code(config) for config in CONFIGS)
        await self.node.decide(intake.unblock, CONFIGS)

    async def trigger(self, event_id: str) -> None:
        """Starts the program once, however often it is asked."""
        await self.node.ingest([{"name": "t/f", "id": event_id}])

    async def go(self) -> None:
        """What programs may wait for."""
        await self.node.ingest([{"name": "t/go", "data": {}}])
        await self.node.signal("go", 1)

    def at_rest(self) -> list[str]:
        """What is wrong while everything is at rest."""
        return self.problems() + self.app.wrong

    def at_the_end(self) -> list[str]:
        """What is left over, or missing, when everything should have ended."""
        found = [f"not ended: {row}" for row in self.rows("SELECT id, function_id FROM run WHERE status < 2")]
        for table in ("job", "pause", "slot"):
            found += [f"left in {table}: {row}" for row in self.rows(f"SELECT * FROM {table}")]
        wrong = "SELECT id, status, output FROM run WHERE function_id = 'app-f' AND (status <> 2 OR output <> ?)"
        return found + [f"wrong result: {row}" for row in self.rows(wrong, b'"done"')]

    def memos(self, run_id: str) -> dict[str, Json]:
        """The recorded outcomes of a run by step id."""
        rows = self.rows("SELECT id, status, data FROM step WHERE run_id = ? AND status <= 1", run_id)
        return {row[0]: (row[1], row[2]) for row in rows}
