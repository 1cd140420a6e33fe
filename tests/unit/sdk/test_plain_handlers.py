"""Plain handlers: in a worker thread, with blocking steps that are the async ones underneath."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal

import pytest

import perdure.sync
from perdure import App, Context, Event, PerdureError, StepError
from perdure import step as async_step
from perdure.model.json import Json
from perdure.sdk.port import FetchResponse
from perdure.sync import step
from tests.unit.sdk.scripted import ScriptedHost, execution, play


async def price(n: int) -> Decimal:
    return Decimal(n)


def double(n: Decimal, *, id: int = 2) -> Decimal:
    return n * id


async def test_every_step_blocks_and_gives_its_value() -> None:
    app = App("shop")

    @app.function("child")
    def child(ctx: Context) -> Decimal:
        return Decimal(1)

    @app.function("f")
    def f(ctx: Context) -> list[object]:
        assert threading.current_thread() is not threading.main_thread()
        total = step.run("double", double, step.run("price", price, 4), id=2)
        step.sleep("nap", "1h")
        step.sleep_until("then", "2026-11-22T00:00:00Z")
        event = step.wait_for_event("event", event="a", timeout=1)
        signal = step.wait_for_signal("signal", signal="s", timeout=1)
        assert event is not None
        assert signal is not None
        invoked = step.invoke("invoke", child)
        sent = step.send_event("send", {"name": "a"})
        heard = step.send_signal("heard", signal="s")
        page = step.fetch("fetch", "http://x.test")
        wrapped = step.ai.wrap("wrap", double, total)
        timed = step.with_(retries=1, timeout=60).run("timed", double, total)
        return [total, event.name, signal.data, invoked, sent, heard, page.body, wrapped, timed]

    host = ScriptedHost(
        {
            "event": {"name": "a", "data": {}},
            "signal": {"signal": "s", "data": 1},
            "invoke": "7.5",
            "send": ["01"],
            "heard": False,
        }
    )
    host.responses = [FetchResponse("http://x.test", 200, {}, "hi")]
    assert await play(f, host) == ["8", "a", 1, "7.5", ["01"], False, "hi", "16", "16"]
    assert not f.is_async


async def test_a_failed_step_is_caught_in_the_thread() -> None:
    def broken() -> None:
        raise ValueError("no")

    @App("shop").function("f")
    def f(ctx: Context) -> str:
        try:
            step.run("s", broken)
        except StepError as error:
            return error.message
        return ""

    host = ScriptedHost(retries=1)
    assert await play(f, host) == "no"
    assert host.ops[0].error is not None
    assert "in broken" in host.ops[0].error.stack
    assert "threading" not in host.ops[0].error.stack


async def test_an_async_step_in_a_plain_handler_points_to_the_blocking_one() -> None:
    @App("shop").function("f")
    def f(ctx: Context) -> object:
        return async_step.sleep("s", 1)

    with pytest.raises(PerdureError, match=r"step 's' was called in a plain handler.*from perdure\.sync import step"):
        await execution(f, ScriptedHost()).run()


async def test_a_blocking_step_in_an_async_handler_points_to_the_other() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        step.sleep("s", 1)

    with pytest.raises(PerdureError, match=r"step 's' of perdure\.sync .* `from perdure import step` and await it"):
        await execution(f, ScriptedHost()).run()


async def test_a_loop_of_the_handlers_own_cannot_call_steps() -> None:
    @App("shop").function("f")
    def f(ctx: Context) -> None:
        async def main() -> None:
            await async_step.sleep("s", 1)

        asyncio.run(main())

    with pytest.raises(PerdureError, match="step 's' was called in another event loop"):
        await execution(f, ScriptedHost()).run()


def test_a_blocking_step_outside_of_a_run_says_so() -> None:
    with pytest.raises(PerdureError, match="step 's' was called outside of a run"):
        step.sleep("s", 1)


async def test_a_nested_blocking_step_is_refused() -> None:
    def outer() -> None:
        step.sleep("inner", 1)

    @App("shop").function("f")
    def f(ctx: Context) -> None:
        step.run("outer", outer)

    with pytest.raises(StepError, match="step 'inner' was called inside step 'outer'"):
        await execution(f, ScriptedHost()).run()


async def test_a_plain_handler_stops_at_its_next_step_when_the_run_is_cancelled() -> None:
    waiting, cancelled = asyncio.Event(), threading.Event()
    seen: list[str] = []

    async def forever() -> None:
        waiting.set()
        await asyncio.Event().wait()

    @App("shop").function("f")
    def f(ctx: Context) -> None:
        try:
            try:
                step.run("s", forever)
            except BaseException as error:
                seen.append(type(error).__name__)
                step.sleep("next", 1)
        except BaseException as error:
            seen.append(type(error).__name__)
        cancelled.set()

    host = ScriptedHost()
    run = asyncio.create_task(execution(f, host).run())
    await waiting.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.to_thread(cancelled.wait)
    assert seen == ["CancelledError", "CancelledError"]
    assert host.ops == []
    assert host.running == 0


class Mailbox:
    def __init__(self) -> None:
        self.events: list[dict[str, Json]] = []

    async def send(self, events: list[dict[str, Json]]) -> list[str]:
        self.events += events
        return [f"id-{len(self.events)}"]


async def test_events_are_sent_through_what_runs_the_app() -> None:
    app, mailbox = App("shop"), Mailbox()
    with pytest.raises(PerdureError, match=r"app 'shop' runs nowhere.*perdure\.embedded\(app\).*perdure dev"):
        await app.send({"name": "a"})
    app.bind(mailbox)
    assert await app.send({"name": "a", "data": {"price": Decimal(1)}}) == ["id-1"]
    assert await app.send([Event("b", {"n": 1}), {"name": "c"}]) == ["id-3"]
    assert await app.send([]) == []
    assert await asyncio.to_thread(perdure.sync.send, app, {"name": "d"}) == ["id-4"]
    assert [event["name"] for event in mailbox.events] == ["a", "b", "c", "d"]
    assert mailbox.events[0]["data"] == {"price": "1"}
    with pytest.raises(PerdureError, match="would block the event loop"):
        perdure.sync.send(app, {"name": "e"})
    with pytest.raises(PerdureError, match="already run by another engine"):
        app.bind(Mailbox())
    app.unbind(Mailbox())
    app.unbind(mailbox)
    with pytest.raises(PerdureError, match="runs nowhere"):
        await asyncio.to_thread(perdure.sync.send, app, {"name": "f"})


async def test_an_event_with_data_that_cannot_be_stored_is_named() -> None:
    app = App("shop")
    app.bind(Mailbox())
    with pytest.raises(PerdureError, match=r"events\[1\]: \$\.data\.x"):
        await app.send([{"name": "a"}, {"name": "b", "data": {"x": object()}}])


async def test_app_send_works_inside_handlers_and_steps() -> None:
    app, mailbox = App("shop"), Mailbox()
    app.bind(mailbox)

    async def tell() -> list[str]:
        return await app.send({"name": "from/step"})

    def tell_in_thread() -> list[str]:
        return perdure.sync.send(app, {"name": "from/thread"})

    @app.function("f")
    async def f(ctx: Context) -> list[str]:
        return await async_step.run("tell", tell) + await async_step.run("thread", tell_in_thread)

    assert await play(f, ScriptedHost()) == ["id-1", "id-2"]
