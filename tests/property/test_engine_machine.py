"""The engine, the store and the runner under every schedule that hypothesis can think of, crashes included.

The machine sends events, moves time, cancels, signals, changes limits, and kills the process before or after some
commit; after every step everything comes to rest and the invariants of `World.problems` must hold, and at the end
everything must have ended.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from perdure import RefusedError
from tests.support.crashing_postgres import PostgresDatabase
from tests.support.crashing_store import When
from tests.support.every_kind import KINDS, Limits
from tests.support.postgres import PostgresServer
from tests.support.world import World

KEYS = st.sampled_from(["a", "b"])
WHEN: st.SearchStrategy[When] = st.sampled_from(["before", "after"])
LIMIT = st.integers(1, 3)


class EngineMachine(RuleBasedStateMachine):
    world: World

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.world = World(seed, self.room(), self.database())

    def room(self) -> int:
        """How many runs the node executes at a time."""
        return 1000

    def database(self) -> PostgresDatabase | None:
        """Where its data is, if not in memory."""
        return None

    def _ceiling(self, limits: Limits) -> None:
        # Lowering a limit does not stop who is at work under it.
        for key in ("a", "b"):
            for kind, limit in (("limited", limits.key), ("held", limits.held)):
                known = self.world.ledger.ceiling
                known[f"{kind}-{key}"] = max(known.get(f"{kind}-{key}", 1), limit)

    @rule(
        kind=st.sampled_from(KINDS), key=KEYS, count=st.integers(1, 3), ticks=st.integers(0, 6), fails=st.integers(0, 3)
    )
    def send(self, kind: str, key: str, count: int, ticks: int, fails: int) -> None:
        seconds = 1 + fails * 20
        self.world.run(self.world.send(kind, count, key=key, ticks=ticks, fails=fails, seconds=seconds))

    @rule(kind=st.sampled_from(["limited", "held", "throttled", "skipping"]), key=KEYS)
    def send_with_id(self, kind: str, key: str) -> None:
        self.world.run(self.world.send(kind, 2, key=key, ticks=2, fails=0, id=f"id-{kind}-{key}"))

    @rule(key=KEYS)
    def send_malformed(self, key: str) -> None:
        self.world.run(self.world.send_malformed(key))

    @rule(key=KEYS, name=st.sampled_from(["answer", "stop"]))
    def wake(self, key: str, name: str) -> None:
        self.world.run(self.world.send(name, 1, key=key))

    @rule(key=KEYS)
    def signal(self, key: str) -> None:
        async def send() -> None:
            for kind in ("signal", "race"):
                await self.world.node.signal(f"{kind}-{key}", {"n": 1})

        self.world.run(send())

    @rule(nth=st.integers(0, 50))
    def cancel(self, nth: int) -> None:
        runs = self.world.rows("SELECT id FROM run WHERE status < 2 ORDER BY id")
        if not runs:
            return

        async def cancel() -> None:
            await self.world.node.cancel(runs[nth % len(runs)][0])

        self.world.run(cancel())

    @rule(nth=st.integers(0, 50), skipped=st.booleans())
    def intervene(self, nth: int, skipped: bool) -> None:
        # An invocation that is woken fails its run, which is right, but not among what the world expects.
        steps = self.world.rows(
            "SELECT run_id, id, op FROM step WHERE status IN (2, 3) AND op <> 'InvokeFunction' ORDER BY run_id, seq"
        )
        if not steps:
            return
        run_id, step_id, operation = steps[nth % len(steps)]

        async def intervene() -> None:
            node = self.world.node
            try:
                # The value of a step is known to the ledger, which would miss its attempts; a wait's is anybody's.
                if skipped and operation == "Sleep":
                    await node.skip_step(run_id, step_id)
                else:
                    await node.wake_step(run_id, step_id)
            except RefusedError:
                pass

        self.world.run(intervene())

    @rule(seconds=st.sampled_from([1, 2, 5, 20, 60, 4000, 100_000]))
    def advance(self, seconds: int) -> None:
        self.world.run(self.world.clock.advance(seconds))

    @rule(key=LIMIT, shared=LIMIT, held=LIMIT)
    def change_limits(self, key: int, shared: int, held: int) -> None:
        limits = Limits(key, shared, held)
        self._ceiling(limits)
        self.world.run(self.world.register(limits))

    @rule(commits=st.integers(0, 12), when=WHEN)
    def crash_later(self, commits: int, when: When) -> None:
        self.world.crash_at(commits, when)

    @rule(commits=st.integers(0, 3), when=WHEN)
    def crash_while_starting(self, commits: int, when: When) -> None:
        self.world.crash_at_start(commits, when)
        self.world.crash()

    @rule()
    def crash(self) -> None:
        self.world.crash()

    @rule(
        kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=6), key=KEYS, commits=st.integers(0, 20), when=WHEN
    )
    def crash_under_load(self, kinds: list[str], key: str, commits: int, when: When) -> None:
        self.world.crash_at(commits, when)
        for kind in kinds:
            self.world.run(self.world.send(kind, 2, key=key, ticks=3, fails=1, seconds=3))

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "world"):
            assert self.world.problems() == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        try:
            for _ in range(20):
                if world.run(world.node.drain()):
                    break
            assert world.problems() + world.remains() == []
        finally:
            world.close()


class CrowdedMachine(EngineMachine):
    """A node with room for two runs at a time: most of the work waits to be claimed."""

    def room(self) -> int:
        return 2


class PostgresMachine(EngineMachine):
    """The same on the other store, whose server a fixture sets."""

    server: PostgresServer
    template: str

    def database(self) -> PostgresDatabase | None:
        return PostgresDatabase(self.server, self.template)


THOROUGH = settings.get_current_profile_name() == "ci"
EXAMPLES = int(os.environ.get("PERDURE_MACHINE_EXAMPLES", "1000" if THOROUGH else "50"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    # Explaining a failure takes longer than finding it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [EngineMachine, CrowdedMachine], ids=lambda machine: machine.__name__)
def test_every_schedule(machine: type[EngineMachine]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_schedule_on_postgres(postgres_server: PostgresServer, postgres_template: str) -> None:
    PostgresMachine.server, PostgresMachine.template = postgres_server, postgres_template
    fewer = settings(SETTINGS, max_examples=max(5, EXAMPLES // 20))
    run_state_machine_as_test(PostgresMachine, settings=fewer)
