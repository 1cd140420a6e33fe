"""Apps that are called and say nothing that brings their run on: it goes on all the same, or ends with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from perdure.apps.transport import Reply
from perdure.model.errors import ErrorInfo, RunFailedError
from perdure.model.json import Json
from perdure.node import Node
from perdure.runner.handle import RunHandle
from tests.support.remote_app import Received, RemoteApp, calling, done, op, ops, reply, sha


async def outcome_of(node: Node) -> Json:
    """The result of a run, or the `ErrorInfo` of what it failed with."""
    run: RunHandle[Json] = await node.trigger("app-f")
    await node.drain()
    health = await node.health()
    assert (health.orphans, health.leaked_slots) == ([], [])
    try:
        return await run.result(timeout=0)
    except RunFailedError as error:
        assert error.info is not None
        return error.info


async def test_nothing_in_the_place_of_a_step_that_is_tried_again() -> None:
    def answer(received: Received) -> Reply:
        if received.has("shaky"):
            return reply("ok")
        if len(app.calls) == 1:
            return ops(op("StepError", "shaky", error={"name": "E", "message": "m"}))
        return ops({"op": "None"}) if len(app.calls) < 4 else ops(done("shaky"))

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await outcome_of(node) == "ok"
    assert [received.ctx["attempt"] for received in app.calls] == [0, 1, 1, 1, 0]


async def test_another_step_in_the_place_of_one_that_is_tried_again() -> None:
    """The code of the function has changed in between: nobody waits for the step that is gone."""

    def answer(received: Received) -> Reply:
        if len(app.calls) == 1:
            return ops(op("StepError", "old", error={"name": "E", "message": "m"}))
        if received.has("new", "nap"):
            return reply("ok")
        return ops({**op("Sleep", "nap"), "name": "1h"}) if received.has("new") else ops(done("new"))

    app = RemoteApp(answer)
    async with calling(app) as node:
        assert await outcome_of(node) == "ok"


@pytest.mark.parametrize("unhelpful", [[], [{"op": "None"}], [done("another")], [op("StepPlanned", "p1")]])
async def test_a_step_that_was_called_for_and_not_told_has_failed_that_attempt(
    unhelpful: list[dict[str, Json]],
) -> None:
    def answer(received: Received) -> Reply:
        if received.step == sha("p1"):
            return ops(*unhelpful) if received.ctx["attempt"] < 2 else ops(done("p1", "late"))
        if received.step == sha("p2"):
            return ops(*unhelpful)
        if received.has("p1", "p2"):
            return reply([received.memo("p1"), received.memo("p2")["error"]["message"]])
        return ops(op("StepPlanned", "p1"), op("StepPlanned", "p2"))

    app = RemoteApp(answer)
    async with calling(app) as node:
        late, why = await outcome_of(node)
    assert late == {"data": "late"}
    assert "'p2'" in why and "did not report" in why
    assert [received.step for received in app.calls].count(sha("p2")) == 4


async def test_a_defer_alone_is_nothing_to_wait_for() -> None:
    defer = op("DeferAdd", "later", opts={"fn_slug": "app-later", "input": {}})
    app = RemoteApp(lambda received: reply("ok") if sha("later") in received.body["defers"] else ops(defer))
    async with calling(app) as node:
        assert await outcome_of(node) == "ok"
    assert len(app.calls) == 2


async def test_a_defer_beside_a_sleep_lets_the_run_sleep() -> None:
    defer = op("DeferAdd", "later", opts={"fn_slug": "app-later", "input": {}})
    nap = {**op("Sleep", "nap"), "name": "1h"}
    app = RemoteApp(lambda received: reply("ok") if received.has("nap") else ops(defer, nap))
    async with calling(app) as node:
        assert await outcome_of(node) == "ok"
    assert len(app.calls) == 2


async def test_nothing_again_and_again_fails_the_run() -> None:
    app = RemoteApp(lambda _: ops())
    async with calling(app) as node:
        failure = await outcome_of(node)
    assert isinstance(failure, ErrorInfo) and failure.name == "NoProgress"
    assert len(app.calls) < 1000


async def test_a_request_that_is_never_said_again_after_a_restart_fails_the_run(tmp_path: Path) -> None:
    fetch = op("Gateway", "fetch", opts={"url": "http://x.test/", "headers": {"authorization": "secret"}})
    app = RemoteApp(lambda received: ops(fetch) if len(app.calls) == 1 else ops())

    asked = asyncio.Event()

    async def hangs(kind: str, opts: dict[str, Json]) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    async with calling(app, db=tmp_path / "db", perform=hangs) as node:
        run = await node.trigger("app-f")
        await asked.wait()
    async with calling(app, db=tmp_path / "db") as node:
        await node.drain()
        with pytest.raises(RunFailedError, match="without an operation"):
            await node.run(run.run_id).result(timeout=0)
    assert len(app.calls) < 1000
