"""The functions that the Python app with plain handlers serves: catalogue.py's twins without `async`."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import inngest
from inngest.experimental import ai, realtime

from tests.interop.sdk.declaring import HOUR, MINUTE, SECOND, now_ms
from tests.interop.sdk.journal import note

Handler = Callable[[inngest.ContextSync], Any]
Decorator = Callable[[Handler], inngest.Function[Any]]


class Greeting(inngest.MiddlewareSync):
    """Changes what goes into a function, and what comes out of it and of its steps."""

    def transform_input(
        self, ctx: inngest.Context | inngest.ContextSync, function: Any, steps: inngest.StepMemos
    ) -> None:
        ctx.event.data = {**ctx.event.data, "greeting": f"hello from {ctx.event.data['key']}"}

    def transform_output(self, result: inngest.TransformOutputResult) -> None:
        if result.has_output():
            result.output = {"wrapped": result.output} if result.step is None else f"[{result.output}]"


class Catalogue:
    """Functions of one client, each under the event of its name; `functions` is what is served."""

    def __init__(self, client: inngest.Inngest) -> None:
        self.client = client
        self.app = client.app_id
        self.functions: list[inngest.Function[Any]] = []

    def add(
        self, id: str, *, event: str = "", if_: str | None = None, cron: str = "", retries: int = 0, **options: Any
    ) -> Decorator:
        """A decorator that makes a function; its trigger is the event `<app>/<id>` unless another is named."""
        named = inngest.TriggerEvent(event=event or f"{self.app}/{id}", expression=if_)
        trigger: inngest.TriggerEvent | inngest.TriggerCron = inngest.TriggerCron(cron=cron) if cron else named

        def made(handler: Handler) -> inngest.Function[Any]:
            decorate = self.client.create_function(fn_id=id, trigger=trigger, retries=retries, **options)
            self.functions.append(decorate(handler))
            return self.functions[-1]

        return made


def catalogue(client: inngest.Inngest) -> Catalogue:
    """Everything."""
    made = Catalogue(client)
    _steps(made)
    _waits_and_invocations(made)
    _failures(made)
    _flow(made)
    _services(made)
    return made


def data_of(ctx: inngest.ContextSync) -> Any:
    return ctx.event.data


def _steps(made: Catalogue) -> None:
    app = made.app

    @made.add("plain")
    def plain(ctx: inngest.ContextSync) -> Any:
        return {"data": ctx.event.data, "name": ctx.event.name, "attempt": ctx.attempt, "runId": ctx.run_id}

    @made.add("two-steps")
    def two_steps(ctx: inngest.ContextSync) -> Any:
        given = data_of(ctx)

        def first() -> dict[str, int]:
            note(given["key"], "a")
            return {"n": given["n"] + 1}

        a = ctx.step.run("a", first)

        def second() -> int:
            note(given["key"], "b")
            return a["n"] + 1

        return {"a": a, "b": ctx.step.run("b", second)}

    @made.add("nothing")
    def nothing(ctx: inngest.ContextSync) -> None:
        def none() -> Any:
            return None

        ctx.step.run("none", none)
        nil = ctx.step.run("nil", none)
        ctx.step.run("after", lambda: {"none": None, "nil": nil})

    @made.add("same-ids")
    def same_ids(ctx: inngest.ContextSync) -> list[int]:
        def square(n: int) -> int:
            return n * n

        return [ctx.step.run("same", square, n) for n in (1, 2, 3)]

    @made.add("large-state")
    def large_state(ctx: inngest.ContextSync) -> int:
        def part() -> str:
            return "x" * int(data_of(ctx)["size"])

        total = sum([len(ctx.step.run(f"part {n}", part)) for n in (1, 2, 3, 4, 5)])
        ctx.step.sleep("nap", SECOND)
        return ctx.step.run("sum", lambda: total)

    @made.add("sleep")
    def sleep(ctx: inngest.ContextSync) -> Any:
        before = ctx.step.run("before", now_ms)
        ctx.step.sleep("nap", SECOND)
        between = ctx.step.run("between", now_ms)
        ctx.step.sleep_until("until", datetime.datetime.fromtimestamp(between / 1000, datetime.UTC) + SECOND)
        return {"nap": between - before, "until": ctx.step.run("after", now_ms) - between}

    def work(key: str, name: str) -> Callable[[], str]:
        def worked() -> str:
            note(key, f"{name} begins")
            time.sleep(0.2)
            note(key, f"{name} ends")
            return name

        return worked

    @made.add("parallel")
    def parallel(ctx: inngest.ContextSync) -> Any:
        key = data_of(ctx)["key"]
        outcomes: tuple[Any, ...] = ctx.group.parallel(
            (
                lambda: ctx.step.run("one", work(key, "one")),
                lambda: ctx.step.run("two", work(key, "two")),
                lambda: ctx.step.sleep("nap", SECOND),
            )
        )
        return ctx.step.run("join", lambda: list(outcomes))

    @made.add("chains")
    def chains(ctx: inngest.ContextSync) -> Any:
        def chain(name: str) -> int:
            first = ctx.step.run(f"{name} 1", lambda: 1)
            return ctx.step.run(f"{name} 2", lambda: first + 1)

        return ctx.group.parallel((lambda: chain("left"), lambda: chain("right")))

    @made.add("send-event")
    def send_event(ctx: inngest.ContextSync) -> list[str]:
        events = [inngest.Event(name=f"{app}/sent", data={"key": data_of(ctx)["key"], "n": n}) for n in (1, 2)]
        return ctx.step.send_event("send", events)

    @made.add("on-sent", event=f"{app}/sent")
    def on_sent(ctx: inngest.ContextSync) -> int:
        return note(data_of(ctx)["key"], f"sent {data_of(ctx)['n']}")


def _waits_and_invocations(made: Catalogue) -> None:
    app = made.app

    def wait(rule: str) -> Handler:
        def waiting(ctx: inngest.ContextSync) -> Any:
            event = ctx.step.wait_for_event("approval", event=f"{app}/approved", if_exp=rule, timeout=2 * MINUTE)
            return None if event is None else event.model_dump(mode="json")

        return waiting

    made.add("wait-match")(wait("event.data.key == async.data.key"))
    made.add("wait-if")(wait("event.data.key == async.data.key && async.data.n > 1"))

    @made.add("wait-timeout")
    def wait_timeout(ctx: inngest.ContextSync) -> Any:
        return {"got": ctx.step.wait_for_event("approval", event=f"{app}/never", timeout=SECOND)}

    @made.add("child")
    def child(ctx: inngest.ContextSync) -> Any:
        return {"by": app, "doubled": ctx.step.run("double", lambda: int(data_of(ctx)["n"]) * 2)}

    @made.add("child-fails")
    def child_fails(ctx: inngest.ContextSync) -> None:
        raise inngest.NonRetriableError("the child is broken")

    @made.add("child-sleeps")
    def child_sleeps(ctx: inngest.ContextSync) -> None:
        ctx.step.sleep("long", 5 * MINUTE)

    @made.add("invoke")
    def invoke(ctx: inngest.ContextSync) -> Any:
        return ctx.step.invoke("call", function=child, data={"n": data_of(ctx)["n"]})

    @made.add("invoke-other")
    def invoke_other(ctx: inngest.ContextSync) -> Any:
        given = data_of(ctx)
        timeout = {"1s": SECOND}.get(given.get("timeout") or "")
        try:
            result = ctx.step.invoke_by_id(
                "call", app_id=given["app"], function_id=given["fn"], data={"n": given["n"]}, timeout=timeout
            )
        except inngest.StepError as error:
            return {"name": error.name, "message": error.message}
        return {"result": result}


def _failures(made: Catalogue) -> None:
    @made.add("step-retry", retries=3)
    def step_retry(ctx: inngest.ContextSync) -> str:
        def flaky() -> str:
            if note(data_of(ctx)["key"], "try") < 3:
                raise RuntimeError("not yet")
            return "at last"

        return ctx.step.run("flaky", flaky)

    def failing(ctx: inngest.ContextSync, error: Exception) -> Callable[[], None]:
        def bad() -> None:
            note(data_of(ctx)["key"], "try")
            raise error

        return bad

    @made.add("step-exhausted", retries=1)
    def step_exhausted(ctx: inngest.ContextSync) -> Any:
        try:
            ctx.step.run("bad", failing(ctx, TypeError("never")))
        except inngest.StepError as error:
            message = error.message
            return ctx.step.run("recover", lambda: {"message": message})

    @made.add("step-uncaught", retries=1)
    def step_uncaught(ctx: inngest.ContextSync) -> None:
        ctx.step.run("bad", failing(ctx, RuntimeError("uncaught")))

    @made.add("retry-after", retries=2)
    def retry_after(ctx: inngest.ContextSync) -> Any:
        note(data_of(ctx)["key"], f"attempt {ctx.attempt}")
        if ctx.attempt == 0:
            raise inngest.RetryAfterError("later", 3 * SECOND)
        return {"attempt": ctx.attempt}

    @made.add("step-retry-after", retries=2)
    def step_retry_after(ctx: inngest.ContextSync) -> str:
        def later() -> str:
            if note(data_of(ctx)["key"], "try") < 2:
                raise inngest.RetryAfterError("later", 3 * SECOND)
            return "later"

        return ctx.step.run("later", later)

    @made.add("function-retry", retries=2)
    def function_retry(ctx: inngest.ContextSync) -> Any:
        kept = ctx.step.run("kept", lambda: note(data_of(ctx)["key"], "step"))
        if ctx.attempt < 2:
            raise RuntimeError(f"attempt {ctx.attempt}")
        return {"kept": kept, "attempt": ctx.attempt}

    def failed(ctx: inngest.ContextSync) -> None:
        given = data_of(ctx)
        what = {"message": given["error"]["message"], "function": given["function_id"], "run": given["run_id"]}
        ctx.step.run("report", lambda: note(given["event"]["data"]["key"], what))

    @made.add("fails", retries=1, on_failure=failed)
    def fails(ctx: inngest.ContextSync) -> None:
        note(data_of(ctx)["key"], f"attempt {ctx.attempt}")
        raise RuntimeError(f"broken {ctx.attempt}")

    @made.add("fails-finally", retries=3, on_failure=failed)
    def fails_finally(ctx: inngest.ContextSync) -> None:
        note(data_of(ctx)["key"], "attempt")
        raise inngest.NonRetriableError("hopeless")


def _flow(made: Catalogue) -> None:
    app = made.app
    key = "event.data.key"

    @made.add("cancel-on", cancel=[inngest.Cancel(event=f"{app}/stop", if_exp=f"{key} == async.data.key")])
    def cancel_on(ctx: inngest.ContextSync) -> None:
        ctx.step.sleep("long", HOUR)

    def busy(ctx: inngest.ContextSync) -> Any:
        given = data_of(ctx)

        def work() -> None:
            note(given["key"], f"{given['n']} begins")
            time.sleep(given.get("ms", 200) / 1000)
            note(given["key"], f"{given['n']} ends")

        ctx.step.run("work", work)
        return given["n"]

    @made.add("finish-timeout", timeouts=inngest.Timeouts(finish=SECOND))
    def finish_timeout(ctx: inngest.ContextSync) -> None:
        ctx.step.sleep("long", HOUR)

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

    def batched(ctx: inngest.ContextSync) -> list[Any]:
        return [event.data["n"] for event in ctx.events]

    made.add("batched", batch_events=inngest.Batch(max_size=3, timeout=30 * SECOND, key=key))(batched)
    made.add("batched-late", batch_events=inngest.Batch(max_size=9, timeout=SECOND, key=key))(batched)

    def napping(ctx: inngest.ContextSync) -> Any:
        ctx.step.sleep("nap", 2 * SECOND)
        return data_of(ctx)["n"]

    made.add("singleton-skip", singleton=inngest.Singleton(mode="skip", key=key))(napping)
    made.add("singleton-cancel", singleton=inngest.Singleton(mode="cancel", key=key))(napping)

    @made.add("wild", event=f"{app}/wild.*")
    def wild(ctx: inngest.ContextSync) -> str:
        return ctx.event.name

    @made.add("every", cron="@every 2s")
    def every(ctx: inngest.ContextSync) -> int:
        return note("every", dict(ctx.event.data))

    @made.add("yearly", cron="TZ=Europe/Paris 0 9 1 1 *")
    def yearly(ctx: inngest.ContextSync) -> None:
        return None


def _services(made: Catalogue) -> None:
    @made.add("infer")
    def infer(ctx: inngest.ContextSync) -> Any:
        adapter = ai.openai.Adapter(auth_key="sk-test", model="gpt-x", base_url=f"{data_of(ctx)['provider']}/v1")
        body = {"messages": [{"role": "user", "content": "hello"}]}
        answer: Any = ctx.step.ai.infer("ask", adapter=adapter, body=body)
        return answer["choices"][0]["message"]["content"]

    @made.add("race")
    def race(ctx: inngest.ContextSync) -> Any:
        outcomes: tuple[Any, ...] = ctx.group.parallel(
            (lambda: ctx.step.run("fast", lambda: "fast"), lambda: ctx.step.sleep("slow", SECOND)),
            parallel_mode=inngest.ParallelMode.RACE,
        )
        return outcomes[0]

    @made.add("publishes")
    def publishes(ctx: inngest.ContextSync) -> str:
        channel = f"news-{data_of(ctx)['key']}"
        ctx.step.run("publish", lambda: realtime.publish_sync(made.client, channel, "progress", {"at": "once"}))
        return "published"

    @made.add("logs")
    def logs(ctx: inngest.ContextSync) -> None:
        key = data_of(ctx)["key"]
        ctx.logger.info(f"{key} first")
        ctx.step.run("a", lambda: ctx.logger.info(f"{key} in the step"))
        ctx.step.sleep("nap", SECOND)
        ctx.logger.info(f"{key} last")

    @made.add("with-middleware", middleware=[Greeting])
    def with_middleware(ctx: inngest.ContextSync) -> str:
        return ctx.step.run("greet", lambda: str(data_of(ctx)["greeting"]))
