"""Apps control every byte that they answer: whatever it is, their runs end, and nothing is done again and again."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from perdure.apps.transport import Reply
from perdure.model.errors import ErrorInfo, RunFailedError
from perdure.model.json import Json
from perdure.node import Node
from tests.support.remote_app import Received, RemoteApp, calling, config, done, op, ops, reply, sha

_MOST_CALLS = 400
_KINDS = (
    "StepRun", "StepError", "StepFailed", "StepPlanned", "Step", "Sleep", "WaitForEvent", "WaitForSignal",
    "InvokeFunction", "DeferAdd", "DeferAbort", "RunComplete", "RunError", "None", "DiscoveryRequest",
)  # fmt: skip


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


def _same(answer: Reply, _: Received) -> Reply:
    return answer


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


@pytest.mark.parametrize("step_id", ["defer/x", "@finish", 'a":1,"b', "\u0000", "x" * 1000])
async def test_a_step_id_that_is_no_hash(step_id: str) -> None:
    app = RemoteApp(lambda _: ops({**done("a", 1), "id": step_id, "opts": {"type": "x"}}))
    async with calling(app) as node:
        failure = await outcome_of(app, node)
    assert isinstance(failure, ErrorInfo) and "id that is no hash" in failure.message


@pytest.mark.parametrize("target", [[], {}, 5, None])
async def test_an_abortion_of_what_is_no_defer(target: Json) -> None:
    defer = op("DeferAdd", "d", opts={"fn_slug": "app-g"})
    abort = op("DeferAbort", "x", opts={"target_hashed_id": target})
    app = RemoteApp(lambda received: reply("ok") if received.has("a") else ops(defer, abort, done("a")))
    async with calling(app) as node:
        assert await outcome_of(app, node) == "ok"


@pytest.mark.parametrize("meta", [[], "", 0, False, "x", {"sessions": 5}])
async def test_a_defer_with_notes_that_are_none(meta: Json) -> None:
    defer = op("DeferAdd", "d", opts={"fn_slug": "app-g", "input": {}, "meta": meta})
    app = RemoteApp(lambda received: reply("ok") if received.has("a") else ops(defer, done("a")))
    async with calling(app) as node:
        assert await outcome_of(app, node) == "ok"


async def test_what_is_waited_for_is_not_the_apps_to_tell() -> None:
    """Else its pause, or its timer, would change a memo that the run has gone on with."""
    wait = {**op("WaitForEvent", "w", opts={"event": "t/go", "timeout": "1h"}), "name": "t/go"}
    told = iter([ops(wait, {"op": "DiscoveryRequest"}), ops(done("w", "mine"))])
    app = RemoteApp(lambda received: reply(received.memo("w")) if received.has("w") else next(told))
    async with calling(app) as node:
        assert await outcome_of(app, node) is None
    assert len(app.calls) == 3


async def test_a_step_that_is_told_in_its_backoff_is_not_done_again() -> None:
    """The timer of its next attempt is there still."""
    nap = {**op("Sleep", "nap"), "name": "30d"}
    shaky = op("StepError", "shaky", error={"name": "E", "message": "m"})
    told = iter([ops(shaky, nap, {"op": "DiscoveryRequest"}), ops(done("shaky", "mine"))])
    app = RemoteApp(lambda received: reply(received.memo("shaky")) if received.has("nap") else next(told))
    async with calling(app) as node:
        assert await outcome_of(app, node) == {"data": "mine"}
    assert len(app.calls) == 3


@pytest.mark.parametrize("field", ["opts", "metadata", "error", "timing", "userland", "data"])
async def test_every_field_of_every_operation_of_every_shape(field: str) -> None:
    note: Json = {"kind": "k", "scope": "run", "op": "merge", "values": {"a": [1]}}
    for kind in _KINDS:
        values: list[Json] = [None, "x", [], {"a": {}}, [note]]
        for value in values:
            answer = ops({**op(kind, "a"), field: value})
            app = RemoteApp(partial(_same, answer))
            async with calling(app, config(retries=0)) as node:
                await outcome_of(app, node)


async def test_a_request_that_nobody_wants_any_more_does_not_hold_up_a_sleep(tmp_path: Path) -> None:
    """After a restart the app is asked for it again, once: its function has changed."""
    nap = {**op("Sleep", "nap"), "name": "30d"}
    fetch = op("Gateway", "fetch", opts={"url": "http://x.test/"})
    asked = asyncio.Event()

    async def hangs(kind: str, opts: dict[str, Json]) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    before = RemoteApp(lambda _: ops(nap, fetch))
    async with calling(before, db=tmp_path / "db", perform=hangs) as node:
        run = await node.trigger("app-f")
        await asked.wait()
    after = RemoteApp(lambda received: reply("ok") if received.has("nap") else ops(nap))
    async with calling(after, db=tmp_path / "db") as node:
        await node.drain(timeout=10)
        assert await node.run(run.run_id).result(timeout=0) == "ok"
    assert len(after.calls) == 2
