"""Whatever senders, steps and crashes do, each signal that was accepted is taken in by one step, in order."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from perdure.agents.storage import AgentRun, AgentStorage
from perdure.store.sqlite import SqliteStore

# What happens next: a signal is sent, sent again, or the run's step claims, is attempted again, goes on, or closes.
acts = st.lists(st.sampled_from(["send", "send", "again", "claim", "next", "close"]), max_size=40)


async def played(script: list[str]) -> None:
    store = SqliteStore(":memory:")
    await store.open()
    clock = itertools.count(1_000)
    try:
        storage = AgentStorage(store, now=lambda: next(clock), ids=str)
        await storage.put_run(AgentRun("r", "ops", "1", "h", "t", "u"))
        accepted: list[str] = []
        taken: list[str] = []
        of_step: list[str] = []
        step, sent, closed = 0, 0, False
        for act in script:
            if act in ("send", "again"):
                sent += act == "send"
                signal = f"s{sent}"
                ok = await storage.put_signal("r", signal, {"id": signal})
                assert ok is not closed
                if ok and signal not in accepted:
                    accepted.append(signal)
            elif act == "next":
                taken, of_step, step = taken + of_step, [], step + 1
            elif act == "claim":
                claimed = [each["id"] for each in await storage.claim_signals("r", f"llm:{step}")]
                assert claimed[: len(of_step)] == of_step, "another attempt of the step gets the same again"
                of_step, closed = claimed, False
            else:
                late = [each["id"] for each in await storage.close_inbox("r", f"llm:{step}")]
                assert not set(late) & set(taken + of_step)
                of_step, closed = of_step + late, not late
        rest = [each["id"] for each in await storage.left_signals("r")]
        assert taken + of_step + rest == accepted
    finally:
        await store.close()


@given(acts)
def test_a_signal_is_taken_in_once(script: list[str]) -> None:
    asyncio.run(played(script))
