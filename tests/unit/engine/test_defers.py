"""Defers: what a run keeps of them, and the events that its end emits."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure import App, Context, NonRetriableError, on, step
from perdure.engine import defers, reads, views
from perdure.engine.catalogue import compile_function
from perdure.engine.turn import Decision, Turn
from perdure.model.event import DEFERRED_SCHEDULE, Event
from perdure.model.ids import is_ulid, step_hash
from perdure.model.json import decode
from perdure.model.limits import MAX_DEFER_BYTES, MAX_DEFERS
from perdure.model.ops import DEFER_ABORT, DEFER_ADD, Op
from perdure.model.records import StepStatus
from perdure.node import Node
from perdure.runner.loading import snapshot_of
from perdure.server.trace import trace
from perdure.testing import VirtualClock
from tests.unit.engine.harness import detail, output, running, runs, statuses


def add(name: str, *, slug: Any = "t-later", data: Any = None, **opts: Any) -> Op:
    return Op(DEFER_ADD, step_hash(name), name, {"fn_slug": slug, "input": {} if data is None else data, **opts})


def abort(name: str) -> Op:
    return Op(
        DEFER_ABORT, step_hash(f"{name}:abort"), name, {"target_hashed_id": step_hash(name), "fn_slug": "t-later"}
    )


class Deferring:
    """An app whose function `f` counts as one of another server, and naps while a test reports its defers."""

    def __init__(self) -> None:
        self.app = App("t")
        self.seen: list[Event] = []
        self.clock = VirtualClock()

        @self.app.function("f", trigger="go", retries=0)
        async def f(ctx: Context) -> int:
            await step.sleep("nap", "1h")
            if ctx.event.data.get("fails"):
                raise NonRetriableError("boom")
            return 1

        @self.app.function("later", trigger=DEFERRED_SCHEDULE)
        async def later(ctx: Context) -> None:
            self.seen.append(ctx.event)

    async def begin(self, engine: Node, **data: Any) -> str:
        """Starts a run that naps; its id."""
        config = msgspec.structs.replace(self.app.functions["t-f"].config, url="http://app.test/?fnId=t-f&stepId=step")
        engine.catalogue.put(compile_function(config))
        await self.app.send({"name": "go", "data": data})
        await engine.settle()
        return (await runs(engine, "t-f"))[0].id


async def report(engine: Node, run_id: str, *ops: Op) -> list[str | None]:
    """Records operations in one transaction; the warnings."""

    def decide(turn: Turn) -> Decision[list[str | None]]:
        run = yield from reads.run_by_id(run_id)
        assert run is not None
        found: list[str | None] = []
        for seq, op in enumerate(ops, 10):
            found.append((yield from defers.record(turn, run, seq, op)))
        return found

    return await engine.decide(decide)


async def known(engine: Node, run_id: str) -> dict[str, bool]:
    return defers.abortable((await detail(engine, run_id)).steps)


@pytest.mark.parametrize(("fails", "status"), [(False, "COMPLETED"), (True, "FAILED")])
async def test_a_run_that_ends_schedules_its_defers_in_their_order(fails: bool, status: str) -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine, fails=fails)
        meta = {"sessions": {"user": "u1"}}
        warnings = await report(engine, run_id, add("b", data={"n": 1}, meta=meta), add("a", data={"n": 2}))
        assert warnings == [None, None]
        assert t.seen == [], "not before the end"
        await engine.drain()
        assert await statuses(engine, "t-f") == [status]
    assert [event.data.pop("n") for event in t.seen] == [1, 2]
    assert t.seen[0].meta == meta and t.seen[1].meta is None
    for event in t.seen:
        assert event.name == DEFERRED_SCHEDULE and is_ulid(event.id)
        assert event.data == {
            "_inngest": {
                "fn_slug": "t-later",
                "parent_app_id": "t",
                "parent_fn_id": "t-f",
                "parent_fn_slug": "t-f",
                "parent_run_id": run_id,
            }
        }
    assert len({event.id for event in t.seen}) == 2


async def test_the_trigger_of_the_sdks_finds_the_function_by_its_slug() -> None:
    app, started = App("u"), list[str]()
    t = Deferring()

    def listen(slug: str) -> None:
        @app.function(slug, trigger=on(DEFERRED_SCHEDULE, if_=f"event.data._inngest.fn_slug == 'u-{slug}'"))
        async def run(ctx: Context) -> None:
            started.append(slug)

    listen("one")
    listen("two")
    async with running([t.app, app], t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("a", slug="u-two"), add("b", slug="nobody"))
        await engine.drain()
        events = await engine.view(lambda: views.list_events(10, internal=True))
    assert started == ["two"]
    assert [event.name for event in events].count(DEFERRED_SCHEDULE) == 2, "told, though nobody listens"


async def test_a_cancelled_run_schedules_nothing() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("a"))
        await engine.cancel(run_id)
        await engine.drain()
    assert t.seen == []


async def test_a_function_of_this_process_is_not_asked() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        await t.app.send({"name": "go"})
        await engine.settle()
        (run,) = await runs(engine, "t-f")
        await report(engine, run.id, add("a"))
        await engine.drain()
    assert t.seen == []


async def test_the_defers_of_a_function_that_is_gone_are_scheduled() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("a"))
        engine.catalogue.remove("t-f")
        run = (await runs(engine, "t-f"))[0]

        def decide(turn: Turn) -> Decision[list[str]]:
            yield from defers.emit(turn, run)
            return [stored.event.name for stored in turn.emitted]

        assert await engine.decide(decide) == [DEFERRED_SCHEDULE]


async def test_reporting_again_changes_nothing() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        first = add("a", data={"n": 1})
        again = add("a", data={"n": 2})
        assert await report(engine, run_id, first, again) == [None, None]
        assert await report(engine, run_id, again) == [None]
        assert await known(engine, run_id) == {step_hash("a"): True}
        await engine.drain()
    assert [event.data["n"] for event in t.seen] == [1]


async def test_an_aborted_defer_stays_aborted() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        assert await report(engine, run_id, add("a"), abort("a"), abort("a"), add("a"), add("b")) == [None] * 5
        assert await known(engine, run_id) == {step_hash("a"): False, step_hash("b"): True}
        assert await report(engine, run_id, abort("never reported")) == [None]
        assert await known(engine, run_id) == {step_hash("a"): False, step_hash("b"): True}
        await engine.drain()
    assert len(t.seen) == 1


@pytest.mark.parametrize(
    ("op", "reason"),
    [
        (add("a", slug=None), "fn_slug: must be"),
        (add("a", slug=""), "fn_slug: must be"),
        (add("a", slug=["t-later"]), "fn_slug: must be"),
        (add("a", data=[1]), "input: must be an object"),
        (add("a", data="x"), "input: must be an object"),
        (add("a", data={"x": "y" * MAX_DEFER_BYTES}), "input: has 4194312 bytes"),
        (add("a", meta={"x": "y" * 32768}), "meta: has 32776 bytes; at most 32768"),
        (add("a", meta=[1]), "meta must be an object"),
        (add("a", meta={"sessions": {"a": [1]}}), "meta.sessions.a must be"),
    ],
)
async def test_what_cannot_be_kept_is_rejected_with_a_reason_and_the_run_goes_on(op: Op, reason: str) -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        (warning,) = await report(engine, run_id, op)
        assert warning is not None and warning.startswith(f"defer 'a' is rejected: {reason}")
        assert await report(engine, run_id, add("a")) == [None], "known, so it is not looked at again"
        assert await known(engine, run_id) == {step_hash("a"): False}
        (row,) = [found for found in (await detail(engine, run_id)).steps if defers.is_defer(found)]
        assert row.data is not None and decode(row.data)["message"] in warning
        await engine.drain()
        assert await statuses(engine, "t-f") == ["COMPLETED"]
    assert t.seen == []


async def test_a_run_has_at_most_20_defers_whatever_became_of_them() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        ops = [add(str(number)) for number in range(MAX_DEFERS + 2)]
        warnings = await report(engine, run_id, ops[0], abort("0"), *ops[1:])
        assert warnings[:-2] == [None] * (MAX_DEFERS + 1)
        assert warnings[-1] == "defer '21' is rejected: a run may have at most 20 defers"
        assert len(await known(engine, run_id)) == MAX_DEFERS
        await engine.drain()
    assert len(t.seen) == MAX_DEFERS - 1


async def test_the_inputs_count_together_while_their_defers_are_live() -> None:
    t = Deferring()
    half = {"x": "y" * (MAX_DEFER_BYTES // 2)}
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        first, second = await report(engine, run_id, add("a", data=half), add("b", data=half))
        assert first is None
        assert second is not None and "with the run's other defers 4194320; at most 4194304" in second
        assert await report(engine, run_id, abort("a"), add("c", data=half)) == [None, None]
        assert await known(engine, run_id) == {step_hash("a"): False, step_hash("b"): False, step_hash("c"): True}


async def test_a_defer_is_no_memo_and_takes_no_place_of_a_step() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("nap", data={"_inngest": {"fn_slug": "t-f"}}))
        found = (await detail(engine, run_id)).steps
        assert sorted(row.name for row in found) == ["nap", "nap"]
        snapshot = snapshot_of(found)
        assert snapshot.memos == {}
        assert snapshot.open[step_hash("nap")].status == StepStatus.WAITING
        await engine.drain()
        assert await output(engine, run_id) == 1
    assert [event.data["_inngest"]["fn_slug"] for event in t.seen] == ["t-later"]


async def test_a_rerun_begins_without_defers() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("a", data={"n": 1}))
        await engine.drain()
        again = await engine.rerun(run_id)
        await engine.drain()
        assert await known(engine, again.run_id) == {}, "it begins anew, and its app reports them again"
    assert len(t.seen) == 1


async def test_the_trace_shows_steps_alone() -> None:
    t = Deferring()
    async with running(t.app, t.clock) as engine:
        run_id = await t.begin(engine)
        await report(engine, run_id, add("a"))
        shown = trace(await detail(engine, run_id), output=False)
    assert [span["name"] for span in shown["rootSpan"]["children"]] == ["nap"]
