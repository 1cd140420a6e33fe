"""Steps in a handler: recorded once, replayed with the same value, in parallel, repeated, and misused."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from perdure import App, Context, Event, NonRetriableError, PerdureError, StepError, step
from perdure.model import json
from perdure.model.ids import step_hash
from perdure.model.json import Json
from perdure.model.ops import Memo, OpenStep, Retry
from perdure.model.records import StepStatus
from perdure.sdk.arguments import StepArgumentError
from perdure.sdk.port import FetchResponse
from tests.unit.sdk.scripted import NOW, ScriptedHost, execution, play

DAY = 86_400_000


@dataclass
class Charge:
    id: UUID
    amount: Decimal
    at: datetime


CHARGE = Charge(UUID(int=7), Decimal("9.90"), datetime(2026, 11, 22, tzinfo=UTC))


async def charge(amount: Decimal) -> Charge:
    return Charge(CHARGE.id, amount, CHARGE.at)


def charge_in_thread(amount: Decimal) -> list[Charge]:
    return [Charge(CHARGE.id, amount, CHARGE.at)]


async def test_a_step_is_done_once_and_its_type_restored_in_every_replay() -> None:
    app = App("shop")
    seen: list[object] = []

    @app.function("f")
    async def f(ctx: Context) -> str:
        one = await step.run("one", charge, Decimal("9.90"))
        two = await step.run("two", charge_in_thread, amount=Decimal("9.90"))
        seen.append((one, two))
        return str(one.amount + two[0].amount)

    host = ScriptedHost()
    assert await play(f, host) == "19.80"
    assert host.log == [("StepRun", "one", 0), ("StepRun", "two", 0)]
    assert host.ops[0].id == step_hash("one")
    assert seen == [(CHARGE, [CHARGE])] * 2


async def test_the_first_run_sees_what_a_replay_will_see() -> None:
    app = App("shop")
    seen: list[object] = []

    @app.function("f")
    async def f(ctx: Context) -> None:
        seen.append(await step.run("tuple", lambda: {"at": (1, 2), "id": UUID(int=1)}))

    await play(f, ScriptedHost())
    assert seen == [{"at": [1, 2], "id": str(UUID(int=1))}] * 2


class Caller:
    async def method(self, n: int) -> set[int]:
        return {n}

    async def __call__(self, n: int) -> set[int]:
        return {n}


def lazily(n: int) -> Awaitable[set[int]]:
    return Caller().method(n)


@pytest.mark.parametrize(
    "call",
    [
        Caller().method,
        Caller(),
        functools.partial(Caller().method),
        lambda n: {n},
        lambda n: Caller().method(n),
        lazily,
        set[int],
    ],
)
async def test_anything_callable_can_be_a_step(call: Callable[..., Json]) -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> object:
        return sorted(await step.run("s", call, [3] if call == set[int] else 3))

    assert await play(f, ScriptedHost()) == [3]


async def test_a_step_may_take_arguments_of_any_name() -> None:
    async def keywords(id: str, call: str, self: str) -> list[str]:
        return [id, call, self]

    @App("shop").function("f")
    async def f(ctx: Context) -> list[str]:
        return await step.run("s", keywords, id="a", call="b", self="c")

    assert await play(f, ScriptedHost()) == ["a", "b", "c"]


async def test_repeated_ids_are_told_apart_by_the_order_of_the_calls() -> None:
    async def slow(n: int) -> int:
        for _ in range(10 - n):
            await asyncio.sleep(0)
        return n

    @App("shop").function("f")
    async def f(ctx: Context) -> list[int]:
        pending = [step.run("s", slow, n) for n in range(3)]
        return list(await asyncio.gather(*reversed(pending)))

    host = ScriptedHost()
    assert await play(f, host) == [2, 1, 0]
    assert [(op.id, op.data) for op in host.ops] == [
        (step_hash("s", 2), b"2"),
        (step_hash("s", 1), b"1"),
        (step_hash("s", 0), b"0"),
    ]


async def test_an_id_that_looks_like_a_repetition_is_refused() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", lambda: 1)
        await step.run("s:1", lambda: 1)
        await step.run("s", lambda: 1)

    with pytest.raises(StepArgumentError, match=r"step 's': id: clashes with use 1 of another id"):
        await execution(f, ScriptedHost()).run()


async def meet(barrier: asyncio.Barrier, n: int) -> int:
    async with barrier:
        return n


async def test_gathered_steps_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(3)

    @App("shop").function("f")
    async def f(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(step.run(f"s{n}", meet, barrier, n) for n in range(3))))

    host = ScriptedHost()
    assert await play(f, host) == [0, 1, 2]
    assert host.peak == 3
    assert host.running == 0


async def test_steps_in_a_task_group_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(2)

    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        async with asyncio.TaskGroup() as group:
            one = group.create_task(step.run("one", meet, barrier, 1))
            two = group.create_task(step.run("two", meet, barrier, 2))
        return one.result() + two.result()

    assert await play(f, ScriptedHost()) == 3


async def test_waits() -> None:
    app = App("shop")

    @app.function("child")
    async def child(ctx: Context) -> Charge:
        return CHARGE

    @app.function("f")
    async def f(ctx: Context) -> list[object]:
        await step.sleep("nap", "1h")
        await step.sleep_until("noon", datetime.fromtimestamp(NOW / 1000 + 60, tz=UTC))
        event = await step.wait_for_event("paid", event="shop/paid", match="data.id", timeout=timedelta(days=1))
        nothing = await step.wait_for_event("late", event="shop/paid", if_="async.data.n > event.data.n", timeout=5)
        signal = await step.wait_for_signal("sig", signal="go", timeout="1m", on_conflict="replace")
        heard = await step.send_signal("send sig", signal="go", data={"at": CHARGE.at})
        ids = await step.send_event("tell", [{"name": "a/b", "data": {"n": Decimal("1.5")}}, Event("c", {})])
        charged = await step.invoke("call", child, data={"n": 1}, user={"id": 1}, v="2", timeout="2h")
        other = await step.invoke("other", "app-fn")
        assert isinstance(event, Event)
        assert signal is not None
        assert charged == CHARGE
        return [event.data, nothing, signal.data, heard, ids, other]

    host = ScriptedHost(
        {
            "paid": {"name": "shop/paid", "data": {"id": 1}, "id": "e", "ts": 5, "user": {}},
            "sig": {"signal": "go", "data": 7},
            "send sig": True,
            "tell": ["01A", "01B"],
            "call": {"id": str(CHARGE.id), "amount": "9.90", "at": "2026-11-22T00:00:00Z"},
            "other": [1],
        }
    )
    assert await play(f, host) == [{"id": 1}, None, 7, True, ["01A", "01B"], [1]]
    assert [(op.op, op.name, op.opts) for op in host.ops] == [
        ("Sleep", "nap", {"until": NOW + 3_600_000}),
        ("Sleep", "noon", {"until": NOW + 60_000}),
        (
            "WaitForEvent",
            "paid",
            {"event": "shop/paid", "timeout": DAY, "if": "event.data.id == async.data.id"},
        ),
        (
            "WaitForEvent",
            "late",
            {"event": "shop/paid", "timeout": 5000, "if": "async.data.n > event.data.n"},
        ),
        ("WaitForSignal", "sig", {"signal": "go", "timeout": 60_000, "conflict": "replace"}),
        ("SendSignal", "send sig", {"signal": "go", "data": {"at": "2026-11-22T00:00:00Z"}}),
        (
            "SendEvent",
            "tell",
            {"events": [{"name": "a/b", "data": {"n": "1.5"}}, {"data": {}, "id": "", "name": "c", "ts": 0}]},
        ),
        (
            "InvokeFunction",
            "call",
            {
                "function_id": "shop-child",
                "data": {"n": 1},
                "user": {"id": 1},
                "v": "2",
                "timeout": 7_200_000,
            },
        ),
        ("InvokeFunction", "other", {"function_id": "app-fn", "data": {}}),
    ]


async def test_open_steps_are_rejoined_and_due_ones_attempted_again() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> list[object]:
        await step.sleep("nap", "1h")
        return [await step.run("retrying", lambda: 1), await step.run("due", lambda: 2)]

    host = ScriptedHost()
    host.rejoins = {step_hash("nap"): Memo(b"null"), step_hash("retrying"): Retry(2)}
    opened = {
        step_hash("nap"): OpenStep(StepStatus.WAITING, 0),
        step_hash("retrying"): OpenStep(StepStatus.RETRYING, 2),
        step_hash("due"): OpenStep(StepStatus.DUE, 3),
    }
    assert await execution(f, host, opened=opened).run() == b"[1,2]"
    assert host.rejoined == [step_hash("nap"), step_hash("retrying")]
    assert host.log == [("StepRun", "retrying", 2), ("StepRun", "due", 3)]


async def test_a_step_that_another_execution_decided_gives_what_that_one_recorded() -> None:
    class Late(ScriptedHost):
        async def report(self, op: Json) -> Memo | Retry:
            return Memo(b"41")

    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        return await step.run("s", lambda: 1)

    assert await execution(f, Late()).run() == b"41"


async def test_fetch() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> Json:
        answer = await step.fetch(
            "get",
            "https://api.test/x",
            method="post",
            headers={"a": "b"},
            body={"n": Decimal(1)},
            timeout="5s",
        )
        return [answer.status_code, answer.json()]

    host = ScriptedHost(retries=1)
    host.responses = [OSError("no route"), FetchResponse("https://api.test/x", 404, {}, '{"n":1}')]
    assert await play(f, host) == [404, {"n": 1}]
    assert host.log == [("StepError", "get", 0), ("StepRun", "get", 1)]
    assert host.ops[1].opts == {
        "type": "step.fetch",
        "input": [{"url": "https://api.test/x", "method": "POST"}],
    }
    request = host.requests[0]
    assert (request.method, request.body, request.timeout) == ("POST", b'{"n":"1"}', 5.0)
    assert request.headers == {"a": "b", "content-type": "application/json"}


async def test_ai_wrap_records_the_arguments() -> None:
    class Client:
        def __repr__(self) -> str:
            return "<Client>"

    async def ask(client: Client, prompt: str, *, model: str) -> str:
        return f"{prompt} to {model}"

    @App("shop").function("f")
    async def f(ctx: Context) -> str:
        return await step.ai.wrap("ask", ask, Client(), "hi", model="m")

    host = ScriptedHost()
    assert await play(f, host) == "hi to m"
    assert host.ops[0].opts == {"type": "step.ai.wrap", "input": ["<Client>", "hi", {"model": "m"}]}


async def test_options_of_one_step() -> None:
    calls: list[int] = []

    async def stuck() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.with_(retries=1, timeout=0.001).run("s", stuck)

    host = ScriptedHost()
    with pytest.raises(StepError, match=r"step 's' failed: TimeoutError: step 's' did not end within 0.001s"):
        await execution(f, host).run()
    assert host.log == [("StepError", "s", 0), ("StepError", "s", 1)]
    assert host.ops[0].opts == {"retries": 1}
    assert len(calls) == 2
    assert host.running == 0


async def test_a_value_that_no_longer_fits_is_an_error_of_its_step() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("charge", charge, Decimal(1))

    memos = {step_hash("charge"): Memo(b'{"id":"old"}')}
    with pytest.raises(StepError, match=r"step 'charge' failed: RestoreError: .*does not fit the annotation"):
        await execution(f, ScriptedHost(), memos=memos).run()


async def test_the_result_of_an_invoke_that_no_longer_fits_is_an_error_of_its_step() -> None:
    app = App("shop")

    @app.function("child")
    async def child(ctx: Context) -> Charge:
        return CHARGE

    @app.function("f")
    async def f(ctx: Context) -> None:
        await step.invoke("call", child)

    with pytest.raises(StepError, match=r"step 'call' failed: RestoreError: .*does not fit the annotation"):
        await execution(f, ScriptedHost({"call": 5})).run()


async def test_a_run_can_be_taken_up_after_any_of_its_steps() -> None:
    """A crash after each step in turn: what is recorded is not done again, the rest is."""

    def fails() -> None:
        raise ValueError("no")

    @App("shop").function("f")
    async def f(ctx: Context) -> list[object]:
        def same(n: int) -> int:
            return n

        found: list[object] = [await step.run("s", charge, Decimal(1))]
        found += await asyncio.gather(*(step.run("s", same, n) for n in range(3)), step.sleep("nap", 1))
        try:
            await step.run("fails", fails)
        except StepError as error:
            found.append(error.message)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(step.wait_for_event("event", event="a", timeout=1))
            group.create_task(step.run("beside", charge_in_thread, Decimal(2)))
        return [*found, task.result()]

    answers: dict[str, Json] = {"event": {"name": "a", "data": {}}}
    whole = ScriptedHost(answers, retries=0)
    result = await play(f, whole)
    assert len(whole.memos) == 8
    for count in range(len(whole.memos)):
        rest = ScriptedHost(answers, retries=0)
        memos = dict(list(whole.memos.items())[:count])
        assert json.decode(await execution(f, rest, memos=memos).run()) == result
        assert rest.memos == dict(list(whole.memos.items())[count:])


async def test_a_wrong_annotation_is_found_in_the_first_run() -> None:
    async def wrong() -> int:
        return "five"  # type: ignore[return-value]  # pyright: ignore[reportReturnType] this is the point

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", wrong)

    host = ScriptedHost()
    with pytest.raises(StepError, match="RestoreError"):
        await execution(f, host).run()
    assert [(op.op, op.no_retry) for op in host.ops] == [("StepError", True)]


async def test_what_cannot_be_stored_is_named_with_its_path() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("s", lambda: {"a": [1, object()]})

    host = ScriptedHost()
    with pytest.raises(StepError, match=r"UnserializableError: step 's': \$\.a\[1\]"):
        await execution(f, host).run()
    assert len(host.ops) == 1


async def test_steps_of_older_code_are_named() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> int:
        return await step.run("new", lambda: 1)

    run = execution(f, ScriptedHost(), memos={step_hash("old"): Memo(b"1"), step_hash("new"): Memo(b"2")})
    assert await run.run() == b"2"
    assert run.unused_steps == {step_hash("old")}


MISUSES: list[tuple[str, Callable[[], object]]] = [
    ("step '': id: must be a text that is not empty", lambda: step.run("", lambda: 1)),
    ("step 5: id: must be a text that is not empty", lambda: step.sleep(5, "1s")),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ("step 's': call: must be a function, got 3", lambda: step.run("s", 3)),  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    (
        "step 's': call: must be a function, got what charge(...) gave: pass it uncalled, step.run(\"s\", charge, ...)",
        lambda: step.run("s", charge(Decimal(1))),  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ),
    ("step 's': duration: unit 'bananas'", lambda: step.sleep("s", "5 bananas")),
    ("step 's': duration: must not be negative, got -1", lambda: step.sleep("s", -1)),
    ("step 's': duration: must be at most 366 days, got '367d'", lambda: step.sleep("s", "367d")),
    (
        "step 's': when: 2026-11-22T00:00:00 has no time zone",
        lambda: step.sleep_until("s", datetime(2026, 11, 22)),
    ),
    (
        "step 's': when: must be at most 366 days from now",
        lambda: step.sleep_until("s", "2030-01-01T00:00:00Z"),
    ),
    (
        "step 's': event: must be a text that is not empty",
        lambda: step.wait_for_event("s", event="", timeout=1),
    ),
    (
        "step 's': match: give either if_ or match, not both",
        lambda: step.wait_for_event("s", event="e", match="data.id", if_="true", timeout=1),
    ),
    (
        "step 's': match: 'a b' is not a path",
        lambda: step.wait_for_event("s", event="e", match="a b", timeout=1),
    ),
    ("step 's': if_: ", lambda: step.wait_for_event("s", event="e", if_="async.data.", timeout=1)),
    (
        "step 's': timeout: must be at most 366 days",
        lambda: step.wait_for_event("s", event="e", timeout=timedelta(days=400)),
    ),
    ("step 's': signal: must be a text", lambda: step.wait_for_signal("s", signal="", timeout=1)),
    (
        "step 's': on_conflict: must be",
        lambda: step.wait_for_signal("s", signal="x", timeout=1, on_conflict="wait"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ),
    ("step 's': events[1]: event name is empty", lambda: step.send_event("s", [{"name": "a"}, {"name": ""}])),
    ("step 's': events[0]: event name is reserved", lambda: step.send_event("s", {"name": "inngest/x"})),
    ("step 's': function: must be a text that is not empty, got ''", lambda: step.invoke("s", "")),
    (
        "step 's': data: must be an object, got list",
        lambda: step.invoke("s", "a-b", data=[1]),  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    ),
    ("step 's': url: must begin with http:// or https://, got 'x'", lambda: step.fetch("s", "x")),
    (
        "step 'half \\ud800': id: holds half of a surrogate pair",
        lambda: step.run("half \ud800", charge, Decimal(1)),
    ),
    ("step 'with_': retries: must be a whole number, got True", lambda: step.with_(retries=True)),
    ("step 'with_': retries: must be 0 to 20, got 21", lambda: step.with_(retries=21)),
    ("step 'with_': timeout: must be more than 0", lambda: step.with_(timeout=0)),
]


@pytest.mark.parametrize(("message", "call"), MISUSES, ids=[message for message, _ in MISUSES])
async def test_a_wrong_argument_ends_the_run_and_is_named(message: str, call: Callable[[], object]) -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        call()

    host = ScriptedHost()
    with pytest.raises(StepArgumentError) as caught:
        await execution(f, host).run()
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, NonRetriableError)
    assert host.ops == []


async def test_a_step_outside_of_a_run_says_so() -> None:
    with pytest.raises(PerdureError, match=r"step 's' was called outside of a run: .*perdure\.embedded"):
        await step.sleep("s", 1)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_step_inside_a_step_is_refused_for_good(in_thread: bool) -> None:
    async def outer() -> None:
        await step.sleep("inner", 1)

    def outer_in_thread() -> object:
        return step.sleep("inner", 1)

    @App("shop").function("f")
    async def f(ctx: Context) -> None:
        await step.run("outer", outer_in_thread if in_thread else outer)

    host = ScriptedHost()
    with pytest.raises(StepError, match=r"NonRetriableError: step 'inner' was called inside step 'outer'"):
        await execution(f, host).run()
    assert host.log == [("StepError", "outer", 0)]


async def test_the_handler_sees_the_event_and_its_run() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> Json:
        return [
            ctx.event.data["n"],
            len(ctx.events),
            ctx.run_id,
            ctx.function_id,
            ctx.attempt,
            ctx.max_attempts,
        ]

    body = await execution(f, ScriptedHost(), data={"n": 3}, attempt=2).run()
    assert json.decode(body) == [3, 1, "RUN1", "shop-f", 2, 5]


async def test_a_result_that_cannot_be_stored_names_the_function() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> object:
        return {"x": object()}

    with pytest.raises(PerdureError, match=r"the result of function 'shop-f': \$\.x"):
        await execution(f, ScriptedHost()).run()


async def test_a_typed_result_is_stored_as_json() -> None:
    @App("shop").function("f")
    async def f(ctx: Context) -> Charge:
        return CHARGE

    assert msgspec.json.decode(await execution(f, ScriptedHost()).run(), type=Charge) == CHARGE
