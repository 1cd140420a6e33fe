"""Runs of apps on other servers: what they are called with, and what comes of their answers (part C)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from perdure.apps.gateway import GatewayFailure
from perdure.apps.run import RemoteCode, StaleCallError, UnknownRunError
from perdure.apps.transport import Call, CallError, Reply
from perdure.model.config import Concurrency
from perdure.model.errors import ErrorInfo, RunFailedError
from perdure.model.json import Json, decode, encode
from perdure.model.records import RunStatus
from perdure.node import Node
from perdure.testing import VirtualClock
from tests.support.remote_app import Received, RemoteApp, calling, config, done, no_gateway, op, ops, reply, sha


def steps_of(app: RemoteApp) -> list[str]:
    """For which steps the app was called."""
    return [received.step for received in app.calls]


async def result_of(node: Node, data: Json = None, function: str = "app-f") -> Json:
    run = await node.trigger(function, data)
    await node.drain()
    return await run.result(timeout=0)


async def failure_of(node: Node, function: str = "app-f") -> ErrorInfo:
    with pytest.raises(RunFailedError) as caught:
        await result_of(node, function=function)
    assert caught.value.info is not None
    return caught.value.info


async def test_steps_one_after_another_get_what_was_recorded() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("a"):
            return ops(done("a", {"x": 1}))
        if not received.has("b"):
            return ops(done("b", [received.memo("a")["data"]["x"] + 1]))
        return reply({"b": received.memo("b")})

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node, {"k": 1}) == {"b": {"data": [2]}}
    first, second, third = app.calls
    assert first.call.url == "http://app.test/api/inngest?fnId=app-f&stepId=step"
    assert [received.body["version"] for received in app.calls] == [-1, 2, 2]
    assert [received.call.headers["x-inngest-req-version"] for received in app.calls] == ["-1", "2", "2"]
    assert second.ctx["stack"] == {"current": 1, "stack": [sha("a")]}
    assert third.ctx["stack"]["stack"] == [sha("a"), sha("b")]
    assert first.body["event"]["data"]["k"] == 1
    assert first.body["events"] == [first.body["event"]]
    assert first.body["event"]["user"] == {}
    assert first.ctx["attempt"] == 0 and first.ctx["max_attempts"] == 4
    assert first.ctx["disable_immediate_execution"] is False
    assert first.ctx["run_id"] and first.ctx["fn_id"] and first.ctx["qi_id"]
    assert len({received.request_id for received in app.calls}) == 3


async def test_a_group_of_parallel_steps_is_discovered_once() -> None:
    def answer(received: Received) -> Reply:
        for step in ("p1", "p2"):
            if received.step == sha(step):
                return ops(done(step, step))
        if received.has("p1", "p2", "p3"):
            return reply("together")
        return ops(op("StepPlanned", "p1"), op("StepPlanned", "p2"), {**op("Sleep", "p3"), "name": "1h"})

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == "together"
    assert sorted(steps_of(app)[1:3]) == sorted([sha("p1"), sha("p2")])
    assert steps_of(app)[0] == steps_of(app)[3] == "step" and len(app.calls) == 4
    assert [received.ctx["disable_immediate_execution"] for received in app.calls] == [False, True, True, False]
    assert app.calls[1].call.url.endswith(f"stepId={app.calls[1].step}")
    assert app.calls[1].ctx["step_id"] == "step"


async def test_version_1_discovers_after_each_parallel_step() -> None:
    both = asyncio.Event()

    async def answer(received: Received) -> Reply:
        if received.step == sha("p1"):
            return ops(done("p1", 1), version=1)
        if received.step == sha("p2"):
            await both.wait()
            return ops(done("p2", 2), version=1)
        if received.has("p1", "p2"):
            return reply("both", version=1)
        if received.has("p1"):
            both.set()
            assert received.ctx["disable_immediate_execution"] is True
        return ops(op("StepPlanned", "p1"), op("StepPlanned", "p2"), version=1)

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == "both"
    assert steps_of(app).count("step") == 3


async def test_in_a_race_the_loser_is_not_waited_for() -> None:
    race = {"parallelMode": "race"}

    def answer(received: Received) -> Reply:
        if received.step == sha("r1"):
            return ops(done("r1", "first", opts=race))
        loser = {**op("Sleep", "r2"), "name": "30d", "opts": race}
        if not received.has("r1"):
            return ops(op("StepPlanned", "r1", opts=race), loser)
        if not received.has("after"):
            assert received.ctx["disable_immediate_execution"] is False
            return ops(done("after", received.memo("r1")))
        return reply([{"op": "RunComplete", "id": "x", "data": received.memo("after")}], 206)

    app = RemoteApp(answer)
    clock = VirtualClock()
    async with calling(app, clock=clock) as node:
        began = clock.now()
        run = await node.trigger("app-f")
        await node.settle()
        assert await run.result(timeout=0) == {"data": {"data": "first"}}
        assert clock.now() == began


async def test_a_failed_step_is_tried_again_and_then_told() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("shaky"):
            attempt = received.ctx["attempt"]
            if attempt < 2:
                return ops(op("StepError", "shaky", error={"name": "E", "message": f"no {attempt}"}))
            return ops(done("shaky", attempt))
        if not received.has("bad"):
            kind = "StepFailed" if received.ctx["attempt"] == 3 else "StepError"
            error = {"name": "E", "message": "never", "stack": "s", "code": "unknown", "cause": "why"}
            return ops(op(kind, "bad", error=error))
        return reply({"shaky": received.memo("shaky"), "bad": received.memo("bad")})

    app = RemoteApp(answer)
    async with calling(app) as node:
        told = await result_of(node)
    error = {"name": "E", "message": "never", "stack": "s", "cause": "why"}
    assert told == {"shaky": {"data": 2}, "bad": {"error": error}}
    assert [received.ctx["attempt"] for received in app.calls] == [0, 1, 2, 0, 1, 2, 3, 0]
    assert [received.ctx["generation_id"] for received in app.calls][:3] == [1, 2, 3]
    assert len({received.ctx["job_id"] for received in app.calls[:3]}) == 1


async def test_retry_after_and_no_retry_of_a_step() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("later"):
            if received.ctx["attempt"] == 0:
                return ops(op("StepError", "later", error={"message": "m"}), headers={"retry-after": "7200"})
            return ops(done("later"))
        if not received.has("final"):
            return ops(op("StepError", "final", error={"message": "m", "noRetry": True}))
        return reply()

    app, clock = RemoteApp(answer), VirtualClock()
    async with calling(app, clock=clock) as node:
        began = clock.now()
        await result_of(node)
        assert clock.now() - began == 7_200_000
    assert len(app.calls) == 4


async def test_a_planned_step_is_retried_by_itself() -> None:
    def answer(received: Received) -> Reply:
        if received.step == sha("p1"):
            if received.ctx["attempt"] == 0:
                return ops(op("StepError", "p1", error={"name": "E", "message": "m"}))
            if received.ctx["attempt"] == 1:
                return reply({"name": "E", "message": "not even an operation"}, 500)
            return ops(done("p1"))
        if received.step == sha("p2"):
            return ops(done("p2"))
        if received.has("p1", "p2"):
            return reply("ok")
        return ops(op("StepPlanned", "p1"), op("StepPlanned", "p2"))

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == "ok"
    assert steps_of(app).count("step") == 2 and steps_of(app).count(sha("p1")) == 3


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        (lambda _: reply({"name": "E", "message": "m"}, 500), 4),
        (lambda _: reply({"name": "E", "message": "m"}, 400), 4),
        (lambda _: reply({"name": "E", "message": "m"}, 400, headers={"x-inngest-no-retry": "true"}), 1),
        (lambda _: reply({"name": "E", "message": "m"}, 200, headers={"x-inngest-no-retry": "true"}), 1),
        (lambda received: reply({"name": "E", "message": "m"}, 500, headers={"retry-after": "1"}), 4),
    ],
)
async def test_a_failing_function_uses_its_attempts(answer: Callable[[Received], Reply], calls: int) -> None:
    app = RemoteApp(answer)
    async with calling(app) as node:
        failure = await failure_of(node)
    assert (failure.name, failure.message, len(app.calls)) == ("E", "m", calls)
    assert [received.ctx["attempt"] for received in app.calls] == list(range(calls))


async def test_attempts_count_anew_when_the_run_got_on() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("a"):
            return ops(done("a")) if received.ctx["attempt"] == 2 else reply({"message": "m"}, 500)
        return reply() if received.ctx["attempt"] == 3 else reply({"message": "m"}, 500)

    app = RemoteApp(answer)
    async with calling(app) as node:
        await result_of(node)
    assert [received.ctx["attempt"] for received in app.calls] == [0, 1, 2, 0, 1, 2, 3]


async def test_an_app_that_cannot_be_reached_is_tried_again() -> None:
    tries = 0

    class Down:
        async def call(self, call: Call) -> Reply:
            nonlocal tries
            tries += 1
            raise CallError("http_unreachable", "Unable to reach SDK URL; is it running?")

    app = RemoteApp(lambda _: reply())
    app.call = Down().call  # type: ignore[method-assign]
    async with calling(app) as node:
        failure = await failure_of(node)
    assert tries == 4 and failure.name == "http_unreachable" and "Unable to reach SDK URL" in failure.message


async def test_waits_give_what_came() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("event"):
            wait = {**op("WaitForEvent", "event"), "name": "t/reply"}
            return ops({**wait, "opts": {"timeout": "1m", "if": "async.data.id == event.data.id"}})
        if not received.has("late"):
            return ops({**op("WaitForEvent", "late"), "name": "t/never", "opts": {"timeout": "1s"}})
        if not received.has("signal"):
            return ops({**op("WaitForSignal", "signal"), "opts": {"signal": "s/1", "timeout": "1h"}})
        if not received.has("none"):
            return ops({**op("WaitForSignal", "none"), "opts": {"signal": "s/2", "timeout": "1s"}})
        return reply(received.body["steps"])

    app = RemoteApp(answer)
    async with calling(app) as node:
        run = await node.trigger("app-f", {"id": "abc"})
        await node.settle()
        await node.ingest([{"name": "t/reply", "data": {"id": "other"}}])
        await node.ingest([{"name": "t/reply", "data": {"id": "abc"}, "id": "reply-1", "ts": 1_700_000_000_000}])
        await node.settle()
        assert isinstance(node.clock, VirtualClock)
        await node.clock.advance(2)
        await node.settle()
        assert await node.signal("s/1", {"v": 1}) == run.run_id
        await node.drain()
        memos = await run.result(timeout=0)
    event = {"name": "t/reply", "data": {"id": "abc"}, "id": "reply-1", "ts": 1_700_000_000_000}
    assert memos == {
        sha("event"): {**event, "user": {}},
        sha("late"): None,
        sha("signal"): {"data": {"signal": "s/1", "data": {"v": 1}}},
        sha("none"): None,
    }


async def test_a_function_invoked_from_outside_is_told_so() -> None:
    app = RemoteApp(lambda received: reply(received.body["event"]))
    async with calling(app) as node:
        event = await (await node.trigger("app-f", {"n": 1})).result(timeout=5)
    assert event["name"] == "inngest/function.invoked"
    assert event["data"] == {"n": 1, "_inngest": {"fn_id": "app-f"}}


async def test_invoking_gives_the_result_or_the_error() -> None:
    def answer(received: Received) -> Reply:
        if received.call.function_id == "app-child":
            if received.body["event"]["data"].get("fail"):
                return reply({"name": "E", "message": "child boom"}, 400, headers={"x-inngest-no-retry": "true"})
            assert received.body["event"]["name"] == "inngest/function.invoked"
            return reply({"got": received.body["event"]["data"]["n"]})
        for step, function, data in (
            ("good", "app-child", {"n": 5}),
            ("bad", "app-child", {"fail": True}),
            ("nobody", "nope-fn", {}),
        ):
            if not received.has(step):
                call = op("InvokeFunction", step, opts={"function_id": function, "payload": {"data": data}})
                return ops({key: value for key, value in call.items() if key != "name"})
        return reply(received.body["steps"])

    app = RemoteApp(answer)
    async with calling(app, config(), config("child")) as node:
        memos = await result_of(node)
    assert memos[sha("good")] == {"data": {"got": 5}}
    error = {"error": "NonRetriableError", "message": "child boom", "name": "E"}
    assert memos[sha("bad")] == {"error": error}
    assert memos[sha("nobody")]["error"]["message"] == "could not find function with ID: nope-fn"


async def test_steps_are_recorded_while_the_app_still_answers() -> None:
    recorded: list[Json] = []

    async def answer(received: Received) -> Reply:
        for step in ("a", "b"):
            body = {"run_id": received.ctx["run_id"], "request_id": received.request_id, "steps": [done(step, step)]}
            for _ in range(2):
                # The second time the first answer was lost on its way.
                await node.checkpoint(received.ctx["run_id"], encode(body))
            recorded.append(step)
        return ops({"op": "RunComplete", "id": "x", "data": {"ok": True}})

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == {"ok": True}
        assert recorded == ["a", "b"] and len(app.calls) == 1
        run_id = app.calls[0].ctx["run_id"]
        body = encode({"request_id": app.calls[0].request_id, "steps": [done("c")]})
        with pytest.raises(UnknownRunError):
            await node.checkpoint(run_id, body)
        with pytest.raises(UnknownRunError):
            await node.checkpoint("01ARZ3NDEKTSV4RRFFQ69G5FAV", body)


async def test_a_checkpoint_of_an_earlier_attempt_is_refused() -> None:
    refused: list[bool] = []

    async def answer(received: Received) -> Reply:
        run_id, first = received.ctx["run_id"], app.calls[0].request_id
        if len(app.calls) == 1:
            await node.checkpoint(run_id, encode({"request_id": first, "steps": [done("a", 1)]}))
            return reply({"message": "the connection broke"}, 502)
        try:
            await node.checkpoint(run_id, encode({"request_id": first, "steps": [done("b", "stale")]}))
        except StaleCallError:
            refused.append(True)
        assert received.memo("a") == {"data": 1} and not received.has("b")
        return reply("done")

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == "done"
    assert refused == [True]


async def test_a_step_that_a_checkpoint_says_has_begun_is_not_called_for() -> None:
    async def answer(received: Received) -> Reply:
        begun = {"request_id": received.request_id, "steps": [op("StepPlanned", "slow")]}
        await node.checkpoint(received.ctx["run_id"], encode(begun))
        await asyncio.sleep(0)
        return reply({"message": "the connection broke"}, 502)

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert (await failure_of(node)).message == "the connection broke"
    # Having begun is no progress: the function's attempts count on.
    assert steps_of(app) == ["step"] * 4
    assert [received.ctx["attempt"] for received in app.calls] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("failure", "attempts"),
    [
        ({"op": "StepError", "id": sha("complete")}, [0, 1, 2, 3]),
        ({"op": "StepFailed", "id": sha("complete")}, [0]),
        ({"op": "RunError"}, [0, 1, 2, 3]),
        ({"op": "RunError", "error": {"name": "Mine", "message": "boom", "noRetry": True}}, [0]),
    ],
)
async def test_a_failure_of_the_function_comes_with_operations(failure: Json, attempts: list[int]) -> None:
    def answer(received: Received) -> Reply:
        found = [] if received.has("a") else [done("a", 1)]
        return ops(*found, {"error": {"name": "Mine", "message": "boom"}, **failure})

    app = RemoteApp(answer)
    async with calling(app) as node:
        error = await failure_of(node)
        assert (error.name, error.message) == ("Mine", "boom")
    assert [received.ctx["attempt"] for received in app.calls] == attempts
    assert steps_of(app) == ["step"] * len(attempts)


async def test_a_step_may_be_named_as_the_outcome_of_functions_is() -> None:
    def answer(received: Received) -> Reply:
        if received.has("complete"):
            return reply(received.memo("complete")["error"]["message"])
        return ops(op("StepFailed", "complete", error={"name": "Mine", "message": "boom"}))

    async with calling(RemoteApp(answer)) as node:
        assert await result_of(node) == "boom"


async def test_an_answer_repeats_what_a_checkpoint_had_told() -> None:
    async def answer(received: Received) -> Reply:
        if received.has("a"):
            return reply(received.memo("a"))
        await node.checkpoint(
            received.ctx["run_id"], encode({"request_id": received.request_id, "steps": [done("a", 1)]})
        )
        return ops(done("a", 2))

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == {"data": 1}


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ({**op("Sleep", "s"), "name": "2000d"}, "InngestErrTimeoutTooLong"),
        ({**op("Sleep", "s"), "name": "banana"}, "InvalidDuration"),
        ({**op("WaitForEvent", "w"), "name": "", "displayName": "w", "opts": {"timeout": "1s"}}, "InvalidWait"),
        (op("WaitForEvent", "w", opts={"event": "e", "timeout": "1s", "if": "event.data.x =="}), "InvalidExpression"),
        (op("WaitForSignal", "w", opts={"signal": "taken", "timeout": "1h"}), "SignalConflictError"),
    ],
)
async def test_what_can_never_be_fails_the_run_at_once(reported: dict[str, Json], name: str) -> None:
    def answer(received: Received) -> Reply:
        if received.call.function_id == "app-holder":
            return ops(op("WaitForSignal", "h", opts={"signal": "taken", "timeout": "1h"}))
        return ops(reported)

    app = RemoteApp(answer)
    async with calling(app, config(), config("holder")) as node:
        await node.trigger("app-holder")
        await node.settle()
        run = await node.trigger("app-f")
        await node.settle()
        with pytest.raises(RunFailedError) as caught:
            await run.result(timeout=0)
    assert caught.value.info is not None and caught.value.info.name == name
    assert [received.call.function_id for received in app.calls].count("app-f") == 1


@pytest.mark.parametrize(
    "body",
    [b"[{", b'[{"op": "Bogus", "id": "x"}]', b'[{"op": null, "id": "x"}]', b'[{"op": "StepRun"}]', b'"text"', b"[[]]"],
)
async def test_garbage_among_operations_is_a_failed_attempt(body: bytes) -> None:
    app = RemoteApp(lambda _: reply(body, 206))
    async with calling(app) as node:
        failure = await failure_of(node)
    assert failure.name == "MalformedResponse" and len(app.calls) == 4


async def test_answers_without_operations_lead_nowhere_for_ever() -> None:
    app = RemoteApp(lambda _: reply(b"[]", 206))
    async with calling(app, config(retries=0)) as node:
        failure = await failure_of(node)
    assert failure.name == "NoProgress" and len(app.calls) == 50


async def test_an_empty_answer_is_asked_again() -> None:
    app = RemoteApp(lambda received: reply("ok") if len(app.calls) > 2 else reply(b"[]", 206))
    async with calling(app) as node:
        assert await result_of(node) == "ok"


async def test_a_discovery_request_calls_the_function_again() -> None:
    def answer(received: Received) -> Reply:
        if received.has("a"):
            return reply("ok")
        return ops(done("a"), {"op": "DiscoveryRequest", "id": "d"})

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) == "ok"


async def test_requests_left_to_the_server_are_made_and_retried() -> None:
    asked: list[tuple[str, dict[str, Json]]] = []

    async def perform(kind: str, opts: dict[str, Json]) -> bytes:
        asked.append((kind, opts))
        if len(asked) == 1:
            raise GatewayFailure(ErrorInfo("GatewayError", "down"))
        if opts["url"] == "http://never":
            raise GatewayFailure(ErrorInfo("GatewayError", "never"), no_retry=True)
        return encode({"status_code": 200})

    def answer(received: Received) -> Reply:
        if not received.has("fetch"):
            return ops(op("Gateway", "fetch", opts={"url": "http://x", "auth_key": "secret"}))
        if not received.has("infer"):
            return ops(op("AIGateway", "infer", opts={"url": "http://never"}))
        return reply(received.body["steps"])

    app = RemoteApp(answer)
    async with calling(app, perform=perform) as node:
        memos = await result_of(node)
    assert memos[sha("fetch")] == {"data": {"status_code": 200}}
    assert memos[sha("infer")] == {"error": {"name": "GatewayError", "message": "never"}}
    assert asked[0] == asked[1] and asked[0][1]["auth_key"] == "secret"


async def test_a_limit_counts_the_calls_that_are_open() -> None:
    open_now = most = 0

    async def answer(received: Received) -> Reply:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        for step in ("p1", "p2", "p3"):
            if received.step == sha(step):
                return ops(done(step))
        if received.has("p1", "p2", "p3"):
            return reply()
        return ops(*(op("StepPlanned", step) for step in ("p1", "p2", "p3")))

    app = RemoteApp(answer)
    async with calling(app, config(concurrency=(Concurrency(2),))) as node:
        runs = [await node.trigger("app-f") for _ in range(4)]
        await node.drain()
        for run in runs:
            await run.result(timeout=0)
    assert most == 2


async def test_a_cancelled_run_takes_nothing_from_an_answer_that_comes_later() -> None:
    cancelled = asyncio.Event()

    async def answer(received: Received) -> Reply:
        await cancelled.wait()
        return reply("too late")

    app = RemoteApp(answer)
    async with calling(app) as node:
        run = await node.trigger("app-f")
        while not app.calls:
            await asyncio.sleep(0)
        await run.cancel()
        cancelled.set()
        await node.settle()
        assert await run.status() == RunStatus.CANCELLED


async def test_large_state_is_fetched_by_the_app() -> None:
    def answer(received: Received) -> Reply:
        if len(received.ctx["stack"]["stack"]) < 3:
            return ops(done(f"s{len(received.ctx['stack']['stack'])}", "x" * 1_900_000))
        return reply(received.body["use_api"])

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await result_of(node) is True
    last = app.calls[-1]
    assert last.body["steps"] == {} and last.ctx["use_api"] is True
    assert len(last.ctx["stack"]["stack"]) == 3


async def test_a_run_goes_on_after_a_crash(tmp_path: Path) -> None:
    hanging = asyncio.Event()

    async def hang(received: Received) -> Reply:
        if received.step == "step":
            return ops(op("StepPlanned", "p1"), op("StepPlanned", "p2"), {**op("Sleep", "p3"), "name": "1h"})
        if received.step == sha("p1"):
            return ops(done("p1", 1))
        await hanging.wait()
        return reply()

    before, clock = RemoteApp(hang), VirtualClock()
    async with calling(before, db=tmp_path / "db", clock=clock) as node:
        run_id = (await node.trigger("app-f")).run_id
        while len(before.calls) < 3:
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0.001)

    def answer(received: Received) -> Reply:
        if received.step == sha("p2"):
            assert received.body["version"] == 2
            return ops(done("p2", 2))
        assert received.has("p1", "p2", "p3")
        return reply([received.memo("p1"), received.memo("p2"), received.memo("p3")])

    after = RemoteApp(answer)
    async with calling(after, db=tmp_path / "db", clock=clock) as node:
        await node.drain()
        assert await node.run(run_id).result(timeout=0) == [{"data": 1}, {"data": 2}, None]
    assert steps_of(after) == [sha("p2"), "step"]


async def test_too_many_steps_fail_the_run() -> None:
    def answer(received: Received) -> Reply:
        first = len(received.ctx["stack"]["stack"])
        return ops(*(done(f"s{first + index}") for index in range(400)))

    app = RemoteApp(answer)
    async with calling(app) as node:
        failure = await failure_of(node)
    assert failure.name == "InngestErrFunctionOverflowed" and len(app.calls) == 3


async def test_an_error_of_any_shape_is_kept_as_it_came() -> None:
    answer = reply(b"plain err", 500, headers={"x-inngest-no-retry": "true"})
    app = RemoteApp(lambda _: answer)
    async with calling(app) as node:
        run = await node.trigger("app-f")
        await node.settle()
        with pytest.raises(RunFailedError, match="plain err"):
            await run.result(timeout=0)
        row = await run._load()
        assert row.output is not None and decode(row.output) == "plain err"


async def test_an_app_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    hanging = asyncio.Event()

    async def answer(received: Received) -> Reply:
        await hanging.wait()
        return reply()

    slow, quick = RemoteApp(answer), RemoteApp(lambda _: reply())
    async with calling(slow, db=tmp_path / "db", max_per_app=3, max_active=1) as node:
        await node.ingest([{"name": "t/f"}] * 8)
        while len(slow.calls) < 3:
            await asyncio.sleep(0)
        other = msgspec.structs.replace(config("quick"), app_id="other")
        await node.register_configs("other", [other])
        node.runner.use([RemoteCode(other.id, "other", other.url or "", quick, no_gateway)])
        for _ in range(5):
            run = await node.trigger(other.id)
            assert await run.result(timeout=5) is None
        assert len(slow.calls) == 3
        hanging.set()
        await node.settle()
        assert len(slow.calls) == 8
        assert (await node.health()).runs == {RunStatus.COMPLETED: 13}
        hanging.clear()
        await node.ingest([{"name": "t/f"}] * 8)
        while len(slow.calls) < 11:
            await asyncio.sleep(0)
    hanging.set()
    async with calling(slow, db=tmp_path / "db", max_per_app=3) as node:
        await node.drain()
        assert (await node.health()).runs == {RunStatus.COMPLETED: 21}


async def test_a_step_is_done_again_with_other_arguments() -> None:
    def answer(received: Received) -> Reply:
        if not received.has("a"):
            return ops(done("a", 1))
        if received.step == sha("b"):
            return ops(done("b", received.memo("b")["input"]))
        if not received.has("b"):
            return ops(done("b", "first"))
        return reply(received.memo("b"))

    app = RemoteApp(answer)
    async with calling(app) as node:
        first = await node.trigger("app-f")
        await node.drain()
        assert await first.result(timeout=0) == {"data": "first"}
        again = await node.rerun(first.run_id, "b", [7, {"x": 1}])
        await node.drain()
        assert await again.result(timeout=0) == {"data": [7, {"x": 1}]}
    rerun = app.calls[3]
    assert rerun.step == sha("b")
    assert rerun.ctx["stack"]["stack"] == [sha("a")]
    assert rerun.body["steps"] == {sha("a"): {"data": 1}, sha("b"): {"input": [7, {"x": 1}]}}
