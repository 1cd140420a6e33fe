"""What the Python apps with async handlers serve: catalogue.mjs in Python, without signals, step.fetch, ai.wrap."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from typing import Any

import inngest
from inngest.experimental import ai, realtime

from tests.interop.sdk.declaring import HOUR, MINUTE, SECOND, Catalogue, data_of, now_ms
from tests.interop.sdk.journal import note


class Greeting(inngest.Middleware):
    """Changes what goes into a function, and what comes out of it and of its steps."""

    async def transform_input(
        self, ctx: inngest.Context | inngest.ContextSync, function: Any, steps: inngest.StepMemos
    ) -> None:
        ctx.event.data = {**ctx.event.data, "greeting": f"hello from {ctx.event.data['key']}"}

    async def transform_output(self, result: inngest.TransformOutputResult) -> None:
        if result.has_output():
            result.output = {"wrapped": result.output} if result.step is None else f"[{result.output}]"


def catalogue(client: inngest.Inngest) -> Catalogue:
    """Everything."""
    made = Catalogue(client)
    _steps(made)
    _waits_and_invocations(made)
    _failures(made)
    _flow(made)
    _services(made)
    return made


def _steps(made: Catalogue) -> None:
    app = made.app

    @made.add("plain")
    async def plain(ctx: inngest.Context) -> Any:
        return {"data": ctx.event.data, "name": ctx.event.name, "attempt": ctx.attempt, "runId": ctx.run_id}

    @made.add("two-steps")
    async def two_steps(ctx: inngest.Context) -> Any:
        given = data_of(ctx)

        async def first() -> dict[str, int]:
            note(given["key"], "a")
            return {"n": given["n"] + 1}

        a = await ctx.step.run("a", first)

        async def second() -> int:
            note(given["key"], "b")
            return a["n"] + 1

        return {"a": a, "b": await ctx.step.run("b", second)}

    @made.add("nothing")
    async def nothing(ctx: inngest.Context) -> None:
        async def none() -> Any:
            return None

        await ctx.step.run("none", none)
        nil = await ctx.step.run("nil", none)

        async def after() -> dict[str, None]:
            return {"none": None, "nil": nil}

        await ctx.step.run("after", after)

    @made.add("same-ids")
    async def same_ids(ctx: inngest.Context) -> list[int]:
        async def square(n: int) -> int:
            return n * n

        return [await ctx.step.run("same", square, n) for n in (1, 2, 3)]

    @made.add("large-state")
    async def large_state(ctx: inngest.Context) -> int:
        async def part() -> str:
            return "x" * int(data_of(ctx)["size"])

        total = sum([len(await ctx.step.run(f"part {n}", part)) for n in (1, 2, 3, 4, 5)])
        await ctx.step.sleep("nap", SECOND)

        async def summed() -> int:
            return total

        return await ctx.step.run("sum", summed)

    @made.add("sleep")
    async def sleep(ctx: inngest.Context) -> Any:
        async def now() -> int:
            return now_ms()

        before = await ctx.step.run("before", now)
        await ctx.step.sleep("nap", SECOND)
        between = await ctx.step.run("between", now)
        until = datetime.datetime.fromtimestamp(between / 1000, datetime.UTC) + SECOND
        await ctx.step.sleep_until("until", until)
        return {"nap": between - before, "until": await ctx.step.run("after", now) - between}

    def work(key: str, name: str) -> Callable[[], Awaitable[str]]:
        async def worked() -> str:
            note(key, f"{name} begins")
            await asyncio.sleep(0.2)
            note(key, f"{name} ends")
            return name

        return worked

    @made.add("parallel")
    async def parallel(ctx: inngest.Context) -> Any:
        key = data_of(ctx)["key"]
        outcomes: tuple[Any, ...] = await ctx.group.parallel(
            (
                lambda: ctx.step.run("one", work(key, "one")),
                lambda: ctx.step.run("two", work(key, "two")),
                lambda: ctx.step.sleep("nap", SECOND),
            )
        )

        async def join() -> list[Any]:
            return list(outcomes)

        return await ctx.step.run("join", join)

    @made.add("chains")
    async def chains(ctx: inngest.Context) -> Any:
        async def one() -> int:
            return 1

        async def chain(name: str) -> int:
            first = await ctx.step.run(f"{name} 1", one)

            async def next_one() -> int:
                return first + 1

            return await ctx.step.run(f"{name} 2", next_one)

        return await ctx.group.parallel((lambda: chain("left"), lambda: chain("right")))

    @made.add("send-event")
    async def send_event(ctx: inngest.Context) -> list[str]:
        events = [inngest.Event(name=f"{app}/sent", data={"key": data_of(ctx)["key"], "n": n}) for n in (1, 2)]
        return await ctx.step.send_event("send", events)

    @made.add("on-sent", event=f"{app}/sent")
    async def on_sent(ctx: inngest.Context) -> int:
        return note(data_of(ctx)["key"], f"sent {data_of(ctx)['n']}")


def _waits_and_invocations(made: Catalogue) -> None:
    app = made.app

    def shown(event: inngest.Event | None) -> Any:
        return None if event is None else event.model_dump(mode="json")

    @made.add("wait-match")
    async def wait_match(ctx: inngest.Context) -> Any:
        rule = "event.data.key == async.data.key"
        return shown(
            await ctx.step.wait_for_event("approval", event=f"{app}/approved", if_exp=rule, timeout=2 * MINUTE)
        )

    @made.add("wait-if")
    async def wait_if(ctx: inngest.Context) -> Any:
        rule = "event.data.key == async.data.key && async.data.n > 1"
        return shown(
            await ctx.step.wait_for_event("approval", event=f"{app}/approved", if_exp=rule, timeout=2 * MINUTE)
        )

    @made.add("wait-timeout")
    async def wait_timeout(ctx: inngest.Context) -> Any:
        return {"got": await ctx.step.wait_for_event("approval", event=f"{app}/never", timeout=SECOND)}

    @made.add("child")
    async def child(ctx: inngest.Context) -> Any:
        async def double() -> int:
            return int(data_of(ctx)["n"]) * 2

        return {"by": app, "doubled": await ctx.step.run("double", double)}

    @made.add("child-fails")
    async def child_fails(ctx: inngest.Context) -> None:
        raise inngest.NonRetriableError("the child is broken")

    @made.add("child-sleeps")
    async def child_sleeps(ctx: inngest.Context) -> None:
        await ctx.step.sleep("long", 5 * MINUTE)

    @made.add("invoke")
    async def invoke(ctx: inngest.Context) -> Any:
        return await ctx.step.invoke("call", function=child, data={"n": data_of(ctx)["n"]})

    @made.add("invoke-other")
    async def invoke_other(ctx: inngest.Context) -> Any:
        given = data_of(ctx)
        timeout = {"1s": SECOND}.get(given.get("timeout") or "")
        try:
            result = await ctx.step.invoke_by_id(
                "call", app_id=given["app"], function_id=given["fn"], data={"n": given["n"]}, timeout=timeout
            )
        except inngest.StepError as error:
            return {"name": error.name, "message": error.message}
        return {"result": result}


def _failures(made: Catalogue) -> None:
    @made.add("step-retry", retries=3)
    async def step_retry(ctx: inngest.Context) -> str:
        async def flaky() -> str:
            if note(data_of(ctx)["key"], "try") < 3:
                raise RuntimeError("not yet")
            return "at last"

        return await ctx.step.run("flaky", flaky)

    def failing(ctx: inngest.Context, error: Exception) -> Callable[[], Awaitable[None]]:
        async def bad() -> None:
            note(data_of(ctx)["key"], "try")
            raise error

        return bad

    @made.add("step-exhausted", retries=1)
    async def step_exhausted(ctx: inngest.Context) -> Any:
        try:
            await ctx.step.run("bad", failing(ctx, TypeError("never")))
        except inngest.StepError as error:
            message = error.message

            async def recover() -> dict[str, str]:
                return {"message": message}

            return await ctx.step.run("recover", recover)

    @made.add("step-uncaught", retries=1)
    async def step_uncaught(ctx: inngest.Context) -> None:
        await ctx.step.run("bad", failing(ctx, RuntimeError("uncaught")))

    @made.add("retry-after", retries=2)
    async def retry_after(ctx: inngest.Context) -> Any:
        note(data_of(ctx)["key"], f"attempt {ctx.attempt}")
        if ctx.attempt == 0:
            raise inngest.RetryAfterError("later", 3 * SECOND)
        return {"attempt": ctx.attempt}

    @made.add("step-retry-after", retries=2)
    async def step_retry_after(ctx: inngest.Context) -> str:
        async def later() -> str:
            if note(data_of(ctx)["key"], "try") < 2:
                raise inngest.RetryAfterError("later", 3 * SECOND)
            return "later"

        return await ctx.step.run("later", later)

    @made.add("function-retry", retries=2)
    async def function_retry(ctx: inngest.Context) -> Any:
        async def step() -> int:
            return note(data_of(ctx)["key"], "step")

        kept = await ctx.step.run("kept", step)
        if ctx.attempt < 2:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return {"kept": kept, "attempt": ctx.attempt}

    async def failed(ctx: inngest.Context) -> None:
        given = data_of(ctx)

        async def report() -> int:
            what = {"message": given["error"]["message"], "function": given["function_id"], "run": given["run_id"]}
            return note(given["event"]["data"]["key"], what)

        await ctx.step.run("report", report)

    @made.add("fails", retries=1, on_failure=failed)
    async def fails(ctx: inngest.Context) -> None:
        note(data_of(ctx)["key"], f"attempt {ctx.attempt}")
        raise RuntimeError(f"broken {ctx.attempt}")

    @made.add("fails-finally", retries=3, on_failure=failed)
    async def fails_finally(ctx: inngest.Context) -> None:
        note(data_of(ctx)["key"], "attempt")
        raise inngest.NonRetriableError("hopeless")


def _flow(made: Catalogue) -> None:
    app = made.app
    key = "event.data.key"

    @made.add("cancel-on", cancel=[inngest.Cancel(event=f"{app}/stop", if_exp=f"{key} == async.data.key")])
    async def cancel_on(ctx: inngest.Context) -> None:
        await ctx.step.sleep("long", HOUR)

    @made.add("finish-timeout", timeouts=inngest.Timeouts(finish=SECOND))
    async def finish_timeout(ctx: inngest.Context) -> None:
        await ctx.step.sleep("long", HOUR)

    async def busy(ctx: inngest.Context) -> Any:
        given = data_of(ctx)

        async def work() -> None:
            note(given["key"], f"{given['n']} begins")
            await asyncio.sleep(given.get("ms", 200) / 1000)
            note(given["key"], f"{given['n']} ends")

        await ctx.step.run("work", work)
        return given["n"]

    single = [inngest.Concurrency(limit=1, key=key)]
    made.add("one-at-a-time", concurrency=single)(busy)
    made.add("start-timeout", concurrency=single, timeouts=inngest.Timeouts(start=SECOND))(busy)
    # This SDK's default is a burst of 1, which lets one more start at once.
    made.add("throttled", throttle=inngest.Throttle(limit=1, period=SECOND, key=key, burst=0))(busy)
    made.add("rate-limited", rate_limit=inngest.RateLimit(limit=1, period=MINUTE, key=key))(busy)
    made.add("debounced", debounce=inngest.Debounce(period=SECOND, key=key))(busy)
    made.add("idempotent", idempotency=key)(busy)
    made.add("prioritised", concurrency=single, priority=inngest.Priority(run="event.data.priority"))(busy)
    made.add("filtered", if_="event.data.n > 1")(busy)

    async def batched(ctx: inngest.Context) -> list[Any]:
        return [event.data["n"] for event in ctx.events]

    made.add("batched", batch_events=inngest.Batch(max_size=3, timeout=30 * SECOND, key=key))(batched)
    made.add("batched-late", batch_events=inngest.Batch(max_size=9, timeout=SECOND, key=key))(batched)

    async def napping(ctx: inngest.Context) -> Any:
        await ctx.step.sleep("nap", 2 * SECOND)
        return data_of(ctx)["n"]

    made.add("singleton-skip", singleton=inngest.Singleton(mode="skip", key=key))(napping)
    made.add("singleton-cancel", singleton=inngest.Singleton(mode="cancel", key=key))(napping)

    @made.add("wild", event=f"{app}/wild.*")
    async def wild(ctx: inngest.Context) -> str:
        return ctx.event.name

    @made.add("every", cron="@every 2s")
    async def every(ctx: inngest.Context) -> int:
        return note("every", dict(ctx.event.data))

    @made.add("yearly", cron="TZ=Europe/Paris 0 9 1 1 *")
    async def yearly(ctx: inngest.Context) -> None:
        return None


def _services(made: Catalogue) -> None:
    @made.add("infer")
    async def infer(ctx: inngest.Context) -> Any:
        adapter = ai.openai.Adapter(auth_key="sk-test", model="gpt-x", base_url=f"{data_of(ctx)['provider']}/v1")
        body = {"messages": [{"role": "user", "content": "hello"}]}
        answer: Any = await ctx.step.ai.infer("ask", adapter=adapter, body=body)
        return answer["choices"][0]["message"]["content"]

    @made.add("race")
    async def race(ctx: inngest.Context) -> Any:
        async def fast() -> str:
            return "fast"

        outcomes: tuple[Any, ...] = await ctx.group.parallel(
            (lambda: ctx.step.run("fast", fast), lambda: ctx.step.sleep("slow", SECOND)),
            parallel_mode=inngest.ParallelMode.RACE,
        )
        return outcomes[0]

    @made.add("publishes")
    async def publishes(ctx: inngest.Context) -> str:
        async def publish() -> None:
            await realtime.publish(made.client, f"news-{data_of(ctx)['key']}", "progress", {"at": "once"})

        await ctx.step.run("publish", publish)
        return "published"

    @made.add("logs")
    async def logs(ctx: inngest.Context) -> None:
        key = data_of(ctx)["key"]

        async def a() -> None:
            ctx.logger.info(f"{key} in the step")

        ctx.logger.info(f"{key} first")
        await ctx.step.run("a", a)
        await ctx.step.sleep("nap", SECOND)
        ctx.logger.info(f"{key} last")

    @made.add("with-middleware", middleware=[Greeting])
    async def with_middleware(ctx: inngest.Context) -> str:
        async def greet() -> str:
            return str(data_of(ctx)["greeting"])

        return await ctx.step.run("greet", greet)
