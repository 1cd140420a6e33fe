"""Apps control every byte that they answer: whatever it is, their runs end, and nothing is done again and again."""

from __future__ import annotations

import asyncio

import pytest

from perdure.apps.transport import Reply
from perdure.model.errors import ErrorInfo, RunFailedError
from perdure.model.json import Json, encode
from perdure.node import Node
from tests.support.remote_app import Received, RemoteApp, calling, done, op, ops, reply, sha

_MOST_CALLS = 400


async def outcome_of(app: RemoteApp, node: Node) -> Json:
    """The result of a run, or the `ErrorInfo` of what it failed with; in any case it has ended."""
    run = await node.trigger("app-f")
    await node.drain(timeout=10)
    health = await node.health()
    assert (health.orphans, health.leaked_slots) == ([], [])
    assert len(app.calls) < _MOST_CALLS
    try:
        return await run.result(timeout=0)
    except RunFailedError as error:
        assert error.info is not None
        return error.info


def raw(data: bytes) -> Reply:
    """A step with a result that no codec would write."""
    return reply(b'[{"op":"StepRun","id":"%s","name":"a","data":%s}]' % (sha("a").encode(), data), 206)


@pytest.mark.parametrize("data", [b"1e999", b"9" * 5000, b'"\xff\xfe"'], ids=["exponent", "digits", "utf-8"])
async def test_a_result_that_is_no_json_fails_the_attempt(data: bytes) -> None:
    app = RemoteApp(lambda _: raw(data))
    async with calling(app) as node:
        failure = await outcome_of(app, node)
    assert isinstance(failure, ErrorInfo) and failure.name == "MalformedResponse"
    assert len(app.calls) == 4


@pytest.mark.parametrize("data", [b"9" * 400, b"[" * 900 + b"1.0" + b"]" * 900], ids=["number", "depth"])
async def test_a_result_without_a_canonical_form_is_a_result(data: bytes) -> None:
    app = RemoteApp(lambda received: reply("ok") if sha("a") in received.call.body.decode() else raw(data))
    async with calling(app) as node:
        assert await outcome_of(app, node) == "ok"
    assert data in app.calls[-1].call.body


@pytest.mark.parametrize("when", ["Mon, 1 Jan 99999999999999 00:00:00 GMT", "1 Jan 2020 00:00 +99999999999999999999"])
async def test_a_date_that_is_none_says_nothing_of_when_to_try_again(when: str) -> None:
    app = RemoteApp(lambda _: reply({"name": "E", "message": "m"}, 500, headers={"retry-after": when}))
    async with calling(app) as node:
        failure = await outcome_of(app, node)
    assert isinstance(failure, ErrorInfo) and failure.message == "m"


@pytest.mark.parametrize("step_id", ["defer/x", "@start", "@finish", "@cancel0", 'a":1,"b', "\u0000", "x" * 1000])
async def test_a_step_id_that_is_no_hash(step_id: str) -> None:
    step = {**done("a", 1), "id": step_id, "opts": {"type": "x"}}
    app = RemoteApp(lambda received: reply("ok") if len(app.calls) > 1 else ops(step, op("DeferAdd", "d", opts={"fn_slug": "s"})))
    async with calling(app) as node:
        await outcome_of(app, node)


@pytest.mark.parametrize("target", [[], {}, 5, None])
async def test_an_abortion_of_what_is_no_defer(target: Json) -> None:
    abort = op("DeferAbort", "x", opts={"target_hashed_id": target})
    app = RemoteApp(lambda _: reply("ok") if len(app.calls) > 1 else ops(abort, done("a")))
    async with calling(app) as node:
        assert await outcome_of(app, node) == "ok"


@pytest.mark.parametrize("meta", [[], "", 0, False, "x", {"sessions": 5}, {"sessions": {"a": "b"}}, {"sessions": []}, {"a": []}])
async def test_a_defer_with_notes_that_are_none(meta: Json) -> None:
    defer = op("DeferAdd", "d", opts={"fn_slug": "app-g", "input": {}, "meta": meta})
    more = op("DeferAdd", "e", opts={"fn_slug": "app-g", "input": {}})
    app = RemoteApp(lambda _: reply("ok") if len(app.calls) > 2 else ops(defer, done("a")) if len(app.calls) < 2 else ops(more, done("b")))
    async with calling(app) as node:
        assert await outcome_of(app, node) == "ok"


async def test_a_wait_that_is_told_as_done_is_waited_for() -> None:
    wait = {**op("WaitForEvent", "w", opts={"event": "t/go", "timeout": "1h"}), "name": "t/go"}
    app = RemoteApp(lambda received: reply(received.memo("w")) if received.has("w") else ops(wait) if len(app.calls) == 1 else ops(done("w", "mine")))
    async with calling(app) as node:
        assert await outcome_of(app, node) is None


async def test_metadata_and_opts_of_every_shape() -> None:
    odd: list[Json] = [None, 5, "x", [], [5], {}, {"a": {}}, {"kind": 5}, [{"kind": "k", "scope": "run", "op": "merge", "values": {"a": [1]}}]]
    kinds = ["StepRun", "StepError", "StepFailed", "StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction", "DeferAdd", "DeferAbort", "Step", "RunComplete", "RunError", "None", "DiscoveryRequest"]
    for kind in kinds:
        for value in odd:
            for field in ("opts", "metadata", "error", "timing", "userland", "data"):
                app = RemoteApp(lambda _, kind=kind, field=field, value=value: ops({**op(kind, "a"), field: value}))
                async with calling(app) as node:
                    try:
                        await outcome_of(app, node)
                    except BaseException as e:
                        print("BAD", kind, field, value, type(e), len(app.calls)); raise
