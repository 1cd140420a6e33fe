"""A listener that follows a run through crashes hears everything that counts, once and in order.

Processes die at commits that hypothesis chooses; the listener comes back each time with the last offset it has heard,
and keeps what it was told as clients do: chunks of a step count when the step is committed, and not when it is rolled
back. In the end it, and one that comes late, have what the steps said in their last attempts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import App, Context, step, stream
from perdure.model.json import Json
from perdure.model.streams import StreamEvent
from perdure.node import Node
from perdure.testing import VirtualClock
from tests.support.crashing_store import CrashingStore, When, new_database
from tests.support.world import BusyNode


class Part(msgspec.Struct, frozen=True):
    """A step: how many chunks it says, in how many attempts it fails after how many of them, and how long it takes."""

    chunks: int
    fails: int = 0
    after: int = 0
    ticks: int = 0
    beside: bool = False


class Listener:
    """A client: what counts, what may yet count, and where it stands."""

    def __init__(self) -> None:
        self.offset = 0
        self.counting: list[Json] = []
        self.pending: dict[str, list[Json]] = {}
        self.response: Json = None

    def hear(self, event: StreamEvent) -> None:
        assert event.offset > self.offset, "heard twice, or out of order"
        assert self.response is None, "the response is the last"
        self.offset = event.offset
        if event.kind == "data":
            self.pending.setdefault(event.step or "", []).append(event.data)
        elif event.kind == "commit":
            self.counting += self.pending.pop(event.step or "", [])
        elif event.kind == "rollback":
            self.pending.pop(event.step or "", None)
        else:
            self.response = event.data

    async def follow(self, node: Node, run_id: str) -> None:
        async for event in node.run(run_id).stream(self.offset):
            self.hear(event)


def streaming_app(parts: list[Part], tries: dict[int, int]) -> App:
    app = App("t")

    async def say(number: int) -> int:
        part = parts[number]
        tries[number] = tries.get(number, 0) + 1
        for chunk in range(part.chunks):
            if tries[number] <= part.fails and chunk == part.after:
                raise RuntimeError("in mid stream")
            stream.push([number, chunk])
            for _ in range(part.ticks):
                await asyncio.sleep(0)
        return number

    @app.function("talk", trigger="go", retries=3)
    async def talk(ctx: Context) -> int:
        number = 0
        while number < len(parts):
            together = [number]
            while parts[number].beside and number + 1 < len(parts):
                number += 1
                together.append(number)
            await asyncio.gather(*(step.run(f"part {each}", say, each) for each in together))
            number += 1
        await step.sleep("a while", "1h")
        return number

    return app


async def _play(seed: int, parts: list[Part], crashes: list[tuple[int, When]]) -> None:
    chance, database, clock = random.Random(seed), new_database(), VirtualClock()
    listener, tries = Listener(), dict[int, int]()
    for crash in [*crashes, None]:
        store = CrashingStore(database, chance)
        if crash is not None:
            store.crash_at(*crash)
        options = {"clock": clock, "entropy": chance.randbytes, "chance": chance.random}
        node = BusyNode([streaming_app(parts, tries)], store, **options)  # type: ignore[arg-type]
        if await _survives(store, _live(node, listener)):
            store.crash_at(1_000_000, "before")
            break
        await _abandon(node, clock)
    else:
        raise AssertionError("the last process is not to die")
    wanted = [[number, chunk] for number, part in enumerate(parts) for chunk in range(part.chunks)]
    assert sorted(listener.counting) == wanted
    for number, _ in enumerate(parts):
        said = [chunk for chunk in listener.counting if chunk[0] == number]
        assert said == sorted(said)
    assert {step for step, chunks in listener.pending.items() if chunks} == set()
    assert listener.response == {
        "status": "succeeded",
        "response": {
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "body": str(len(parts)),
        },
    }
    late = Listener()
    async for event in node.run(await _run_id(node)).stream():
        assert event.kind != "rollback", "nothing was to be taken back"
        late.hear(event)
    assert sorted(late.counting) == wanted
    await node.stop()


async def _live(node: Node, listener: Listener) -> None:
    await node.start()
    following = asyncio.create_task(listener.follow(node, await _run_id(node)))
    while not following.done():
        await node.drain(20)
        await asyncio.sleep(0)
    await following


async def _run_id(node: Node) -> str:
    # The same run in each process.
    return (await node.trigger("t-talk", id="the one")).run_id


async def _survives(store: CrashingStore, work: Coroutine[Json, Json, None]) -> bool:
    doing = asyncio.create_task(work)
    dying = asyncio.create_task(store.crashed.wait())
    await asyncio.wait([doing, dying], return_when=asyncio.FIRST_COMPLETED)
    if store.crashed.is_set():
        return False
    dying.cancel()
    await doing
    return True


async def _abandon(node: Node, clock: VirtualClock) -> None:
    """What a killed process leaves: nothing that was running goes on."""
    for resident in tuple(node.runner._residents.values()):
        resident._leaving = True
    if node.settle in clock._settlers:
        clock.detach(node.settle)
    for _ in range(20):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if not others:
            break
        for task in others:
            task.cancel()
        await asyncio.wait(others, timeout=1)
    for app in node.apps:
        app.unbind(node)


PART = st.builds(
    Part, st.integers(0, 6), st.integers(0, 2), st.integers(0, 5), st.sampled_from([0, 0, 1, 7]), st.booleans()
)
CRASH = st.tuples(st.integers(0, 14), st.sampled_from(["before", "after"]))


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(PART, min_size=1, max_size=4), st.lists(CRASH, max_size=4))
def test_what_counts_is_heard_once_through_crashes(
    seed: int, parts: list[Part], crashes: list[tuple[int, When]]
) -> None:
    asyncio.run(_play(seed, parts, crashes))
