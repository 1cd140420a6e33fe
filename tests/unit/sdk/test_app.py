"""Registering functions: what a configuration becomes, and every fault that import finds."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType

import pytest

from perdure import (
    App,
    BatchEvents,
    CancelOn,
    Concurrency,
    ConfigError,
    Context,
    Cron,
    Debounce,
    Event,
    EventTrigger,
    Priority,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    on,
)
from perdure.model.config import FunctionConfig
from perdure.model.json import Json


async def handler(ctx: Context) -> int:
    return ctx.attempt


def test_the_options_become_the_configuration() -> None:
    app = App("shop")
    function = app.function(
        "fulfil",
        trigger=[
            "shop/order.created",
            on("shop/*", if_="event.data.n > 1"),
            Cron("TZ=Europe/Paris 0 9 * * *"),
        ],
        name="Fulfil an order",
        retries=2,
        concurrency=[Concurrency(2, key="event.data.customer"), Concurrency(9)],
        throttle=Throttle(5, "10s"),
        rate_limit=RateLimit(5, "10s"),
        debounce=Debounce("2s"),
        priority="event.data.pro ? 100 : 0",
        singleton=Singleton(key="event.data.id"),
        cancel_on=CancelOn("shop/order.cancelled", match="data.id"),
        timeouts=Timeouts(start="30s"),
    )(handler)
    assert function.config == FunctionConfig(
        id="shop-fulfil",
        app_id="shop",
        name="Fulfil an order",
        triggers=(
            EventTrigger("shop/order.created"),
            EventTrigger("shop/*", "event.data.n > 1"),
            Cron("TZ=Europe/Paris 0 9 * * *"),
        ),
        retries=2,
        concurrency=(Concurrency(2, key="event.data.customer"), Concurrency(9)),
        throttle=Throttle(5, "10s"),
        rate_limit=RateLimit(5, "10s"),
        debounce=Debounce("2s"),
        priority=Priority("event.data.pro ? 100 : 0"),
        singleton=Singleton(key="event.data.id"),
        cancel_on=(CancelOn("shop/order.cancelled", match="data.id"),),
        timeouts=Timeouts(start="30s"),
    )
    assert dict(app.functions) == {"shop-fulfil": function}


def test_the_short_forms() -> None:
    config = App("shop").function("f", trigger="a/b", concurrency=3, idempotency="event.data.id")(handler).config
    assert config == FunctionConfig(
        id="shop-f",
        app_id="shop",
        name="f",
        triggers=(EventTrigger("a/b"),),
        concurrency=(Concurrency(3),),
        idempotency="event.data.id",
    )


def test_a_function_without_a_trigger_is_for_invoking() -> None:
    function = App("shop").function("f")(handler)
    assert function.config.triggers == ()
    assert (function.id, function.is_async, function.returns) == ("shop-f", True, int)
    assert repr(function) == "<AsyncFunction 'shop-f'>"


def test_on_failure_becomes_a_function_of_its_own() -> None:
    app = App("shop")

    def clean_up(ctx: Context) -> None: ...

    app.function("f", trigger="a", name="F", on_failure=clean_up)(handler)
    failure = app.functions["shop-f-failure"]
    assert failure.config == FunctionConfig(
        id="shop-f-failure",
        app_id="shop",
        name="F (failure)",
        triggers=(EventTrigger("inngest/function.failed", "event.data.function_id == 'shop-f'"),),
        retries=1,
    )
    assert failure.handler is clean_up
    assert not failure.is_async


class Awake:
    """Not replaying."""

    def silent(self) -> bool:
        return False


async def test_a_function_can_be_called_like_its_handler() -> None:
    event = Event("a", {})
    ctx = Context(event, [event], "RUN", "shop-f", 3, 5, Awake())
    assert await App("shop").function("f")(handler)(ctx) == 3
    plain = App("shop").function("f")(lambda ctx: ctx.attempt + 1)
    assert plain(ctx) == 4


def generator(ctx: Context) -> Iterator[int]:
    yield 1


async def async_generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


def without_context() -> None: ...


def with_two(ctx: Context, other: int) -> None: ...


HANDLER_FAULTS: list[tuple[Json, str]] = [
    (without_context, "handler: must take one argument, the context: def without_context(ctx)"),
    (with_two, "handler: must take one argument, the context: def with_two(ctx)"),
    (generator, "handler: is a generator; use a function that returns its result"),
    (async_generator, "handler: is a generator; use a function that returns its result"),
    (5, "handler: must be a function, got 5"),
    (App, "handler: must be a function, got <class 'perdure.sdk.app.App'>"),
]


@pytest.mark.parametrize(("wrong", "message"), HANDLER_FAULTS)
def test_faults_of_the_handler(wrong: Json, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        App("shop").function("f")(wrong)
    assert str(caught.value) == f"function 'shop-f' is not valid: {message}"


BATCH = BatchEvents(10, "5s")
OPTION_FAULTS: list[tuple[dict[str, Json], str]] = [
    ({"triggr": "a"}, "triggr: is no option; did you mean trigger?"),
    ({"trigger": 5}, "triggers[0]: must be an event name, on(...) or Cron(...), got 5"),
    ({"trigger": ["a", ""]}, "triggers[1].event: must be a text of 1 to 255 characters, got ''"),
    ({"trigger": "shop/*/x"}, "triggers[0].event: * stands only at the end, after / or ., got 'shop/*/x'"),
    ({"trigger": "shop*"}, "triggers[0].event: * stands only at the end, after / or ., got 'shop*'"),
    ({"trigger": ["a"] * 11}, "triggers: at most 10 are allowed, got 11"),
    ({"trigger": on("a", if_="async.data.x == 1")}, "triggers[0].expression: "),
    ({"trigger": on("a", if_="event.data.")}, "triggers[0].expression: "),
    ({"trigger": Cron("61 * * * *")}, "triggers[0].cron: minute '61'"),
    ({"trigger": Cron("TZ=Mars/Base 0 0 * * *")}, "triggers[0].cron: "),
    ({"name": 5}, "name: must be a text, got 5"),
    ({"name": ""}, "name: must not be empty"),
    ({"retries": "3"}, "retries: must be a whole number, got '3'"),
    ({"retries": True}, "retries: must be a whole number, got True"),
    ({"retries": -1}, "retries: must be a whole number of at least 0, got -1"),
    ({"retries": 21}, "retries: must be at most 20, got 21"),
    ({"concurrency": -1}, "concurrency.limit: must be a whole number of at least 0, got -1"),
    ({"concurrency": "5"}, "concurrency[0]: must be a number or Concurrency(...), got '5'"),
    ({"concurrency": [Concurrency(1)] * 3}, "concurrency: at most 2 are allowed, got 3"),
    ({"concurrency": Concurrency(1, key="evnt.x")}, "concurrency[0].key: `evnt` is not known here"),
    ({"throttle": 5}, "throttle: must be Throttle(...), got 5"),
    ({"throttle": Throttle(1, "1s", key="(")}, "throttle.key: "),
    ({"rate_limit": "5/s"}, "rate_limit: must be RateLimit(...), got '5/s'"),
    ({"rate_limit": RateLimit(1, "1s", key="(")}, "rate_limit.key: "),
    ({"rate_limit": RateLimit(1, "1s"), "idempotency": "event.id"}, "idempotency: cannot be combined"),
    ({"debounce": "5s"}, "debounce: must be Debounce(...), got '5s'"),
    ({"debounce": Debounce("1s", key="(")}, "debounce.key: "),
    ({"batch_events": 10}, "batch_events: must be BatchEvents(...), got 10"),
    ({"batch_events": BatchEvents(2, "1s", key="(")}, "batch_events.key: "),
    ({"batch_events": BatchEvents(2, "1s", if_="(")}, "batch_events.if_: "),
    ({"batch_events": BATCH, "debounce": Debounce("1s")}, "batch_events: cannot be combined with debounce"),
    ({"batch_events": BATCH, "singleton": Singleton()}, "batch_events: cannot be combined with singleton"),
    ({"batch_events": BATCH, "priority": "1"}, "batch_events: cannot be combined with priority"),
    ({"batch_events": BATCH, "cancel_on": CancelOn("a")}, "batch_events: cannot be combined with cancel_on"),
    ({"priority": 5}, "priority: must be an expression or Priority(...), got 5"),
    ({"priority": "event.data.("}, "priority.run: "),
    ({"idempotency": 5}, "idempotency: must be a text, got 5"),
    ({"idempotency": "("}, "idempotency: "),
    ({"singleton": "skip"}, "singleton: must be Singleton(...), got 'skip'"),
    ({"singleton": Singleton(key="(")}, "singleton.key: "),
    ({"cancel_on": "a"}, "cancel_on[0]: must be CancelOn(...), got 'a'"),
    ({"cancel_on": [CancelOn("a")] * 6}, "cancel_on: at most 5 are allowed, got 6"),
    ({"cancel_on": CancelOn("a", if_="(")}, "cancel_on[0].if_: "),
    ({"cancel_on": CancelOn("a", match="a b")}, "cancel_on[0].match: 'a b' is not a path"),
    ({"timeouts": "5m"}, "timeouts: must be Timeouts(...), got '5m'"),
    ({"on_failure": without_context}, "on_failure: must take one argument, the context"),
    ({"on_failure": "clean_up"}, "on_failure: must be a function, got 'clean_up'"),
]


@pytest.mark.parametrize(("options", "message"), OPTION_FAULTS, ids=[message for _, message in OPTION_FAULTS])
def test_faults_of_the_options(options: dict[str, Json], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        App("shop").function("f", **options)(handler)
    (problem,) = caught.value.problems
    assert problem.startswith(message)
    assert str(caught.value).startswith("function 'shop-f' is not valid: ")


# What programs without type checks pass.
UNTYPED: Json = 5
NOTHING: Json = None
POLICY_FAULTS: list[tuple[Callable[[], object], str]] = [
    (lambda: Concurrency(1, scope="env"), 'concurrency is not valid: key: is required with scope "env"'),
    (lambda: Throttle(0, "1s"), "throttle is not valid: limit: must be a whole number of at least 1, got 0"),
    (lambda: Debounce("8d"), "debounce is not valid: period: must be at most 168h, got '8d'"),
    (lambda: RateLimit(1, "5 bananas"), "rate_limit is not valid: period: unit 'bananas'"),
    (lambda: Cron("@daily", jitter="1h"), "cron trigger is not valid: jitter: must be at most 5m, got '1h'"),
    (lambda: BatchEvents(2, "11m"), "batch_events is not valid: timeout: must be at most 10m, got '11m'"),
    (lambda: on(UNTYPED), "trigger is not valid: event: must be a text of 1 to 255 characters, got 5"),
    (lambda: on("a", if_=UNTYPED), "trigger is not valid: expression: must be a text that is not empty, got 5"),
    (lambda: on("a", if_=""), "trigger is not valid: expression: must be a text that is not empty, got ''"),
    (lambda: Concurrency(1, key=""), "concurrency is not valid: key: must be a text that is not empty, got ''"),
    (lambda: Concurrency(10**30), "concurrency is not valid: limit: must be at most 1000000000"),
    (lambda: Throttle(10**400, "1s"), "throttle is not valid: limit: must be at most 1000000000"),
    (lambda: Throttle(1, NOTHING), 'throttle is not valid: period: is required: a duration such as "1m"'),
    (lambda: RateLimit(1, NOTHING), "rate_limit is not valid: period: is required"),
    (lambda: Debounce(NOTHING), "debounce is not valid: period: is required"),
    (lambda: BatchEvents(2, NOTHING), "batch_events is not valid: timeout: is required"),
    (lambda: CancelOn(UNTYPED), "cancel_on is not valid: event: must be a text of 1 to 255 characters, got 5"),
    (lambda: CancelOn("a", match=UNTYPED), "cancel_on is not valid: match: must be a text that is not empty, got 5"),
    (lambda: Singleton(key=UNTYPED), "singleton is not valid: key: must be a text that is not empty, got 5"),
]


@pytest.mark.parametrize(("make", "message"), POLICY_FAULTS)
def test_faults_of_a_policy_alone(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_a_decorator_without_parentheses_is_refused() -> None:
    # It would put the handler in the place of the id, and never register it.
    app: Json = App("shop")
    with pytest.raises(ConfigError, match=r'is missing: write @app.function\("handler", \.\.\.\)'):
        app.function(handler)


@pytest.mark.parametrize("wrong", ["", "a b", "-a", "a-", "é", "a/b", "a" * 129, None])
def test_ids_are_slugs(wrong: Json) -> None:
    rule = "id: must be 1 to 128 letters and digits, in words joined by - _ or ., got"
    with pytest.raises(ConfigError, match=rule):
        App(wrong)
    with pytest.raises(ConfigError, match=rule):
        App("shop").function(wrong)(handler)


def test_all_faults_come_at_once() -> None:
    app, wrong, throttle = App("shop"), HANDLER_FAULTS[1][0], Throttle(1, 1, key="(")
    with pytest.raises(ConfigError) as caught:
        app.function("f g", trigger=Cron("nope"), retries=99, throttle=throttle)(wrong)
    fields = [problem.split(":")[0] for problem in caught.value.problems]
    assert fields == ["id", "handler", "retries", "throttle.key", "triggers[0].cron"]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that was started from a file; those of a worker of pytest-xdist were not."""
    main = ModuleType("__main__")
    main.__file__ = "program.py"
    monkeypatch.setitem(sys.modules, "__main__", main)


@pytest.mark.usefixtures("program")
def test_an_id_is_taken_once() -> None:
    app = App("shop")
    app.function("f")(handler)
    with pytest.raises(ConfigError, match=r"function 'shop-f' is not valid: id: is taken by handler \(.*test_app"):
        app.function("f")(handler)


@pytest.mark.usefixtures("program")
def test_a_failure_handler_takes_an_id_too() -> None:
    app = App("shop")
    app.function("f-failure")(handler)
    with pytest.raises(ConfigError, match="function 'shop-f-failure' is not valid: id: is taken"):
        app.function("f", on_failure=handler)(handler)
    assert list(app.functions) == ["shop-f-failure"]


def test_a_notebook_may_run_a_cell_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    app = App("shop")
    app.function("f", retries=1)(handler)
    again = app.function("f", retries=2)(handler)
    assert app.functions["shop-f"] is again
    with pytest.raises(ConfigError, match="is taken"):
        app.function("f")(without_handler_name)


def test_what_is_typed_into_a_prompt_may_be_typed_again() -> None:
    # The prompt of `python -m asyncio` belongs to a module that has a file.
    source = "async def typed(ctx): ..."
    app, typed = App("shop"), []
    for _ in range(2):
        scope: dict[str, Json] = {"__name__": "__main__"}
        exec(compile(source, "<console>", "exec"), scope)
        typed.append(app.function("f")(scope["typed"]))
    assert app.functions["shop-f"] is typed[1]


async def without_handler_name(ctx: Context) -> None: ...
