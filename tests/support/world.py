"""A database, a clock and a ledger that outlive the processes in them; each process is a node that may crash.

Everything is driven by one seed, so that what a test found happens again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import TypeVar

from perdure.engine import views
from perdure.model.event import EventError
from perdure.model.json import Json, decode
from perdure.model.records import JobState, RunStatus
from perdure.node import Node
from perdure.testing import VirtualClock
from tests.support.crashing_postgres import CrashingPostgres, PostgresDatabase
from tests.support.crashing_store import CrashingStore, When, new_database
from tests.support.every_kind import ONE_TO_ONE, Ledger, Limits, build_app

T = TypeVar("T")


class BusyNode(Node):
    """Settles without pauses: nothing here happens in another thread."""

    async def settle(self) -> None:
        quiet = 0
        while quiet < 8:
            quiet = quiet + 1 if self.runner.idle else 0
            await asyncio.sleep(0)


class World:
    """Runs coroutines in its event loop, and restarts the node whenever it crashes under them."""

    def __init__(self, seed: int, max_active: int = 1000, database: PostgresDatabase | None = None) -> None:
        self.chance = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.database = database or new_database()
        self.clock = VirtualClock()
        self.ledger = Ledger(self.database)
        self.limits = Limits()
        self.crashes = 0
        self.accepted: list[str] = []
        self._max_active = max_active
        self._armed: tuple[int, When] | None = None
        self.start()

    # Processes.

    def start(self) -> None:
        """A process starts; one that crashes while it starts is started again."""
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        while True:
            self.store = self._new_store()
            if self._armed is not None:
                self.store.crash_at(*self._armed)
                self._armed = None
            self.node = BusyNode(
                [build_app(self.ledger, self.limits)],
                self.store,
                clock=self.clock,
                entropy=self.chance.randbytes,
                chance=self.chance.random,
                max_active=self._max_active,
            )
            if await self._survives(self.node.start()):
                return
            await self._abandon()

    def _new_store(self) -> CrashingStore | CrashingPostgres:
        if isinstance(self.database, PostgresDatabase):
            return CrashingPostgres(self.database)
        return CrashingStore(self.database, self.chance)

    def restart(self) -> None:
        """The process ends in order, unless it crashes on the way, and another one starts."""
        self.stop()
        self.start()
        self.run(self.node.settle())

    def stop(self) -> None:
        if not self.loop.run_until_complete(self._survives(self.node.stop())):
            self.loop.run_until_complete(self._abandon())

    def crash_at(self, commits: int, when: When) -> None:
        self.store.crash_at(commits, when)

    def crash_at_start(self, commits: int, when: When) -> None:
        """The next process dies too, at one of its first commits."""
        self._armed = (commits, when)

    def crash(self) -> None:
        """The process dies now; the next one starts."""
        self.store.crash_now()
        self.run(self.node.settle())

    def run(self, work: Coroutine[Json, Json, None]) -> bool:
        """Does something in the process, and lets everything that follows from it happen; False if it crashed."""
        return self.loop.run_until_complete(self._run(work))

    async def _run(self, work: Coroutine[Json, Json, None]) -> bool:
        survived = await self._survives(work) and await self._survives(self.node.settle())
        if not survived:
            await self._abandon()
            await self._start()
            await self._run(self.node.settle())
        return survived

    async def _survives(self, work: Coroutine[Json, Json, None]) -> bool:
        doing = self.loop.create_task(work)
        dying = self.loop.create_task(self.store.crashed.wait())
        await asyncio.wait([doing, dying], return_when=asyncio.FIRST_COMPLETED)
        if self.store.crashed.is_set():
            return False
        dying.cancel()
        await doing
        return True

    async def _abandon(self) -> None:
        """What a killed process leaves: nothing that was running goes on."""
        self.crashes += 1
        self.ledger.active.clear()
        for resident in tuple(self.node.runner._residents.values()):
            resident._leaving = True
        if self.node.settle in self.clock._settlers:
            self.clock.detach(self.node.settle)
        for _ in range(20):
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1)
        if isinstance(self.store, CrashingPostgres):
            self.store.abandon()
            await asyncio.sleep(0)
        for app in self.node.apps:
            app.unbind(self.node)

    def close(self) -> None:
        self.stop()
        self.loop.run_until_complete(self._abandon())
        self.loop.close()
        self.database.close()

    # What goes in.

    async def send(self, kind: str, count: int, **data: Json) -> None:
        """Sends events one beside another; those that were acknowledged are remembered."""
        event_id = data.pop("id", None)
        body: dict[str, Json] = {"name": f"m/{kind}", "data": data, **({"id": event_id} if event_id else {})}
        await asyncio.gather(*(self._send(body) for _ in range(count)))

    async def _send(self, body: dict[str, Json]) -> None:
        self.accepted += (await self.node.ingest([body])).event_ids

    async def send_malformed(self, key: str) -> None:
        """A bad event in a batch: none of it may be accepted."""
        good: dict[str, Json] = {"name": "m/plain", "data": {"key": key, "ticks": 1}}
        try:
            await self.node.ingest([good, {"data": {}}])
        except EventError:
            return
        raise AssertionError("a malformed event was accepted")

    async def register(self, limits: Limits) -> None:
        """The code changes while runs are in flight."""
        self.limits = limits
        await self.node.register(build_app(self.ledger, limits))

    # What must hold.

    def rows(self, query: str, *params: Json) -> list[tuple[Json, ...]]:
        return self.database.execute(query, params).fetchall()

    def problems(self) -> list[str]:
        """What is wrong while everything is at rest."""
        health = self.loop.run_until_complete(self.store.view(views.health))
        found = [f"run without a next wake-up: {orphan}" for orphan in health.orphans]
        found += [f"slot without an owner: {slot}" for slot in health.leaked_slots]
        found += [f"in state {JobState(state).name} at rest: {job}" for job, state in self._jobs_that_should_move()]
        found += [f"blocked while there is room: {job}" for job in self._blocked_for_nothing()]
        found += [f"slot of a run at rest: {slot}" for slot in self._idle_slots()]
        known = {row[0] for row in self.rows("SELECT internal_id FROM event")}
        found += [f"accepted event lost: {event_id}" for event_id in self.accepted if event_id not in known]
        return found + self.ledger.wrong

    def _jobs_that_should_move(self) -> list[tuple[Json, ...]]:
        return self.rows(
            "SELECT id, state FROM job WHERE state IN (1, 2) OR (state = 0 AND due_at <= ?)", self.clock.now()
        )

    def _blocked_for_nothing(self) -> list[Json]:
        found: list[Json] = []
        for job_id, key in self.rows("SELECT id, blocked_on FROM job WHERE state = 3"):
            if key.startswith("throttle:"):
                if not self.rows("SELECT 1 FROM job WHERE id = ?", f"gate:{key}"):
                    found.append((job_id, key))
                continue
            limit = self._limit(key)
            # Runs of a shared key wait apart: "key|function:rule".
            if (
                limit is None
                or self.rows("SELECT count(*) FROM slot WHERE key = ?", key.partition("|")[0])[0][0] < limit
            ):
                found.append((job_id, key))
        return found

    def _limit(self, key: str) -> int | None:
        if key.startswith("env:"):
            return self.limits.shared
        if key.startswith("fn:m-limited:"):
            return self.limits.key
        return self.limits.held if key.startswith("fn:m-held:") else None

    def _idle_slots(self) -> list[tuple[Json, ...]]:
        # At rest no step executes: what is held are the slots of whole runs, and singletons.
        return self.rows("SELECT * FROM slot WHERE key NOT LIKE 'fn:m-held:%' AND key NOT LIKE 'singleton:%'")

    def remains(self) -> list[str]:
        """What is left over, or missing, when everything has ended."""
        found = [f"run not ended: {row}" for row in self.rows("SELECT id, function_id FROM run WHERE status < 2")]
        for table in ("job", "pause", "slot", "batch_item"):
            found += [f"left in {table}: {row}" for row in self.rows(f"SELECT * FROM {table}")]
        found += self._wrong_runs() + self._wrong_results()
        for (run_id, name), count in self.ledger.begun.items():
            failed = self.rows(
                "SELECT count(*) FROM attempt JOIN step ON step.run_id = attempt.run_id AND step.id = step_id"
                " WHERE step.run_id = ? AND step.name = ?",
                run_id,
                name,
            )
            # Without a crash, every beginning but one is an attempt that is recorded as failed.
            if count > 1 + failed[0][0] + self.crashes:
                found.append(f"step {name} of {run_id} began {count} times")
        return found

    def _wrong_runs(self) -> list[str]:
        found: list[str] = []
        names = ", ".join(f"'m/{kind}'" for kind in ONE_TO_ONE)
        counts = self.rows(
            "SELECT internal_id, name, body, count(run.id) FROM event LEFT JOIN run ON event_id = internal_id"
            f" WHERE name IN ({names}) GROUP BY internal_id"
        )
        for event_id, name, body, runs in counts:
            once = decode(body)["id"] == event_id
            if runs > 1 or (once and runs != 1):
                found.append(f"event {event_id} {name} has {runs} runs")
        for event_id, runs in self.rows(
            "SELECT internal_id, (SELECT count(*) FROM run WHERE event_id = internal_id)"
            " + (SELECT count(*) FROM run_event WHERE event_id = internal_id) FROM event WHERE name = 'm/batched'"
        ):
            if runs != 1:
                found.append(f"batched event {event_id} is in {runs} runs")
        # Which of two events of one ms counts as the later is open.
        for key, received_at in self.rows(
            "SELECT json_extract(body, '$.data.key'), max(received_at) FROM event WHERE name = 'm/debounced' GROUP BY 1"
        ):
            started = "SELECT 1 FROM event JOIN run ON event_id = internal_id WHERE name = 'm/debounced'"
            if not self.rows(f"{started} AND received_at = ?", received_at):
                found.append(f"the last debounced event of {key} started nothing")
        return found

    def _wrong_results(self) -> list[str]:
        found: list[str] = []
        wanted: dict[str, list[Json]] = {
            "m-plain": [["p1", "p2"]], "m-sleeping": [["s1", "s2"]], "m-signalled": [["g1", "g2"]],
            "m-waiting": [["w1", "answered"], ["w1", "timed out"]], "m-parent": [["n1", "i2", "i2", "n2"]],
            "m-retrying": [["r1", "r2", "r3", "r4"]], "m-limited": [["l1", "l2"]], "m-held": [["h1", "h2"]],
            "m-racing": [["x1", "x2"]], "m-sender": [["e1", "e2"]], "m-stoppable": [["c1", "c2"]], "m-child": ["i2"],
        }  # fmt: skip
        for run_id, function_id, status, output in self.rows("SELECT id, function_id, status, output FROM run"):
            if status == RunStatus.COMPLETED and decode(output) not in wanted.get(function_id, [["f1", "f2"]]):
                found.append(f"run {run_id} of {function_id} gave {output!r}")
            # A child that was cancelled fails its parent.
            orphaned = function_id == "m-parent" and b"InvokeCancelledError" in output if output else False
            if status == RunStatus.FAILED and function_id != "m-retrying" and not orphaned:
                found.append(f"run {run_id} of {function_id} failed: {output!r}")
        return found
