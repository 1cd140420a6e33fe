"""`perdure.serve` under a server that the test plays: calls, answers, and what the app asks of its server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Unpack

import httpx2
import pytest

from perdure import App, Context, NonRetriableError, PerdureError, RetryAfterError, StepError, step
from perdure.model.ids import step_hash
from perdure.model.jcs import canonical
from perdure.model.json import Json
from perdure.model.keys import SigningKey
from perdure.sdk.app import FunctionDecorator
from perdure.serving.asgi import ServedApp
from perdure.serving.endpoint import Endpoint
from perdure.serving.settings import ServeOptions, resolve
from perdure.sync import step as blocking
from tests.support.fake_server import NOW, PATH, RUN_ID, FakeServer, fake_server

KEY = "signkey-prod-00ff00ff"
OLD_KEY = "signkey-prod-11aa11aa"


@pytest.fixture
async def server() -> AsyncGenerator[FakeServer, None]:
    async with fake_server() as started:
        yield started


@asynccontextmanager
async def serving(
    app: App, server: FakeServer, env: str | None = None, **options: Unpack[ServeOptions]
) -> AsyncGenerator[None, None]:
    """The app, as `server` reaches it: for development, unless it has a key. Its clock stands still."""
    options.setdefault("base_url", server.url)
    options.setdefault("is_dev", "signing_key" not in options)
    endpoint = Endpoint(app, resolve(options, {} if env is None else {"INNGEST_ENV": env}), lambda: NOW)
    transport = httpx2.ASGITransport(ServedApp(endpoint))
    async with httpx2.AsyncClient(transport=transport, base_url="http://app.test:3000") as http:
        server.http = http
        yield


def function(app: App) -> FunctionDecorator:
    return app.function("f", trigger="t/start")


def counted(done: list[str], name: str) -> int:
    done.append(name)
    return len(done)


# Steps.


async def test_steps_are_recorded_while_the_call_goes_on(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> list[Json]:
        return [await step.run("a", lambda: {"x": 1}), await step.run("b", lambda: 2)]

    async with serving(app, server):
        ended = await server.play("shop-f")
    assert ended.result == [{"x": 1}, 2]
    assert server.calls == [("step", 206)]
    assert server.ops == [("StepRun (checkpoint)", "a"), ("StepRun (checkpoint)", "b"), ("RunComplete", "")]
    first = server.checkpoints[0]
    assert {key: first[key] for key in ("run_id", "fn_id", "qi_id", "request_id", "generation_id", "ts")} == {
        "run_id": RUN_ID, "fn_id": "FN", "qi_id": "QI", "request_id": "REQ", "generation_id": 1, "ts": NOW,
    }  # fmt: skip
    assert first["steps"][0]["timing"] == {"a": NOW * 1_000_000, "b": 0}


async def test_without_checkpoints_every_step_is_a_call(server: FakeServer) -> None:
    app = App("shop")
    done: list[str] = []

    @function(app)
    async def f(ctx: Context) -> int:
        return await step.run("a", counted, done, "a") + await step.run("a", counted, done, "b")

    server.checkpointing = False
    async with serving(app, server):
        ended = await server.play("shop-f")
    assert ended.result == 3 and done == ["a", "b"]
    assert server.calls == [("step", 206), ("step", 206), ("step", 200)]
    assert [op["id"] for op in server.reported] == [step_hash("a"), step_hash("a", 1)]


@pytest.mark.parametrize("checkpointing", [False, True])
async def test_the_option_turns_checkpoints_off(server: FakeServer, checkpointing: bool) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> int:
        return await step.run("a", lambda: 1)

    async with serving(app, server, checkpointing=checkpointing):
        ended = await server.play("shop-f")
    assert ended.result == 1 and len(server.checkpoints) == int(checkpointing)


async def test_a_step_that_the_server_does_not_record_goes_into_the_answer(server: FakeServer) -> None:
    app = App("shop")
    done: list[int] = []

    @function(app)
    async def f(ctx: Context) -> int:
        await step.run("a", lambda: done.append(1))
        return await step.run("b", lambda: 2)

    server.refuse = 500
    async with serving(app, server):
        ended = await server.play("shop-f")
    assert ended.result == 2 and done == [1]
    assert server.calls == [("step", 206), ("step", 206), ("step", 200)]


async def test_a_call_that_the_server_gave_up_ends_at_once(server: FakeServer) -> None:
    app = App("shop")
    done: list[str] = []

    @function(app)
    async def f(ctx: Context) -> None:
        await step.run("a", lambda: done.append("a"))
        await step.run("b", lambda: done.append("b"))

    server.refuse = 409
    async with serving(app, server):
        answer = await server.call("shop-f")
    assert answer.status_code == 400 and answer.headers["x-inngest-no-retry"] == "true"
    assert answer.json()["code"] == "stale_dispatch" and done == ["a"]


async def test_steps_beside_each_other_are_planned_and_executed_each_in_a_call_of_its_own(server: FakeServer) -> None:
    app = App("shop")
    done: list[str] = []

    @function(app)
    async def f(ctx: Context) -> list[Json]:
        first = await step.run("first", lambda: 0)
        rest = await asyncio.gather(
            step.run("p1", counted, done, "p1"), step.sleep("nap", "5s"), step.run("p2", lambda: 2)
        )
        return [first, *rest, await step.run("after", lambda: 3)]

    async with serving(app, server):
        ended = await server.play("shop-f")
    assert ended.result == [0, 1, None, 2, 3] and done == ["p1"]
    assert server.ops == [
        ("StepRun (checkpoint)", "first"),
        ("StepPlanned", "p1"), ("Sleep", "nap"), ("StepPlanned", "p2"),
        ("StepRun", "p1"),
        ("StepRun", "p2"),
        ("StepRun (checkpoint)", "after"), ("RunComplete", ""),
    ]  # fmt: skip
    # Whatever is done first lets the handler go on, as it does in process.
    assert all(op["opts"]["parallelMode"] == "race" for op in server.reported[:5])


async def test_branches_go_on_independently(server: FakeServer) -> None:
    app = App("shop")

    async def branch(name: str) -> int:
        return await step.run(f"{name}1", lambda: 1) + await step.run(f"{name}2", lambda: 2)

    @function(app)
    async def f(ctx: Context) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(name)) for name in "ab"]
        return [task.result() for task in tasks]

    async with serving(app, server):
        a1, b1 = [op["id"] for op in (await server.call("shop-f")).json()]
        (ran,) = (await server.call("shop-f", a1)).json()
        server.memos[a1] = {"data": ran["data"]}
        again = (await server.call("shop-f")).json()
        # b1 is asked for again, for the server knows which of its steps are on their way, and nobody else does.
        assert [(op["op"], op["name"]) for op in again] == [("StepPlanned", "a2"), ("StepPlanned", "b1")]
        assert again[1]["id"] == b1
        assert (await server.play("shop-f")).result == [3, 3]


async def test_the_winner_of_a_race_goes_on_and_a_loser_is_never_executed_twice(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> str:
        fast = asyncio.ensure_future(step.run("fast", lambda: "fast"))
        slow = asyncio.ensure_future(step.run("slow", lambda: "slow"))
        done, _ = await asyncio.wait([fast, slow], return_when=asyncio.FIRST_COMPLETED)
        return await step.run("after", lambda: next(iter(done)).result())

    async with serving(app, server):
        fast, _ = [op["id"] for op in (await server.call("shop-f")).json()]
        server.memos[fast] = {"data": "fast"}
        again = (await server.call("shop-f")).json()
        assert [(op["op"], op["name"]) for op in again] == [("StepPlanned", "slow"), ("StepPlanned", "after")]
        ran = (await server.call("shop-f", step_hash("after"))).json()
        assert [(op["op"], op["data"]) for op in ran] == [("StepRun", "fast")]
        server.memos[step_hash("after")] = {"data": "fast"}
        assert (await server.call("shop-f")).json() == "fast"


async def test_a_single_step_is_planned_when_the_server_asks_for_plans(server: FakeServer) -> None:
    app = App("shop")
    done: list[int] = []

    @function(app)
    async def f(ctx: Context) -> None:
        await step.run("a", lambda: done.append(1))

    async with serving(app, server):
        answer = await server.call("shop-f", disable_immediate_execution=True)
    assert [(op["op"], op["opts"]) for op in answer.json()] == [("StepPlanned", {})] and not done


async def test_a_step_that_the_handler_does_not_come_upon_is_an_error(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.serving.host._PATIENCE", 0.05)
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        await step.run("new", lambda: 1)

    async with serving(app, server):
        answer = await server.call("shop-f", step_hash("old"))
    assert answer.status_code == 500 and answer.headers["x-inngest-no-retry"] == "false"
    assert "did not come upon step" in answer.json()["message"] and "'new'" in answer.json()["message"]


async def test_a_handler_may_await_other_things_before_and_between_steps(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> int:
        await asyncio.sleep(0.01)
        found = await step.run("a", lambda: 1)
        await asyncio.sleep(0.01)
        return found + await step.run("b", lambda: 2)

    async with serving(app, server):
        assert (await server.play("shop-f")).result == 3


async def test_a_step_that_is_cut_short_lets_the_handler_go_on(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> str:
        try:
            async with asyncio.timeout(0.02):
                await step.run("long", lambda: asyncio.sleep(60))
        except TimeoutError:
            return await step.run("instead", lambda: "instead")
        return "never"

    async with serving(app, server):
        assert (await server.play("shop-f")).result == "instead"


# Waits.


async def test_waits_are_asked_of_the_server_in_the_words_of_the_protocol(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> dict[str, Json]:
        await step.sleep("nap", "1m30s")
        reply = await step.wait_for_event("reply", event="t/reply", timeout="1d", match="data.id")
        nothing = await step.wait_for_event("no reply", event="t/reply", timeout="2h")
        signal = await step.wait_for_signal("signal", signal="s/1", timeout="10s", on_conflict="replace")
        late = await step.wait_for_signal("late", signal="s/2", timeout=1.5)
        child = await step.invoke("child", "shop-child", data={"n": 1}, user={"id": "u"}, v="2", timeout="1h")
        return {
            "reply": reply and reply.data,
            "nothing": nothing,
            "signal": signal and [signal.signal, signal.data],
            "late": late,
            "child": child,
        }

    server.answers = {
        "reply": {"name": "t/reply", "data": {"id": 7}, "id": "e", "ts": NOW, "user": {}},
        "signal": {"data": {"signal": "s/1", "data": {"a": 1}}},
        "child": {"data": {"got": 1}},
    }
    async with serving(app, server):
        ended = await server.play("shop-f")
    assert ended.result == {
        "reply": {"id": 7}, "nothing": None, "signal": ["s/1", {"a": 1}], "late": None, "child": {"got": 1}
    }  # fmt: skip
    assert [(op["op"], op["name"], op["opts"]) for op in server.reported] == [
        ("Sleep", "1m30s", {"duration": "1m30s"}),
        ("WaitForEvent", "t/reply", {"event": "t/reply", "timeout": "1d", "if": "event.data.id == async.data.id"}),
        ("WaitForEvent", "t/reply", {"event": "t/reply", "timeout": "2h"}),
        ("WaitForSignal", "s/1", {"signal": "s/1", "timeout": "10s", "conflict": "replace"}),
        ("WaitForSignal", "s/2", {"signal": "s/2", "timeout": "1s500ms", "conflict": "fail"}),
        (
            "InvokeFunction",
            "child",
            {
                "function_id": "shop-child",
                "payload": {"data": {"n": 1}, "user": {"id": "u"}, "v": "2"},
                "timeout": "1h",
            },
        ),
    ]


async def test_a_sleep_until_a_time_is_a_span_from_now(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        await step.sleep_until("later", NOW + 5000)

    async with serving(app, server):
        (op,) = (await server.call("shop-f")).json()
    assert op["opts"] == {"duration": "5s"} and op["displayName"] == "later"


async def test_an_invoked_run_that_failed_is_a_step_error(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> list[str]:
        try:
            await step.invoke("child", "shop-child")
        except StepError as error:
            return [error.name, error.message, str(error.info.cause and error.info.cause.message)]
        return []

    server.answers["child"] = {"error": {"error": "NonRetriableError", "message": "no", "cause": {"message": "why"}}}
    async with serving(app, server):
        assert (await server.play("shop-f")).result == ["Error", "no", "why"]


# Failures.


async def test_a_step_is_attempted_again_in_another_call(server: FakeServer) -> None:
    app = App("shop")
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise RetryAfterError("busy", timedelta(milliseconds=1500))
        return "done"

    @function(app)
    async def f(ctx: Context) -> str:
        return await step.run("flaky", flaky)

    async with serving(app, server):
        answer = await server.call("shop-f")
        (op,) = answer.json()
        assert (op["op"], op["error"]["name"], op["error"]["message"]) == ("StepError", "RetryAfterError", "busy")
        assert "in flaky" in op["error"]["stack"] and "perdure/serving" not in op["error"]["stack"]
        assert answer.status_code == 206 and answer.headers["retry-after"] == "2"
        assert (await server.play("shop-f")).result == "done"


async def test_a_step_that_failed_for_good_can_be_caught(server: FakeServer) -> None:
    app = App("shop")

    def fail(kind: type[Exception]) -> None:
        raise kind("no")

    @function(app)
    async def f(ctx: Context) -> list[str]:
        found: list[str] = []
        for kind in (NonRetriableError, ValueError):
            try:
                await step.with_(retries=1).run(kind.__name__, fail, kind)
            except StepError as error:
                found.append(error.name)
        return found

    async with serving(app, server):
        assert (await server.play("shop-f")).result == ["NonRetriableError", "ValueError"]
    assert server.ops == [
        ("StepFailed", "NonRetriableError"), ("StepError", "ValueError"), ("StepFailed", "ValueError")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "status", "no_retry", "delay"),
    [
        (lambda: ValueError("boom"), 500, "false", None),
        (lambda: NonRetriableError("boom"), 400, "true", None),
        (lambda: RetryAfterError("boom", 7), 500, "false", "7"),
        (lambda: SystemExit("boom"), 500, "false", None),
    ],
)
async def test_an_error_of_the_handler(
    server: FakeServer, make: Callable[[], BaseException], status: int, no_retry: str, delay: str | None
) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        raise make() from KeyError("why")

    async with serving(app, server):
        answer = await server.call("shop-f")
    assert answer.status_code == status and answer.headers["x-inngest-no-retry"] == no_retry
    assert answer.headers.get("retry-after") == delay
    error = answer.json()
    assert (error["name"], error["message"]) == (type(make()).__name__, "boom")
    assert error["cause"]["message"] == "key 'why' is missing" and "in f" in error["stack"]


async def test_a_handler_that_cancels_itself_fails_for_good(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        raise asyncio.CancelledError

    async with serving(app, server):
        answer = await server.call("shop-f")
    assert answer.status_code == 400 and answer.json()["message"] == "the handler was cancelled from within"


async def test_what_the_handler_holds_is_let_go_before_the_answer(server: FakeServer) -> None:
    app = App("shop")
    log: list[str] = []

    @function(app)
    async def f(ctx: Context) -> None:
        try:
            await step.sleep("nap", "1h")
        finally:
            log.append("closed")
            await step.run("in finally", lambda: log.append("never"))

    async with serving(app, server):
        answer = await server.call("shop-f")
    assert [op["op"] for op in answer.json()] == ["Sleep"] and log == ["closed"]


# Plain handlers.


async def test_a_plain_handler_blocks_in_its_thread(server: FakeServer) -> None:
    app = App("shop")
    threads: list[int] = []

    @function(app)
    def f(ctx: Context) -> Json:
        threads.append(threading.get_ident())
        found = blocking.run("a", lambda: 1)
        blocking.sleep("nap", "1h")
        return [found, blocking.run("b", lambda: 2)]

    async with serving(app, server):
        assert (await server.play("shop-f")).result == [1, 2]
    assert threading.get_ident() not in threads
    assert server.ops == [
        ("StepRun (checkpoint)", "a"), ("Sleep", "nap"), ("StepRun (checkpoint)", "b"), ("RunComplete", "")
    ]  # fmt: skip


# Events, signals, fetch.


async def test_events_of_a_step_are_sent_with_ids_that_stay(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> Json:
        return await step.send_event("tell", [{"name": "t/one", "data": {"n": 1}}, {"name": "t/two"}])

    async with serving(app, server, event_key="my-key"):
        server.refuse = 500
        await server.call("shop-f")
        server.refuse = 0
        assert (await server.play("shop-f")).result == ["ID0", "ID1"]
    (first_key, first_seed, events), (_, second_seed, _), *_ = server.events
    assert first_key == "my-key" and [event["name"] for event in events] == ["t/one", "t/two"]
    assert first_seed == second_seed and first_seed.split(",")[0].isdecimal()
    (sent,) = server.checkpoints[1]["steps"]
    assert (sent["op"], sent["opts"], sent["data"]) == ("StepRun", {"type": "step.sendEvent"}, ["ID0", "ID1"])


async def test_events_that_the_server_refuses_fail_the_step_for_good(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        await step.send_event("tell", {"name": "bad"})

    async with serving(app, server):
        (op,) = (await server.call("shop-f")).json()
    assert op["op"] == "StepFailed" and "event name is bad" in op["error"]["message"]


async def test_a_server_that_is_not_there_is_tried_again(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> None:
        await step.send_event("tell", {"name": "t/one"})

    async with serving(app, server, base_url="http://127.0.0.1:9"):
        (op,) = (await server.call("shop-f")).json()
    assert op["op"] == "StepError" and "no answer from the server at http://127.0.0.1:9" in op["error"]["message"]


async def test_signals_tell_whether_somebody_waited(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> list[bool]:
        found = await step.send_signal("one", signal="somebody", data={"n": 1})
        return [found, await step.send_signal("two", signal="nobody")]

    async with serving(app, server):
        assert (await server.play("shop-f")).result == [True, False]
    assert server.signals == [{"signal": "somebody", "data": {"n": 1}}, {"signal": "nobody", "data": None}]


async def test_a_fetch_is_done_by_the_app(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> Json:
        found = await step.fetch("get", f"{server.url}/page")
        return [found.status_code, found.body]

    async with serving(app, server):
        assert (await server.play("shop-f")).result == [418, "a page"]
    assert server.checkpoints[0]["steps"][0]["opts"]["type"] == "step.fetch"


async def test_app_send_goes_to_the_server(server: FakeServer) -> None:
    app = App("shop")
    with pytest.raises(PerdureError, match=r"perdure\.serve"):
        await app.send({"name": "t/one"})
    async with serving(app, server):
        assert await app.send([{"name": "t/one"}]) == ["ID0"]
        with pytest.raises(ValueError, match="event name is bad"):
            await app.send({"name": "bad"})
    assert server.events[0][0] == "NO_EVENT_KEY_SET"


# The run as the handler sees it.


async def test_the_context_is_that_of_the_call(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> Json:
        event = ctx.event
        return [ctx.run_id, ctx.function_id, ctx.attempt, ctx.max_attempts, event.id, event.user, event.v, event.data]

    async with serving(app, server):
        answer = await server.call("shop-f", event={"data": {"a": 1}, "v": "7"}, attempt=2)
    assert answer.json() == [RUN_ID, "shop-f", 2, 5, "event-1", None, "7", {"a": 1}]


async def test_state_that_is_too_large_is_fetched(server: FakeServer) -> None:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> Json:
        return [ctx.event.id, await step.run("a", lambda: "executed")]

    server.memos[step_hash("a")] = {"data": "recorded"}
    async with serving(app, server, signing_key=KEY):
        server.key = SigningKey.parse(KEY)
        body = {**server.body(use_api=True), "steps": {}, "events": [], "event": {}}
        answer = await server.call("shop-f", body=body)
    assert answer.json() == ["event-1", "recorded"]
    bearers = {headers["Authorization"] for _, _, headers in server.requests}
    assert bearers == {f"Bearer {SigningKey.parse(KEY).bearer}"}


async def test_a_failure_handler_is_a_function_of_its_own(server: FakeServer) -> None:
    app = App("shop")

    async def failed(ctx: Context) -> Json:
        return ctx.event.data["error"]["message"]

    @app.function("f", trigger="t/start", on_failure=failed)
    async def f(ctx: Context) -> None: ...

    async with serving(app, server):
        await server.http.put(PATH)
        event = {"name": "inngest/function.failed", "data": {"error": {"message": "boom"}}}
        assert (await server.call("shop-f-failure", event=event)).json() == "boom"
    assert [each["id"] for each in server.registered[0]["functions"]] == ["shop-f", "shop-f-failure"]


# Who asks, and what for.


def plain_app() -> App:
    app = App("shop")

    @function(app)
    async def f(ctx: Context) -> str:
        return "done"

    return app


async def test_a_sync_registers_the_app_where_the_request_came_in(server: FakeServer) -> None:
    async with serving(plain_app(), server):
        answer = await server.http.put(f"{PATH}?deployId=d1", json={"url": "x"})
    assert answer.status_code == 200 and answer.json()["ok"] is True
    assert answer.headers["x-inngest-sync-kind"] == "out_of_band"
    assert server.requests[0][:2] == ("POST", "/fn/register?deployId=d1")
    (document,) = server.registered
    assert document["url"] == "http://app.test:3000/api/inngest" and document["appName"] == "shop"
    runtime = document["functions"][0]["steps"]["step"]["runtime"]
    assert runtime["url"] == "http://app.test:3000/api/inngest?fnId=shop-f&stepId=step"


async def test_the_place_of_the_app_can_be_told(server: FakeServer) -> None:
    async with serving(plain_app(), server, serve_origin="https://shop.example", serve_path="/hook"):
        await server.http.put(PATH)
    assert server.registered[0]["url"] == "https://shop.example/hook"


async def test_in_production_no_unsigned_request_says_where_the_app_is(server: FakeServer) -> None:
    """Or whoever sends one would be called instead of the app."""
    async with serving(plain_app(), server, is_dev=False, signing_key=KEY):
        refused = await server.http.put(PATH, headers={"host": "evil.example"})
        assert refused.status_code == 401 and "serve_origin" in refused.json()["message"]
        assert not server.registered
        body = canonical({"url": "x"})
        signed = {"x-inngest-signature": SigningKey.parse(KEY).sign(body, NOW)}
        assert (await server.http.put(PATH, content=body, headers=signed)).status_code == 200
        assert (await server.http.put(PATH, headers={"host": "localhost:3000"})).status_code == 200
    async with serving(plain_app(), server, is_dev=False, signing_key=KEY, serve_origin="https://shop.example"):
        assert (await server.http.put(PATH, headers={"host": "evil.example"})).status_code == 200
    urls = [document["url"] for document in server.registered]
    assert urls == [
        f"{place}/api/inngest" for place in ("http://app.test:3000", "http://localhost:3000", "https://shop.example")
    ]


async def test_a_sync_in_band_answers_with_the_registration(server: FakeServer) -> None:
    async with serving(plain_app(), server):
        answer = await server.http.put(PATH, headers={"x-inngest-sync-kind": "in_band"})
    body = answer.json()
    assert answer.headers["x-inngest-sync-kind"] == "in_band" and not server.registered
    assert (body["app_id"], body["functions"][0]["id"], body["sdk_language"]) == ("shop", "shop-f", "py")
    assert body["inspection"]["function_count"] == 1


async def test_a_server_that_is_away_is_named(server: FakeServer) -> None:
    async with serving(plain_app(), server, base_url="http://127.0.0.1:9"):
        answer = await server.http.put(PATH)
    assert answer.status_code == 500 and "INNGEST_BASE_URL" in answer.json()["message"]


async def test_introspection_in_development_tells_no_secret(server: FakeServer) -> None:
    async with serving(plain_app(), server, event_key="my-key"):
        answer = await server.http.get(PATH)
    assert answer.json() == {
        "schema_version": "2024-05-24", "function_count": 1, "has_event_key": True, "has_signing_key": False,
        "has_signing_key_fallback": False, "mode": "dev",
    }  # fmt: skip
    assert answer.headers["x-inngest-sdk"].startswith("perdure-py:v")
    assert answer.headers["x-inngest-expected-server-kind"] == "dev"


async def test_in_production_only_signed_requests_are_answered(server: FakeServer) -> None:
    key, old = SigningKey.parse(KEY), SigningKey.parse(OLD_KEY)
    async with serving(plain_app(), server, signing_key=KEY, signing_key_fallback=OLD_KEY, event_key="my-key"):
        for signer in (None, SigningKey.parse("22bb")):
            server.key = signer
            refused = await server.call("shop-f")
            assert refused.status_code == 401 and refused.json() == {"message": "Unauthorized"}
            assert refused.headers["x-inngest-sdk-handled"] == "true" and "x-inngest-sdk" not in refused.headers
        assert (await server.http.get(PATH)).status_code == 401
        for signer in (key, old):
            server.key = signer
            answer = await server.call("shop-f")
            assert answer.json() == "done"
            assert signer.verify(answer.content, answer.headers["x-inngest-signature"], NOW)
        expired = {"x-inngest-signature": key.sign(b"", NOW - 6 * 60 * 1000)}
        assert (await server.http.get(PATH, headers=expired)).status_code == 401
        told = (await server.http.get(PATH, headers={"x-inngest-signature": key.sign(b"", NOW)})).json()
    assert told["authentication_succeeded"] is True and told["app_id"] == "shop" and told["mode"] == "cloud"
    assert told["signing_key_hash"] == key.bearer.removeprefix("signkey-prod-")[:12]
    assert "my-key" not in str(told) and "00ff00ff" not in str(told)


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PUT", "GET", "POST"])
async def test_nothing_is_signed_for_a_caller_that_did_not_sign(server: FakeServer, method: str) -> None:
    # A signed answer could be sent back as the signed body of a request.
    async with serving(plain_app(), server, signing_key=KEY):
        answer = await server.http.request(method, PATH)
        assert "x-inngest-signature" not in answer.headers
    async with serving(plain_app(), server, signing_key=KEY, base_url="http://127.0.0.1:9"):
        answer = await server.http.request(method, PATH)
        assert "x-inngest-signature" not in answer.headers


async def test_no_hash_of_a_key_is_told_to_a_caller_that_did_not_sign(server: FakeServer) -> None:
    # Keys of production are often in the environment of an app in development.
    async with serving(plain_app(), server, signing_key=KEY, event_key="my-key", is_dev=True):
        answer = await server.http.put(PATH, headers={"x-inngest-sync-kind": "in_band"})
    told = answer.json()["inspection"]
    assert answer.status_code == 200 and told["has_signing_key"] is True
    assert not any("hash" in name for name in told)
    assert SigningKey.parse(KEY).bearer.removeprefix("signkey-prod-")[:12] not in answer.text


async def test_a_large_body_is_not_written_anew_for_anybody(server: FakeServer) -> None:
    key = SigningKey.parse(KEY)
    async with serving(plain_app(), server, signing_key=KEY):
        text = "x" * 1024 * 1024
        sent = {"event": {"name": "t/start", "data": text}, "ctx": {"run_id": RUN_ID}, "steps": {}, "version": 2}
        headers = {"x-inngest-signature": key.sign(canonical(sent), NOW)}
        answer = await server.http.post(f"{PATH}?fnId=shop-f&stepId=step", json=sent, headers=headers)
    assert answer.status_code == 401


async def test_a_host_that_is_none_is_refused(server: FakeServer) -> None:
    async with serving(plain_app(), server, signing_key=KEY):
        answer = await server.http.put(PATH, headers={"host": "["})
    assert answer.status_code == 400 and "Host" in answer.json()["message"] and not server.registered


async def test_a_body_that_was_written_anew_on_its_way_is_still_signed(server: FakeServer) -> None:
    key = SigningKey.parse(KEY)
    async with serving(plain_app(), server, signing_key=KEY):
        sent = {"event": {"name": "t/start", "data": {}}, "ctx": {"run_id": RUN_ID}, "steps": {}, "version": 2}
        headers = {"x-inngest-signature": key.sign(canonical(sent), NOW)}
        answer = await server.http.post(f"{PATH}?fnId=shop-f&stepId=step", json=sent, headers=headers)
    assert answer.json() == "done"


async def test_a_refused_key_is_followed_by_the_fallback(server: FakeServer) -> None:
    server.accepts = f"Bearer {SigningKey.parse(OLD_KEY).bearer}"
    async with serving(plain_app(), server, signing_key=KEY, signing_key_fallback=OLD_KEY):
        answer = await server.http.put(PATH, headers={"host": "localhost:3000"})
    assert answer.status_code == 200 and len(server.registered) == 1
    tried = [headers["Authorization"] for _, _, headers in server.requests]
    assert tried == [f"Bearer {SigningKey.parse(text).bearer}" for text in (KEY, OLD_KEY)]


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("fnId=shop-nope&stepId=step", {}, 500, "function_not_found"),
        ("stepId=step", {}, 400, "query_param_missing"),
        ("fnId=shop-f&stepId=step", {}, 400, "invalid_call"),
        ("fnId=shop-f", {"ctx": {"run_id": "1"}, "event": {"name": 5}}, 400, "invalid_call"),
        ("fnId=shop-f", {"ctx": {"run_id": "1"}, "version": 9, "event": {"name": "a"}}, 400, "invalid_call"),
    ],
)
async def test_calls_that_cannot_be_understood(
    server: FakeServer, query: str, body: Json, status: int, code: str
) -> None:
    async with serving(plain_app(), server):
        answer = await server.http.post(f"{PATH}?{query}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "x-inngest-sdk" in answer.headers


@pytest.mark.parametrize("version", [-1, 1, 2])
async def test_every_version_of_the_request_is_understood(server: FakeServer, version: int) -> None:
    async with serving(plain_app(), server):
        body = {**server.body(), "version": version}
        answer = await server.http.post(
            f"{PATH}?fnId=shop-f&stepId=step", json=body, headers={"x-inngest-req-version": str(version)}
        )
    assert answer.status_code == 200
    assert answer.headers["x-inngest-req-version"] == ("1" if version == 1 else "2")


async def test_other_methods_and_the_probe(server: FakeServer) -> None:
    async with serving(plain_app(), server):
        assert (await server.http.delete(PATH)).status_code == 405
        assert (await server.http.post(f"{PATH}?probe=trust")).status_code == 200
        assert (await server.http.head(PATH)).content == b""


async def test_an_app_tells_its_environment_and_asks_in_it(server: FakeServer) -> None:
    async with serving(plain_app(), server, env="feature/carts"):
        answer = await server.http.put(PATH)
    assert answer.headers["x-inngest-env"] == "feature/carts"
    _, _, headers = server.requests[0]
    assert {name.lower(): value for name, value in headers.items()}["x-inngest-env"] == "feature/carts"
