"""A replay that is asked for again and again, by several at once, with crashes in between: each run exactly once."""

from __future__ import annotations

import asyncio
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import App, Context, Node
from perdure.engine import replays
from perdure.engine.schedule import Refused
from perdure.model.records import RunStatus
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, sound


def replayed() -> App:
    app = App("t")

    @app.function("one", trigger="go")
    async def one(ctx: Context) -> int:
        return 1

    return app


async def _ask(engine: Node, pages: int | None, limit: int) -> None:
    """Asks for the replay; who asks is gone after some pages, None stays until it is done."""
    choice = replays.Choice([int(RunStatus.COMPLETED)])
    replay = await engine.decide(replays.begin, "again", "t-one", choice)
    while pages is None or pages > 0:
        assert not isinstance(replay, Refused)
        if replay.ended_at is not None:
            return
        replay = await engine.decide(partial(replays.advance, limit=limit), "again")
        pages = None if pages is None else pages - 1


async def _play(count: int, asked: list[list[tuple[int, int]]], last: int) -> None:
    async with running(replayed(), VirtualClock()) as engine:
        await engine.ingest([{"name": "go"}] * count)
        await engine.drain(20)
        first = {run.id for run in await runs(engine)}
        for together in asked:
            await asyncio.gather(*(_ask(engine, pages, limit) for pages, limit in together))
            # What the replay started, and others, end meanwhile: they are none of its runs.
            await engine.ingest([{"name": "go"}])
            await engine.drain(20)
        await _ask(engine, None, last)
        await engine.drain(20)
        every = await runs(engine)
        originals = [run.original_run_id for run in every if run.original_run_id is not None]
        # Runs that came after the replay's beginning are not its own; before it, all are.
        assert len(originals) == len(set(originals))
        assert set(originals) == first
        assert all(run.status == RunStatus.COMPLETED for run in every)
        await sound(engine)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 12),
    st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=3), max_size=3),
    st.integers(1, 5),
)
def test_each_run_is_done_once_more(count: int, asked: list[list[tuple[int, int]]], last: int) -> None:
    asyncio.run(_play(count, asked, last))
