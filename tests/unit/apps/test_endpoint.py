"""Runs that began with a request: what their app reports, and how the request is made again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from perdure.apps.endpoint import FIRST_RETRY
from perdure.apps.settings import Patience
from perdure.apps.transport import Call, Reply
from perdure.model.errors import StoreError
from perdure.model.json import Json, decode
from perdure.model.records import RunStatus, StepStatus
from tests.support.endpoint_world import (
    DOMAIN,
    EndpointWorld,
    api_result,
    complete,
    ended,
    endpoint_world,
    sleep,
    thrown,
)
from tests.support.remote_app import done, op, ops, reply, sha

SILENCE, GRACE = Patience().silence, Patience().grace
COMPLETED, FAILED, RUNNING = RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.RUNNING
ERROR = {"name": "Error", "message": "boom", "stack": "at home"}


def failing(step: str, **fields: Json) -> dict[str, Json]:
    return op("StepError", step) | {"error": ERROR} | fields


class Script:
    """An app that answers repeated requests one after the other."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)

    def __call__(self, call: Call) -> Reply:
        return self._replies.pop(0)


# While the app answers.


async def test_a_request_that_is_answered_at_once_is_recorded_and_never_made_again() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(done("a", {"n": 1}))
        await world.report(run_id, done("b", 2))
        assert (await world.run(run_id)).status == RUNNING
        await world.report(run_id, complete(api_result('{"b":2}', 202)))
        run = await world.run(run_id)
        assert (run.status, decode(run.output or b"")) == (COMPLETED, api_result('{"b":2}', 202))
        steps = await world.steps(run_id)
        assert {name: step.data for name, step in steps.items()} == {"a": b'{"n":1}', "b": b"2"}


async def test_a_request_without_steps_is_a_run_all_the_same() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(complete())
        assert (await world.run(run_id)).status == COMPLETED


async def test_a_first_report_that_tells_nothing_yet_begins_the_run() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin()
        await world.report(run_id)
        assert (await world.run(run_id)).status == RUNNING
        await world.report(run_id, complete())
        assert (await world.run(run_id)).status == COMPLETED


async def test_a_report_whose_answer_was_lost_is_taken_once() -> None:
    async with endpoint_world() as world:
        run_id = world.id()
        first = await world.post("/v1/checkpoint", world.body(run_id, done("a", 1)))
        again = await world.post("/v1/checkpoint", world.body(run_id, done("a", "another")))
        assert first["data"] == again["data"]
        await world.report(run_id, done("b", 2))
        await world.report(run_id, done("b", "another"), done("c", 3))
        await world.report(run_id, complete())
        for repeated in (complete(), done("c", 3)):
            await world.report(run_id, repeated)
        await world.post("/v1/checkpoint", world.body(run_id, done("a", 1)))
        steps = await world.steps(run_id)
        assert {name: step.data for name, step in steps.items()} == {"a": b"1", "b": b"2", "c": b"3"}


async def test_a_report_that_is_repeated_while_it_is_recorded_is_taken_once() -> None:
    async with endpoint_world() as world:
        run_id = world.id()
        for steps in ([done("a", 1)], [complete()]):
            bodies = [world.post("/v1/checkpoint", world.body(run_id, *steps)) for _ in range(4)]
            told = await asyncio.gather(*bodies)
            assert {answer["data"]["run_id"] for answer in told} == {run_id}
        run_id = await world.begin()
        await asyncio.gather(*(world.report(run_id, done("a", n)) for n in range(4)))
        value = (await world.steps(run_id))["a"].data
        await asyncio.gather(*(world.report(run_id, complete({"n": 1})) for _ in range(4)))
        assert (await world.output(run_id)) == {"n": 1}
        assert (await world.steps(run_id))["a"].data == value


async def test_news_of_a_run_that_has_ended_is_refused() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(complete())
        told = await world.report(run_id, done("late", 1), status=409)
        assert told["error"] == f"run {run_id} was completed, and takes no more"
        await world.post("/v1/checkpoint", world.body(run_id, done("late", 1)), 409)


async def test_what_an_app_says_that_was_given_up_is_refused_unless_it_is_what_is_recorded() -> None:
    # The request that was made again did the steps in the meantime, and came to other results.
    script = Script(ops(done("b", "new")), ops(op("StepFailed", "c") | {"error": ERROR}), ended({"n": 2}))
    async with endpoint_world(script) as world:
        run_id = await world.begin(done("a", {"x": 1, "y": 2.0}))
        await world.clock.advance(SILENCE)
        assert (await world.run(run_id)).status == COMPLETED
        await world.report(run_id, done("a", {"y": 2, "x": 1}))
        await world.report(run_id, done("b", "new"))
        await world.report(run_id, complete({"n": 2}))
        for other in (done("a", 1), done("b", "old"), done("c", "old"), complete({"n": 1})):
            await world.report(run_id, other, status=409)
            await world.post("/v1/checkpoint", world.body(run_id, other), 409)


async def test_an_equal_result_of_another_execution_is_refused() -> None:
    """Whoever reports it would go on, and do once more what is done."""
    first, mine, other = ({"timing": {"a": ms * 1_000_000, "b": 0}} for ms in (1, 2, 3))
    async with endpoint_world(Script(ops(done("b", 1, **other)), ops(sleep("nap", "1h")), ended())) as world:
        run_id = await world.begin(done("a", 1, **first))
        await world.clock.advance(SILENCE)
        await world.rest()
        assert not world.node.runner._residents
        await world.report(run_id, done("a", 1, **first))
        await world.report(run_id, done("b", 1, **other))
        await world.report(run_id, done("b", 1, **mine), status=409)
        await world.clock.advance("1h")
        assert (await world.run(run_id)).status == COMPLETED
        await world.report(run_id, done("b", 1, **mine), status=409)


async def test_a_result_that_a_run_in_residence_did_not_record_is_refused() -> None:
    script = Script(ops(done("b", "new")), ops(sleep("nap", "5s")))
    async with endpoint_world(script) as world:
        run_id = await world.begin(done("a", 1))
        await world.clock.advance(SILENCE)
        await world.rest()
        assert len(world.calls) == 2
        await world.report(run_id, done("a", 1))
        # The same result, but of another request, which may have streamed it as well.
        for other in (done("a", 2), done("b", "old"), done("b", "new"), complete()):
            await world.report(run_id, other, status=409)


@pytest.mark.parametrize("encoded", ["a", "ä===", 5, None])
async def test_a_result_that_is_not_encoded_as_it_says_is_refused(encoded: Json) -> None:
    result = api_result("") | {"body_b64": encoded}
    async with endpoint_world(Script(ended(result))) as world:
        run_id = await world.begin(done("a", 1))
        told = await world.report(run_id, complete(result), status=400)
        assert "data.body_b64: must be base64" in told["error"]
        await world.post("/v1/checkpoint", world.body(world.id(), complete(result)), 400)
        await world.report(run_id, sleep("nap", "1s"))
        await world.clock.advance(1)
        run = await world.run(run_id)
        assert run.status == FAILED and "body_b64" in decode(run.output or b"")["message"]


async def test_a_cancelled_run_takes_no_more_of_its_app() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(done("a", 1))
        await world.node.cancel(run_id)
        await world.report(run_id, done("a", 1))
        for news in (done("b", 2), complete(), thrown()):
            told = await world.report(run_id, news, status=409)
            assert told["error"] == f"run {run_id} was cancelled, and takes no more"
        await world.clock.advance("1h")


async def test_an_id_is_one_request_s() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(done("a", 1))
        for status in (RUNNING, COMPLETED):
            told = await world.post("/v1/checkpoint", world.body(run_id, path="/other"), 409)
            assert f"run {run_id} is one of {DOMAIN}-GET /f" in told["error"]
            assert (await world.run(run_id)).status == status
            await world.report(run_id, complete())


# Limits.


@pytest.mark.parametrize("at", ["first", "later", "end"])
async def test_what_is_too_large_fails_the_run_and_says_so(at: str) -> None:
    large = "x" * (4 * 1024 * 1024 + 1)
    async with endpoint_world() as world:
        run_id = world.id()
        steps = [done("large", large)] if at == "first" else [done("a", 1)]
        body = world.body(run_id, *steps)
        told = await world.post("/v1/checkpoint", body, 413 if at == "first" else 200)
        if at != "first":
            report = done("large", large) if at == "later" else complete(api_result(large))
            told = await world.report(run_id, report, sleep("nap", "1s"), status=413)
        assert "at most 4194304 are allowed" in told["error"]
        assert (await world.run(run_id)).status == FAILED
        again = await world.report(run_id, done("large", large), status=409)
        assert "StepOutputTooLargeError" in again["error"]
        await world.clock.advance("1d")


async def test_a_run_has_at_most_so_many_steps() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(*(done(str(n), n) for n in range(1000)))
        told = await world.report(run_id, done("one more", 1), status=413)
        assert "step limit of 1000" in told["error"]
        assert (await world.run(run_id)).status == FAILED


# From the first request to later ones.


async def test_after_a_sleep_the_request_is_made_again_as_it_was() -> None:
    async with endpoint_world(Script(ops(done("b", "world")), ended())) as world:
        run_id = await world.begin(
            done("a", "hello"),
            method="POST", path="/sleep", query_params="q=1&z=a+b", body="q;r", content_type="text/csv",
        )  # fmt: skip
        await world.report(run_id, sleep("nap", "90s"))
        await world.clock.advance("89s")
        assert world.calls == []
        await world.clock.advance("2s")
        assert (await world.run(run_id)).status == COMPLETED
        first, second = world.calls
        assert (first.method, first.url, first.body) == ("POST", f"{DOMAIN}/sleep?q=1&z=a+b", b"q;r")
        assert first.headers == {
            "user-agent": "perdure", "content-type": "text/csv", "x-run-id": run_id, "x-inngest-signature": "",
            "x-inngest-req-version": "2", "x-request-id": first.request_id, "x-inngest-job-id": first.job_id,
            "x-inngest-generation-id": "1",
        }  # fmt: skip
        assert first.request_id != second.request_id


async def test_a_sleep_may_be_what_the_run_begins_with() -> None:
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(sleep("nap", "1s"))
        await world.clock.advance("1s")
        assert (await world.run(run_id)).status == COMPLETED


@pytest.mark.parametrize("span", ["5s", "1h"])
async def test_what_led_to_the_wait_may_be_told_again_but_nothing_else(span: str) -> None:
    """A short sleep stays in memory, a long one does not."""
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(done("a", 1))
        for _ in range(2):
            await world.report(run_id, sleep("nap", span))
        await world.post("/v1/checkpoint", world.body(run_id, sleep("nap", span)))
        await world.report(run_id, done("a", 1))
        await world.report(run_id, done("a", 2), status=409)
        for news in (complete(), done("b", 1), sleep("other", "1s"), done("nap", 1)):
            told = await world.report(run_id, news, status=409)
            assert "no longer reported by the request that began it" in told["error"]
        await world.clock.advance("1h")
        assert (await world.run(run_id)).status == COMPLETED
        assert (await world.steps(run_id)).keys() == {"a", "nap"}


@pytest.mark.parametrize("comes", [True, False])
async def test_a_wait_for_an_event(comes: bool) -> None:
    wait = op("WaitForEvent", "go") | {"opts": {"event": "t/go", "timeout": "20s", "if": 'async.data.id == "7"'}}
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(wait)
        await world.node.ingest([{"name": "t/go", "data": {"id": "8"}}])
        assert (await world.run(run_id)).status == RUNNING
        if comes:
            await world.node.ingest([{"name": "t/go", "data": {"id": "7"}}])
            await world.rest()
        else:
            await world.clock.advance("20s")
        assert (await world.run(run_id)).status == COMPLETED
        memo = (await world.steps(run_id))["go"].data or b""
        assert (decode(memo)["data"] if comes else decode(memo)) == ({"id": "7"} if comes else None)


async def test_parallel_steps_are_called_for_each_and_the_function_once_after_all() -> None:
    def answer(call: Call) -> Reply:
        for step in ("p1", "p2"):
            if call.headers.get("x-inngest-step-id") == sha(step):
                assert call.headers["x-inngest-force-step-plan"] == "true"
                return ops(done(step, step))
        assert "x-inngest-step-id" not in call.headers and "x-inngest-force-step-plan" not in call.headers
        return ended() if len(world.calls) > 3 else ops(done("after", 1))

    async with endpoint_world(answer) as world:
        run_id = await world.begin(op("StepPlanned", "p1"), op("StepPlanned", "p2"))
        assert (await world.run(run_id)).status == COMPLETED
        wanted = [sha("p1"), sha("p2"), None, None]
        assert [call.headers.get("x-inngest-step-id") for call in world.calls] == wanted


async def test_each_run_s_request_is_its_own_though_the_function_is_one() -> None:
    async with endpoint_world(Script(ended(), ended(), ended())) as world:
        for method in ("GET", "POST", "DELETE"):
            await world.begin(sleep("nap", "1s"), fn="one", method=method, path=f"/{method}")
        await world.clock.advance("1s")
        called = sorted((call.method, call.url) for call in world.calls)
        assert called == [(name, f"{DOMAIN}/{name}") for name in ("DELETE", "GET", "POST")]
        assert list(world.node.catalogue.functions) == [f"{DOMAIN}-one"]


# Failures.


async def test_a_step_that_failed_is_tried_again_soon_and_as_often_as_the_app_allows() -> None:
    """The attempt while the first request was answered is one of them."""
    later = [ops(failing("a")), ops(failing("a")), ended()]
    async with endpoint_world(Script(*later), chance=lambda: 0.0) as world:
        run_id = world.id()
        await world.post("/v1/checkpoint", world.body(run_id, failing("a"), retries=2))
        await world.clock.advance(FIRST_RETRY / 1000 - 0.1)
        assert world.calls == []
        await world.clock.advance(0.1)
        assert len(world.calls) == 1 and "x-inngest-step-id" not in world.calls[0].headers
        assert world.calls[0].headers["x-inngest-generation-id"] == "2"
        await world.clock.advance("1h")
        # The third attempt was the last: then the function is called to see that its step has failed.
        assert len(world.calls) == 3
        step = (await world.steps(run_id))["a"]
        assert (step.status, step.attempt, decode(step.data or b"")["message"]) == (StepStatus.FAILED, 2, "boom")
        assert (await world.run(run_id)).status == COMPLETED


async def test_without_retries_a_step_fails_at_once() -> None:
    async with endpoint_world(Script(ended())) as world:
        run_id = world.id()
        await world.post("/v1/checkpoint", world.body(run_id, failing("a"), retries=0))
        assert (await world.run(run_id)).status == COMPLETED
        assert (await world.steps(run_id))["a"].status == StepStatus.FAILED


async def test_an_app_that_says_so_goes_on_after_a_step_that_failed_for_good() -> None:
    final = op("StepFailed", "a") | {"error": ERROR}
    async with endpoint_world(Script(ops(done("d", 4)), ended())) as world:
        run_id = world.id()
        told = await world.post("/v1/checkpoint", world.body(run_id, final) | {"goes_on": True})
        assert (told["data"]["goes_on"], told["data"]["silence"], told["data"]["grace"]) == (True, SILENCE, GRACE)
        for step in (done("b", 2), op("StepFailed", "c") | {"error": ERROR}):
            body = {"run_id": run_id, "steps": [step], "goes_on": True}
            await world.post(f"/v1/checkpoint/{run_id}/steps", body)
        assert (await world.run(run_id)).status == RUNNING and world.calls == []
        await world.report(run_id, sleep("nap", "1s"))
        await world.clock.advance(1)
        assert (await world.run(run_id)).status == COMPLETED and len(world.calls) == 2
        statuses = {name: step.status for name, step in (await world.steps(run_id)).items()}
        assert [statuses[name] for name in "abcd"] == [StepStatus.FAILED, StepStatus.DONE] * 2
    async with endpoint_world(Script(ended())) as world:
        # The other apps of the protocol wait for the request to be made again.
        answer = await world.post("/v1/checkpoint", world.body(world.id(), final))
        assert "goes_on" not in answer["data"]
        await world.rest()
        assert len(world.calls) == 1


async def test_a_step_that_failed_for_good_is_shown_to_the_function_at_once() -> None:
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(op("StepFailed", "a") | {"error": ERROR})
        assert (await world.run(run_id)).status == COMPLETED
        assert len(world.calls) == 1


@pytest.mark.parametrize("failure", [failing("a", retry_after=2), {**thrown(), "retry_after": 2}])
async def test_an_app_may_say_when_to_try_again(failure: dict[str, Json]) -> None:
    async with endpoint_world(Script(ended())) as world:
        await world.begin(failure)
        await world.clock.advance("1.9s")
        assert world.calls == []
        await world.clock.advance("0.1s")
        assert len(world.calls) == 1


async def test_a_later_answer_may_say_when_to_try_again() -> None:
    busy = reply(ERROR, 500, headers={"retry-after": "2", "x-inngest-no-retry": "false"})
    async with endpoint_world(Script(busy, ended())) as world:
        await world.begin(sleep("nap", "1s"))
        await world.clock.advance("1s")
        await world.clock.advance("1.9s")
        assert len(world.calls) == 1
        await world.clock.advance("0.1s")
        assert len(world.calls) == 2


async def test_a_function_that_throws_is_called_again_soon() -> None:
    async with endpoint_world(Script(reply(ERROR, 500), ended())) as world:
        run_id = await world.begin(done("a", 1))
        for _ in range(2):
            await world.report(run_id, thrown())
        await world.clock.advance(FIRST_RETRY / 1000)
        assert len(world.calls) == 1
        await world.clock.advance("1h")
        assert (await world.run(run_id)).status == COMPLETED


async def test_a_function_that_always_throws_fails_its_run() -> None:
    async with endpoint_world(lambda call: reply(ERROR, 500)) as world:
        run_id = world.id()
        await world.post("/v1/checkpoint", world.body(run_id, thrown(), retries=2))
        await world.clock.advance("1d")
        assert len(world.calls) == 2
        assert ((await world.run(run_id)).status, await world.output(run_id)) == (FAILED, ERROR)


async def test_a_function_that_throws_for_good_fails_its_run_at_once() -> None:
    async with endpoint_world() as world:
        run_id = await world.begin(done("a", 1))
        await world.report(run_id, thrown(final=True))
        assert (await world.run(run_id)).status == FAILED
        # Its answer may have been lost.
        await world.report(run_id, thrown(final=True))
        await world.report(run_id, done("b", 1), status=409)


async def test_a_proxy_that_answers_in_the_app_s_place_is_tried_again_and_then_told_of() -> None:
    page = Reply(502, {"content-type": "text/html"}, b"<h1>Bad gateway</h1>")
    async with endpoint_world(lambda call: page) as world:
        run_id = await world.begin(sleep("nap", "1s"))
        await world.clock.advance("1d")
        output = await world.output(run_id)
        assert len(world.calls) == 4
        assert output["message"] == "Your server returned HTTP 502 before the SDK responded."
        assert "Bad gateway" in output["stack"]


# Silence.


async def test_an_app_that_goes_silent_is_asked_again() -> None:
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(done("a", 1))
        await world.clock.advance(SILENCE - 1)
        await world.report(run_id, done("b", 1))
        await world.clock.advance(SILENCE - 1)
        assert world.calls == []
        await world.clock.advance(1)
        assert len(world.calls) == 1
        assert (await world.run(run_id)).status == COMPLETED
        await world.report(run_id, done("c", 1), status=409)


async def test_how_long_an_app_may_be_silent_is_an_option(tmp_path: Path) -> None:
    async with endpoint_world(Script(ended()), tmp_path / "db", endpoint_silence=30.0) as world:
        run_id = await world.begin(done("a", 1))
        await world.clock.advance(29)
        assert world.calls == []
        await world.clock.advance(1)
        assert (await world.run(run_id)).status == COMPLETED
        await world.begin(done("a", 1))
        clock = world.clock
    async with endpoint_world(Script(ended()), tmp_path / "db", clock=clock, endpoint_grace=2.0) as world:
        await world.rest()
        await world.clock.advance(1)
        assert world.calls == []
        await world.clock.advance(1)
        assert len(world.calls) == 1


async def _lives(path: Path, *, late: bool, between: Callable[[EndpointWorld, str], Awaitable[None]]) -> None:
    """A run whose server ends while its app answers, and what the next server hears of it."""
    async with endpoint_world(db=path) as world:
        run_id = await world.begin(done("a", 1))
        clock = world.clock
    again = [ended()] if late else []
    async with endpoint_world(Script(*again), db=path, clock=clock) as world:
        await world.rest()
        await between(world, run_id)
        assert (await world.run(run_id)).status == COMPLETED
        assert len(world.calls) == len(again)
        assert (await world.steps(run_id))["a"].data == b"1"


async def test_the_next_server_takes_the_reports_of_the_first_request(tmp_path: Path) -> None:
    async def app_goes_on(world: EndpointWorld, run_id: str) -> None:
        await world.clock.advance(GRACE - 1)
        await world.report(run_id, done("a", 2), done("b", 2))
        await world.clock.advance(SILENCE - 1)
        await world.report(run_id, complete())

    await _lives(tmp_path / "p.db", late=False, between=app_goes_on)


async def test_the_next_server_makes_the_request_again_if_it_hears_nothing(tmp_path: Path) -> None:
    async def app_is_gone(world: EndpointWorld, run_id: str) -> None:
        assert world.calls == []
        await world.clock.advance(GRACE)

    await _lives(tmp_path / "p.db", late=True, between=app_is_gone)


async def test_a_server_that_stops_does_not_wait_for_apps_that_answer() -> None:
    async with asyncio.timeout(5), endpoint_world(shutdown_timeout=60) as world:
        await world.begin(done("a", 1))


# The store.


@pytest.mark.parametrize("report", ["step", "wait", "end", "steps", "error"])
async def test_a_report_that_the_store_refused_is_taken_when_it_is_repeated(
    report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = {
        "step": [done("b", 2)],
        "steps": [done("b", 2), done("c", 3)],
        "wait": [sleep("nap", "1s")],
        "end": [complete()],
        "error": [thrown()],
    }[report]
    async with endpoint_world(Script(ended())) as world:
        run_id = await world.begin(done("a", 1))
        with monkeypatch.context() as failing_store:
            submit = world.node.store.submit
            failures = [StoreError("the disk is full")]

            async def refuse(begin: Callable[[], Json]) -> Json:
                if failures:
                    raise failures.pop()
                return await submit(begin)

            failing_store.setattr(world.node.store, "submit", refuse)
            await world.report(run_id, *news, status=503)
        await world.rest()
        await world.report(run_id, *news)
        if report.startswith("step"):
            await world.report(run_id, complete())
        await world.clock.advance("5s")
        assert (await world.run(run_id)).status == COMPLETED
        assert len(world.calls) == (report in ("wait", "error"))
