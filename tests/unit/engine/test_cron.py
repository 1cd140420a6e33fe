"""Cron: each tick once, whatever restarts and registers between; missed ticks by policy (A.7, point 3)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from perdure import App, Context, Cron, step
from perdure.engine.catalogue import CronTrigger
from perdure.engine.ticks import GRACE, MAX_CATCH_UP, _chosen, rfc3339
from perdure.model.limits import HOUR, MINUTE
from perdure.testing import VirtualClock
from tests.unit.engine.harness import NEVER, ask, running, runs, statuses

START = int(datetime(2026, 11, 22, 7, 30, 30, tzinfo=UTC).timestamp() * 1000)


def scheduled(*crons: Cron | str, log: list[str] | None = None) -> App:
    app = App("t")

    @app.function("f", trigger=[Cron(cron) if isinstance(cron, str) else cron for cron in crons])
    async def f(ctx: Context) -> None:
        if log is not None:
            log.append(ctx.event.data["scheduledAt"])

    return app


def ticks(*times: str) -> list[str]:
    return [f"2026-11-22T{time}Z" for time in times]


@pytest.mark.parametrize(
    ("missed", "ticks", "now", "chosen"),
    [
        ("latest", [0], 0, [0]),
        ("latest", [0, 1, 2], 10**9, [2]),
        ("all", [0, 1, 2], 10**9, [0, 1, 2]),
        ("all", list(range(300)), 10**9, list(range(300 - MAX_CATCH_UP, 300))),
        ("skip", [0], GRACE, [0]),
        ("skip", [0], GRACE + 1, []),
        ("skip", [0, 60_000, 120_000], 120_001, [120_000]),
        ("skip", [0, 60_000], 10**9, []),
    ],
)
def test_which_of_the_ticks_run(
    missed: Literal["latest", "skip", "all"], ticks: list[int], now: int, chosen: list[int]
) -> None:
    assert _chosen(ticks, CronTrigger(Cron("* * * * *", missed=missed)), now) == chosen


def test_times_are_written_as_the_protocol_does() -> None:
    assert rfc3339(START) == "2026-11-22T07:30:30Z"
    assert rfc3339(START + 5) == "2026-11-22T07:30:30.005Z"


async def test_every_tick_runs_once_at_its_time_and_sees_its_event() -> None:
    clock, app, seen = VirtualClock(START), App("t"), list[tuple[int, Any]]()

    @app.function("f", trigger=Cron("TZ=Asia/Tokyo */10 * * * *"))
    async def f(ctx: Context) -> None:
        seen.append((clock.now(), ctx.event))

    async with running(app, clock) as engine:
        await clock.advance("30m")
        assert [run.cron for run in await runs(engine)] == ["TZ=Asia/Tokyo */10 * * * *"] * 3
    assert [at - START for at, _ in seen] == [570_000, 1_170_000, 1_770_000]
    event = seen[0][1]
    assert (event.name, event.id) == ("inngest/scheduled.timer", "2026-11-22T07:40:00Z")
    assert event.data == {
        "cron": "TZ=Asia/Tokyo */10 * * * *",
        "scheduledAt": "2026-11-22T07:40:00Z",
        "fireAt": "2026-11-22T07:40:00Z",
    }


async def test_a_zone_moves_the_ticks() -> None:
    clock, log = VirtualClock(START), list[str]()
    async with running(scheduled("TZ=Europe/Paris 0 9 * * *", log=log), clock):
        await clock.advance("24h")
    assert log == ticks("08:00:00")


async def test_restarts_and_registrations_do_not_fire_a_tick_twice(tmp_path: Path) -> None:
    clock, log = VirtualClock(START), list[str]()
    for _ in range(4):
        app = scheduled("*/5 * * * *", log=log)
        async with running(app, clock, tmp_path / "db") as engine:
            for _ in range(3):
                await engine.register(scheduled("*/5 * * * *", log=log)) if app is engine.apps[0] else None
                await clock.advance("100s")
    assert log == ticks("07:35:00", "07:40:00", "07:45:00", "07:50:00")


@pytest.mark.parametrize(
    ("missed", "caught_up"),
    [
        ("latest", ["09:30:00"]),
        ("skip", []),
        ("all", ["08:00:00", "08:30:00", "09:00:00", "09:30:00"]),
    ],
)
async def test_ticks_that_passed_while_nothing_ran(tmp_path: Path, missed: Any, caught_up: list[str]) -> None:
    clock, log = VirtualClock(START), list[str]()
    cron = Cron("*/30 * * * *", missed=missed)
    async with running(scheduled(cron, log=log), clock, tmp_path / "db") as engine:
        await engine.settle()
    await clock.advance("2h10m")
    async with running(scheduled(cron, log=log), clock, tmp_path / "db") as engine:
        await engine.settle()
        assert sorted(log) == ticks(*caught_up)
        await clock.advance("20m")
        assert sorted(log) == ticks(*caught_up, "10:00:00")


async def test_no_more_than_a_hundred_are_caught_up(tmp_path: Path) -> None:
    clock, log = VirtualClock(START), list[str]()
    cron = Cron("* * * * *", missed="all")
    async with running(scheduled(cron, log=log), clock, tmp_path / "db", retention=NEVER) as engine:
        await engine.settle()
    await clock.advance("5h")
    async with running(scheduled(cron, log=log), clock, tmp_path / "db", retention=NEVER) as engine:
        await engine.settle()
    assert len(log) == 100 and max(log) == "2026-11-22T12:30:00Z" and min(log) == "2026-11-22T10:51:00Z"


async def test_changing_the_schedule_replaces_it_and_archiving_ends_it(tmp_path: Path) -> None:
    clock, log = VirtualClock(START), list[str]()
    async with running(scheduled("*/5 * * * *", log=log), clock, tmp_path / "db") as engine:
        await clock.advance("5m")
        await engine.register(scheduled("0 * * * *", log=log))
        await clock.advance("40m")
        assert log == ticks("07:35:00", "08:00:00")
        await engine.register(App("t"))
        assert await ask(engine, "cron_jobs", "t-f") == []
        await clock.advance("2h")
        assert log == ticks("07:35:00", "08:00:00")
        await engine.register(scheduled("0 * * * *", log=log))
        await clock.advance("1h")
        assert log == ticks("07:35:00", "08:00:00", "11:00:00")


async def test_several_schedules_of_a_function_run_each() -> None:
    clock, app, seen = VirtualClock(START), App("t"), list[str]()

    @app.function("f", trigger=[Cron("5,15 * * * *"), Cron("10 * * * *"), "go"])
    async def f(ctx: Context) -> None:
        seen.append(str(ctx.event.data.get("cron")))

    async with running(app, clock):
        await app.send({"name": "go"})
        await clock.advance("45m")
    assert seen == ["None", "5,15 * * * *", "10 * * * *", "5,15 * * * *"]


@pytest.mark.parametrize(("every", "jitter"), [("*/10 * * * *", "2m"), ("* * * * *", "5m")])
async def test_jitter_delays_starts_and_loses_none(every: str, jitter: str) -> None:
    clock, log = VirtualClock(START), list[str]()
    app = scheduled(Cron(every, jitter=jitter), log=log)
    async with running(app, clock, chance=lambda: 0.99) as engine:
        await clock.advance("30m")
        starts = [run.created_at for run in await runs(engine)]
    minutes = 10 if every.startswith("*/10") else 1
    most = {"2m": 2, "5m": 5}[jitter]
    expected = [START + 30_000 - MINUTE + at * MINUTE for at in range(1, 31)]
    due = [at for at in expected if at // MINUTE % minutes == 0 and at + most * MINUTE < START + 30 * MINUTE]
    assert log[: len(due)] == [rfc3339(at) for at in due]
    assert all(0 <= start - at <= most * MINUTE for start, at in zip(starts, due, strict=False))


async def test_every_counts_from_the_registration(tmp_path: Path) -> None:
    clock, log = VirtualClock(START), list[str]()
    async with running(scheduled("@every 20m", log=log), clock, tmp_path / "db"):
        await clock.advance("30m")
    async with running(scheduled("@every 20m", log=log), clock, tmp_path / "db"):
        await clock.advance("30m")
    assert log == ticks("07:50:30", "08:10:30", "08:30:30")


async def test_a_cron_run_is_durable_like_any_other(tmp_path: Path) -> None:
    clock = VirtualClock(START)

    def build() -> App:
        app = App("t")

        @app.function("f", trigger=Cron("0 * * * *"))
        async def f(ctx: Context) -> str:
            await step.sleep("nap", "90m")
            return str(ctx.event.id)

        return app

    async with running(build(), clock, tmp_path / "db"):
        await clock.advance("40m")
    async with running(build(), clock, tmp_path / "db") as engine:
        await clock.advance(2 * HOUR / 1000)
        assert (await runs(engine))[0].output == b'"2026-11-22T08:00:00Z"'
        assert await statuses(engine) == ["COMPLETED", "RUNNING", "RUNNING"]


async def test_drain_does_not_follow_the_schedule_for_ever() -> None:
    clock = VirtualClock(START)
    async with running(scheduled("* * * * *"), clock) as engine:
        await engine.drain()
    assert clock.now() == START
