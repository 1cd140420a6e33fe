"""An app on another server as a model: it carries out any program of steps in the ways that SDKs have, and worse.

It repeats operations that are open, reports what is known already, sends checkpoints twice and for calls that are
over, and loses answers after it has done their work. It looks at what is committed, and notes what must not be: a step
that is executed after it was recorded, and a memo that is not what it was.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable

import msgspec

from perdure.apps.gateway import GatewayFailure
from perdure.apps.run import StaleCallError
from perdure.apps.transport import Call, CallError, Reply
from perdure.model.errors import ErrorInfo
from perdure.model.json import Json, encode
from perdure.model.records import StepStatus
from tests.support.remote_app import Received, op, ops, reply, sha

RACE: dict[str, Json] = {"parallelMode": "race"}
Checkpoint = Callable[[str, bytes], Awaitable[None]]


class Item(msgspec.Struct, frozen=True):
    """A step. `kind` is "run", "sleep", "wait", "signal", "invoke" or "fetch"; one that runs fails `fails` times, and
    then once for all if `final`."""

    kind: str
    fails: int = 0
    final: bool = False
    seconds: int = 60


class Stage(msgspec.Struct, frozen=True):
    """Steps beside each other. The function goes on when all are done, or one of them where they `race`."""

    items: tuple[Item, ...]
    race: bool = False


class Program(msgspec.Struct, frozen=True):
    """What the function does. `mishaps` is how often something is lost, or fails that is no step."""

    stages: tuple[Stage, ...]
    version: int = 2
    checkpoints: bool = True
    mishaps: int = 0


class _Named(msgspec.Struct, frozen=True):
    name: str
    item: Item
    race: bool


class ModelApp:
    """The app: a transport. `checkpoint` is how it reaches the server; whatever is `wrong` is noted there."""

    def __init__(
        self, program: Program, chance: random.Random, checkpoint: Checkpoint, rows: sqlite3.Connection
    ) -> None:
        self.program = program
        self.wrong: list[str] = []
        self._chance = chance
        self._checkpoint = checkpoint
        self._rows = rows
        self._mishaps = program.mishaps
        self._failed: dict[tuple[str, str], int] = {}
        self._memos: dict[tuple[str, str], Json] = {}
        self._over: list[str] = []
        self.stages = [
            [_Named(f"{n}.{i}", item, stage.race and len(stage.items) > 1) for i, item in enumerate(stage.items)]
            for n, stage in enumerate(program.stages)
        ]

    async def call(self, call: Call) -> Reply:
        received = Received(call)
        if call.function_id == "app-child":
            return reply("child")
        # At once: what is recorded while the call is on its way, it cannot know.
        self._look_at_memos(received)
        try:
            await self._ticks()
            await self._send_stale_checkpoint(received)
            answer = await self._answer(received)
            await self._ticks()
        finally:
            self._over.append(received.request_id)
        if self._mishap():
            raise CallError("http_broken_response", "the answer was lost")
        return answer

    async def perform(self, kind: str, opts: dict[str, Json]) -> bytes:
        """Makes a request for the app."""
        await self._ticks()
        if "[redacted]" in str(opts):
            self.wrong.append(f"a request is made with what was left of it in the store: {opts}")
        name = opts["url"].rpartition("/")[2]
        (item,) = [each.item for stage in self.stages for each in stage if each.name == name]
        failed = self._failed.get(("", name), 0)
        if failed < item.fails:
            self._failed["", name] = failed + 1
            raise GatewayFailure(ErrorInfo("GatewayError", f"failure {failed} of {name}"))
        return encode(name)

    # What it checks.

    def _look_at_memos(self, received: Received) -> None:
        memos: dict[str, Json] = received.body["steps"]
        run_id = received.call.run_id
        if sorted(memos) != sorted(received.ctx["stack"]["stack"]):
            self.wrong.append(f"the stack of {run_id} is not that of its memos")
        for step_id, memo in memos.items():
            if self._memos.setdefault((run_id, step_id), memo) != memo:
                self.wrong.append(f"the memo of {step_id} was {self._memos[run_id, step_id]} and is {memo}")
        for known in self._memos:
            if known[0] == run_id and known[1] not in memos:
                self.wrong.append(f"the memo of {known[1]} is gone")

    def _execute(self, received: Received, named: _Named) -> dict[str, Json]:
        run_id, name = received.call.run_id, named.name
        found = self._rows.execute(
            "SELECT status FROM step WHERE run_id = ? AND id = ?", (run_id, sha(name))
        ).fetchone()
        if found is not None and found[0] <= StepStatus.FAILED:
            self.wrong.append(f"step {name} of {run_id} is executed although it is recorded")
        opts: dict[str, Json] = RACE if named.race else {}
        failed = self._failed.get((run_id, name), 0)
        if failed < named.item.fails:
            self._failed[run_id, name] = failed + 1
            return op("StepError", name, error={"name": "E", "message": f"failure {failed} of {name}"}, opts=opts)
        if named.item.final:
            return op("StepFailed", name, error={"name": "E", "message": f"{name} never works"}, opts=opts)
        return op("StepRun", name, name, opts=opts)

    # What it answers.

    async def _answer(self, received: Received) -> Reply:
        if received.step != "step":
            (named,) = [each for stage in self.stages for each in stage if sha(each.name) == received.step]
            return self._ops(received, [self._execute(received, named)])
        if self._mishap():
            return reply({"name": "E", "message": "the function fails"}, 500, version=self.program.version)
        if self._mishap():
            return self._ops(received, [{"op": "None"}])
        return await self._discover(received)

    async def _discover(self, received: Received) -> Reply:
        here: set[str] = set()
        losers: list[_Named] = []
        immediate = not received.ctx["disable_immediate_execution"]
        for stage in self.stages:
            todo = [each for each in stage if each.name not in here and not received.has(each.name)]
            if not todo:
                continue
            if stage[0].race and len(todo) < len(stage):
                losers += todo
                continue
            repeated = [each for each in losers if self._chance.random() < 0.5]
            alone = len(todo) == 1 and todo[0].item.kind == "run" and not repeated
            if not (alone and immediate):
                return self._ops(received, [self._report(each) for each in [*repeated, *todo]])
            outcome = self._execute(received, todo[0])
            if not self._may_checkpoint(received, outcome):
                return self._ops(received, [outcome])
            await self._send_checkpoint(received, [outcome])
            here.add(todo[0].name)
            if self._chance.random() < 0.2:
                return self._ops(received, [{"op": "DiscoveryRequest", "id": received.request_id}])
        return self._end(received)

    def _may_checkpoint(self, received: Received, outcome: dict[str, Json]) -> bool:
        return self.program.checkpoints and received.ctx["attempt"] == 0 and outcome["op"] == "StepRun"

    def _report(self, named: _Named) -> dict[str, Json]:
        item, name = named.item, named.name
        opts: dict[str, Json] = dict(RACE) if named.race else {}
        if item.kind == "run":
            return op("StepPlanned", name, opts=opts)
        if item.kind == "sleep":
            return {**op("Sleep", name, opts=opts), "name": f"{item.seconds}s"}
        if item.kind == "fetch":
            headers = {"authorization": "secret"}
            return op(
                "Gateway", name, opts={**opts, "url": f"http://x.test/{name}", "method": "GET", "headers": headers}
            )
        timeout = {"timeout": f"{item.seconds}s"}
        if item.kind == "wait":
            return {**op("WaitForEvent", name, opts={**opts, **timeout}), "name": "t/go"}
        if item.kind == "signal":
            return op("WaitForSignal", name, opts={**opts, **timeout, "signal": "go", "conflict": "replace"})
        return op("InvokeFunction", name, opts={**opts, "function_id": "app-child", "payload": {"data": {}}})

    def _ops(self, received: Received, found: list[dict[str, Json]]) -> Reply:
        """An answer of operations, at times with some of them twice, or with one that was recorded long ago."""
        if found and self._chance.random() < 0.2:
            found.append(self._chance.choice(found))
        memos = list(received.body["steps"])
        if memos and self._chance.random() < 0.2:
            old = {"op": "StepRun", "id": self._chance.choice(memos), "name": "old", "data": "another"}
            found.insert(self._chance.randrange(len(found) + 1), old)
        return ops(*found, version=self.program.version)

    def _end(self, received: Received) -> Reply:
        if self._chance.random() < 0.5:
            return ops({"op": "RunComplete", "id": sha("complete"), "data": "done"}, version=self.program.version)
        return reply("done", version=self.program.version)

    # Checkpoints.

    async def _send_checkpoint(self, received: Received, found: list[dict[str, Json]]) -> None:
        body = encode({"run_id": received.call.run_id, "request_id": received.request_id, "steps": found})
        for _ in range(2 if self._chance.random() < 0.2 else 1):
            try:
                await self._checkpoint(received.call.run_id, body)
            except StaleCallError as error:
                raise CallError("http_broken_response", f"the app stops: {error}") from error
        self._memos.setdefault((received.call.run_id, found[0]["id"]), {"data": found[0]["data"]})
        await self._ticks()

    async def _send_stale_checkpoint(self, received: Received) -> None:
        """Work for a call that is over, of which the server gave out the work again."""
        if not self._over or self._chance.random() > 0.3:
            return
        steps = [{"op": "StepRun", "id": sha("0.0"), "name": "0.0", "data": "stale"}]
        body = encode({"request_id": self._chance.choice(self._over), "steps": steps})
        try:
            await self._checkpoint(received.call.run_id, body)
        except StaleCallError:
            return
        self.wrong.append("a checkpoint of a call that is over was taken")

    # Chance.

    def _mishap(self) -> bool:
        if self._mishaps and self._chance.random() < 0.15:
            self._mishaps -= 1
            return True
        return False

    async def _ticks(self) -> None:
        for _ in range(self._chance.randrange(6)):
            await asyncio.sleep(0)
