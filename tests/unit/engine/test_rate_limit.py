"""Rate limit: at most `limit` starts in any window of `period`; what exceeds it starts nothing (D.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perdure import App, BatchEvents, Context, Debounce, RateLimit, RefusedError
from perdure.engine import views
from perdure.testing import VirtualClock
from tests.unit.engine.harness import running, runs, statuses


def limited(limit: RateLimit, **options: Any) -> App:
    app = App("t")

    @app.function("f", trigger="go", rate_limit=limit, **options)
    async def f(ctx: Context) -> list[Any]:
        return [event.data.get("n") for event in ctx.events]

    return app


def go(*numbers: int, **data: Any) -> list[dict[str, Any]]:
    return [{"name": "go", "data": {"n": number, **data}} for number in numbers]


async def test_the_first_ones_start_and_the_rest_is_dropped_but_stored() -> None:
    app = limited(RateLimit(10, "10s"))
    async with running(app) as engine:
        await app.send(go(*range(12)))
        await engine.settle()
        assert len(await runs(engine)) == 10
        assert len(await engine.view(lambda: views.list_events(100))) == 12


async def test_the_window_slides_and_its_edge_is_exact() -> None:
    clock = VirtualClock()
    begin = clock.now()
    app = limited(RateLimit(2, "10s"))
    async with running(app, clock) as engine:
        for at in (0, 4_000, 9_999, 10_000, 10_001, 13_999, 14_000, 20_000, 20_001):
            await clock.jump_to(begin + at)
            await app.send(go(at))
        await engine.settle()
        assert [run.created_at - begin for run in await runs(engine)] == [0, 4_000, 10_000, 14_000, 20_000]


@pytest.mark.parametrize("period", ["1s", "24h"])
async def test_no_window_ever_holds_more_than_the_limit(period: str) -> None:
    clock, limit = VirtualClock(), 3
    app = limited(RateLimit(limit, period))
    millis = 1000 if period == "1s" else 86_400_000
    async with running(app, clock) as engine:
        for _ in range(40):
            await app.send(go(1))
            await clock.jump_to(clock.now() + millis // 7)
        starts = [run.created_at for run in await runs(engine)]
    assert len(starts) > 12
    assert all(later - earlier >= millis for earlier, later in zip(starts, starts[limit:], strict=False))


async def test_by_key_and_without_the_key_not_at_all() -> None:
    app = limited(RateLimit(1, "1h", key="event.data.user"))
    async with running(app) as engine:
        await app.send(go(1, 2, user="a") + go(3, 4, user="b") + go(5, 6) + go(7, 8, user=None) + go(9, 10, user=False))
        await engine.settle()
        assert [run.output for run in await runs(engine)] == [
            f"[{number}]".encode() for number in (1, 3, 5, 6, 7, 8, 9, 10)
        ]


async def test_a_limit_survives_a_restart(tmp_path: Path) -> None:
    clock = VirtualClock()
    for expected in (1, 1):
        app = limited(RateLimit(1, "1h"))
        async with running(app, clock, tmp_path / "db") as engine:
            await app.send(go(1))
            await engine.settle()
            assert len(await runs(engine)) == expected


async def test_a_direct_trigger_says_that_it_was_refused() -> None:
    app = limited(RateLimit(1, "1h"))
    async with running(app) as engine:
        await engine.trigger("t-f")
        with pytest.raises(RefusedError) as refused:
            await engine.trigger("t-f")
        assert refused.value.reason == "rate_limited"


async def test_what_the_limit_dropped_does_not_take_its_event_id() -> None:
    clock = VirtualClock()
    app = limited(RateLimit(1, "1h"))
    async with running(app, clock) as engine:
        await app.send([{"name": "go", "id": "one"}, {"name": "go", "id": "two"}])
        await clock.advance("1h")
        await app.send([{"name": "go", "id": "one"}, {"name": "go", "id": "two"}])
        await engine.settle()
        assert len(await runs(engine)) == 2, "one at first; then two, for its first event started nothing"


async def test_a_repeated_event_does_not_use_up_the_limit() -> None:
    app = limited(RateLimit(2, "1h"))
    async with running(app) as engine:
        await app.send([{"name": "go", "id": "one"}] * 3 + [{"name": "go", "id": "two"}])
        await engine.settle()
        assert len(await runs(engine)) == 2


async def test_the_limit_is_asked_before_debounce() -> None:
    clock = VirtualClock()
    app = limited(RateLimit(2, "1h"), debounce=Debounce("10s"))
    async with running(app, clock) as engine:
        await app.send(go(1, 2, 3))
        await engine.drain()
        assert [run.output for run in await runs(engine)] == [b"[2]"]


async def test_batches_have_no_rate_limit() -> None:
    app = limited(RateLimit(1, "1h"), batch_events=BatchEvents(2, "10s"))
    async with running(app) as engine:
        await app.send(go(1, 2, 3, 4))
        await engine.settle()
        assert await statuses(engine) == ["COMPLETED"] * 2
