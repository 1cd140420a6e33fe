"""The events that runs of apps on other servers bring about: sessions are handed on, failures say how they came."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.apps.transport import Reply
from perdure.model.config import EventTrigger, FunctionConfig
from perdure.model.json import Json
from tests.support.remote_app import Received, RemoteApp, calling, config, op, ops, reply

INHERITED = {"chat": "c1", "user": "u1"}


def listener(name: str, event: str) -> FunctionConfig:
    """The registration of a function that an internal event starts."""
    trigger = EventTrigger(event)
    return FunctionConfig(f"app-{name}", "app", name, (trigger,), 0, url=f"http://app.test/?fnId={name}&stepId=step")


@pytest.mark.parametrize(
    ("own", "seen"),
    [
        ((), INHERITED),
        ({}, INHERITED),
        (None, None),
        ({"chat": None}, {"user": "u1"}),
        ({"chat": 2}, {"chat": "2", "user": "u1"}),
    ],
)
async def test_an_invoked_function_gets_the_sessions_of_its_caller(own: Json, seen: Json) -> None:
    meta = {"propagated_sessions": INHERITED, **({} if own == () else {"sessions": own})}

    def answer(received: Received) -> Reply:
        if received.call.function_id == "app-child":
            return reply(received.body["event"].get("meta"))
        if received.has("call"):
            return reply(received.memo("call")["data"])
        return ops(op("InvokeFunction", "call", opts={"function_id": "app-child", "payload": {"meta": meta}}))

    async with calling(RemoteApp(answer), config(), config("child")) as node:
        run = await node.trigger("app-f")
        await node.drain()
        assert await run.result(timeout=0) == (None if seen is None else {"sessions": seen})


async def test_malformed_sessions_fail_the_step_that_invokes() -> None:
    meta = {"sessions": {"chat": ""}}

    def answer(received: Received) -> Reply:
        if received.has("call"):
            return reply(received.memo("call")["error"]["message"])
        return ops(op("InvokeFunction", "call", opts={"function_id": "app-f", "payload": {"meta": meta}}))

    async with calling(RemoteApp(answer)) as node:
        run = await node.trigger("app-f")
        await node.drain()
        assert await run.result(timeout=0) == "meta.sessions.chat must not be empty"


async def test_a_deferred_function_gets_the_sessions_of_its_run() -> None:
    meta = {"propagated_sessions": INHERITED, "sessions": {"user": None}}
    seen: list[Any] = []

    def answer(received: Received) -> Reply:
        if received.call.function_id == "app-later":
            seen.append(received.body["event"]["meta"])
            return reply()
        opts = {"fn_slug": "app-later", "input": {}, "meta": meta}
        return ops(op("DeferAdd", "later", opts=opts), op("RunComplete", "complete", data=1))

    async with calling(RemoteApp(answer), config(), listener("later", "inngest/deferred.schedule")) as node:
        run = await node.trigger("app-f")
        await node.drain()
        assert await run.result(timeout=0) == 1
    assert seen == [{"sessions": {"chat": "c1"}}]


@pytest.mark.parametrize(
    ("error", "status", "header", "cause"),
    [
        ({"name": "E", "message": "m"}, 500, "", "invalid status code: 500"),
        ({"name": "E", "message": "m"}, 400, "true", "NonRetriableError"),
        ({"name": "E", "message": "m", "error": "mine"}, 500, "", "mine"),
    ],
)
@pytest.mark.parametrize("targeted", [False, True])
async def test_the_event_of_a_failure_says_how_the_app_failed(
    error: Json, status: int, header: str, cause: str, targeted: bool
) -> None:
    told: list[Any] = []

    def answer(received: Received) -> Reply:
        if received.call.function_id == "app-told":
            told.append(received.body["event"]["data"])
            return reply()
        if targeted and received.step == "step":
            return ops(op("StepPlanned", "a"), op("StepPlanned", "b"))
        return reply(error, status, headers={"x-inngest-no-retry": header})

    async with calling(RemoteApp(answer), config(retries=0), listener("told", "inngest/function.failed")) as node:
        run = await node.trigger("app-f")
        await node.drain()
    (data,) = told
    assert data["error"] == {"name": "E", "message": "m", "error": cause}
    assert data["result"] == error and data["run_id"] == run.run_id
