"""Errors in steps and handlers: retried, final, caught, grouped; and what cancelling leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from perdure import App, Context, NonRetriableError, PerdureError, RetryAfterError, StepError, step
from perdure.model import json
from perdure.model.errors import ErrorInfo
from perdure.model.ops import Memo
from perdure.sdk.failure import failure_of
from tests.unit.sdk.scripted import NOW, ScriptedHost, execution, play


class Flaky:
    """Fails a number of times, then gives how often it was called."""

    def __init__(self, failures: int, error: Callable[[], BaseException]) -> None:
        self.calls = 0
        self.failures = failures
        self.error = error

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error()
        return self.calls


async def test_a_failing_step_is_attempted_until_it_succeeds() -> None:
    flaky = Flaky(2, lambda: ValueError("not yet"))

    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        return await step.run("s", flaky)

    host = ScriptedHost()
    assert await play(f, host) == 3
    assert host.log == [("StepError", "s", 0), ("StepError", "s", 1), ("StepRun", "s", 2)]
    assert host.running == 0


async def test_the_recorded_error_begins_with_the_users_code() -> None:
    async def broken() -> None:
        raise ValueError("bad") from KeyError("card")

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", broken)

    host = ScriptedHost(retries=0)
    with pytest.raises(StepError):
        await execution(f, host).run()
    info = host.ops[0].error
    assert info is not None
    assert (info.name, info.message) == ("ValueError", "bad")
    assert info.cause is not None
    assert (info.cause.name, info.cause.message) == ("KeyError", "key 'card' is missing")
    frames = [line for line in info.stack.splitlines() if line.startswith("  File")]
    assert len(frames) == 1
    assert frames[0].endswith("in broken")


async def test_a_step_without_retries_left_can_be_caught() -> None:
    seen: list[tuple[str, str, str]] = []

    @App("shop").function("f")
    async def f(ctx: Context) -> str:
        try:
            await step.run("s", Flaky(99, lambda: ValueError("never")))
        except StepError as error:
            seen.append((error.step_id, error.name, error.message))
            return await step.run("refund", lambda: "refunded")
        return "paid"

    host = ScriptedHost(retries=1)
    assert await play(f, host) == "refunded"
    assert host.log == [("StepError", "s", 0), ("StepError", "s", 1), ("StepRun", "refund", 0)]
    assert seen == [("s", "ValueError", "never")] * 2


async def test_a_non_retriable_error_is_final() -> None:
    flaky = Flaky(99, lambda: NonRetriableError("no such card"))

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", flaky)

    host = ScriptedHost()
    with pytest.raises(StepError, match="no such card"):
        await execution(f, host).run()
    assert flaky.calls == 1
    assert host.ops[0].no_retry


@pytest.mark.parametrize(
    ("after", "millis"),
    [
        (30, 30_000),
        (timedelta(minutes=1), 60_000),
        (datetime.fromtimestamp(NOW / 1000 + 5, tz=UTC), 5000),
    ],
)
async def test_an_error_may_say_when_to_try_again(after: int | timedelta | datetime, millis: int) -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        return await step.run("s", Flaky(1, lambda: RetryAfterError("busy", after)))

    host = ScriptedHost()
    assert await play(f, host) == 2
    assert host.ops[0].retry_after == millis


async def test_what_stops_the_process_is_not_a_failure() -> None:
    class Stop(BaseException):
        pass

    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        return await step.run("s", Flaky(1, Stop))

    host = ScriptedHost()
    with pytest.raises(Stop):
        await execution(f, host).run()
    assert host.ops == []
    assert host.running == 0


async def test_a_cancelled_run_records_nothing() -> None:
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await asyncio.gather(step.run("s", forever), step.run("t", forever))

    host = ScriptedHost()
    run = asyncio.create_task(execution(f, host).run())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert host.ops == []
    assert host.running == 0


async def test_a_callable_that_makes_an_error_of_its_cancelling_has_not_failed() -> None:
    started = asyncio.Event()

    async def translates() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", translates)

    host = ScriptedHost()
    run = asyncio.create_task(execution(f, host).run())
    await started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert host.ops == []


async def test_something_cancelled_inside_a_step_is_an_error_of_the_step() -> None:
    async def awaits_cancelled() -> None:
        inner: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", awaits_cancelled)

    with pytest.raises(StepError, match="CancelledError: the code awaited something that was cancelled"):
        await execution(f, ScriptedHost()).run()


async def test_a_handler_may_cancel_a_step_by_a_timeout_of_its_own() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0):
                await step.run("s", asyncio.Event().wait)
        except TimeoutError:
            return "too slow"
        return "done"

    host = ScriptedHost()
    assert await execution(f, host).run() == b'"too slow"'
    assert host.ops == []


async def test_steps_left_running_are_stopped_before_the_run_ends() -> None:
    stopped: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("forever")

    @App("shop").function("f")
    async def f(ctx: Context) -> int | None:
        quick = asyncio.create_task(step.run("quick", lambda: 1))
        slow = asyncio.create_task(step.run("slow", forever))
        done, _ = await asyncio.wait({quick, slow}, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    host = ScriptedHost()
    assert await execution(f, host).run() == b"1"
    assert stopped == ["forever"]
    assert host.log == [("StepRun", "quick", 0)]
    assert host.running == 0


async def test_a_step_after_the_end_of_its_run_says_so() -> None:
    late: list[asyncio.Task[None]] = []

    async def lazy() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await step.sleep("late", 1)

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        late.append(asyncio.create_task(lazy()))
        late.append(asyncio.create_task(step.sleep("unawaited", 1)))

    host = ScriptedHost()
    await execution(f, host).run()
    for name, task in zip(("late", "unawaited"), late, strict=True):
        with pytest.raises(PerdureError, match=f"step '{name}': the run RUN1 of 'shop-f' has ended"):
            await task
    assert host.ops == []


async def test_a_failed_step_ends_the_function_for_good() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", Flaky(99, lambda: ValueError("never")))

    with pytest.raises(StepError) as caught:
        await execution(f, ScriptedHost(retries=0)).run()
    failure = failure_of(caught.value, NOW)
    assert failure.no_retry
    assert (failure.info.name, failure.info.message) == ("ValueError", "never")


async def test_errors_of_a_task_group_are_judged_together() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(step.run("s", Flaky(99, lambda: ValueError("never"))))

    with pytest.raises(ExceptionGroup) as caught:
        await execution(f, ScriptedHost(retries=0)).run()
    failure = failure_of(caught.value, NOW)
    assert failure.no_retry
    assert failure.info.name == "ExceptionGroup"
    assert failure.info.message.endswith("StepError: step 's' failed: ValueError: never")


def test_an_ordinary_error_is_retried() -> None:
    failure = failure_of(ValueError("x"), NOW)
    assert (failure.no_retry, failure.retry_after) == (False, None)


def test_of_several_delays_the_longest_counts() -> None:
    group = ExceptionGroup("both", [RetryAfterError("a", 1), ExceptionGroup("in", [RetryAfterError("b", 9)])])
    assert failure_of(group, NOW).retry_after == 9000


async def test_the_error_of_a_wait_is_a_step_error() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> str:
        try:
            return str(await step.invoke("call", "shop-child"))
        except StepError as error:
            return error.message

    info = ErrorInfo(name="Error", message="child boom")
    assert await play(f, ScriptedHost({"call": Memo(json.encode(info), failed=True)})) == "child boom"
