"""A caller that hangs up, a server that stops, and bodies that are too large, at the ASGI door."""

from __future__ import annotations

import asyncio

import pytest

from perdure import App, Context, step
from perdure.model.json import Json, encode
from perdure.serving import serve

CALL = encode({"ctx": {"run_id": "01"}, "event": {"name": "a"}, "steps": {}, "version": 2})
SCOPE: dict[str, Json] = {
    "type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"fnId=shop-f&stepId=step",
    "server": ("app.test", 3000), "scheme": "http",
}  # fmt: skip


class Caller:
    """Sends one call, and hangs up when told to."""

    def __init__(self, body: bytes = CALL) -> None:
        self.body: bytes | None = body
        self.hung_up = asyncio.Event()
        self.sent: list[Json] = []

    async def receive(self) -> Json:
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Json) -> None:
        self.sent.append(message)


def shop(log: list[str], begun: asyncio.Event) -> App:
    app = App("shop")

    async def work() -> None:
        log.append("begun")
        begun.set()
        await asyncio.sleep(0.01)
        log.append("ended")

    @app.function("f", trigger="a")
    async def f(ctx: Context) -> None:
        try:
            await step.run("a", work)
            await step.run("b", lambda: log.append("never"))
        finally:
            log.append("closed")

    return app


async def test_what_executes_may_end_when_the_caller_hangs_up() -> None:
    log: list[str] = []
    begun = asyncio.Event()
    caller = Caller()
    call = asyncio.create_task(serve(shop(log, begun), is_dev=True)(SCOPE, caller.receive, caller.send))
    await begun.wait()
    caller.hung_up.set()
    await call
    assert log == ["begun", "ended", "closed"]


async def test_a_call_that_is_cancelled_takes_its_handler_along() -> None:
    log: list[str] = []
    begun = asyncio.Event()
    caller = Caller()
    call = asyncio.create_task(serve(shop(log, begun), is_dev=True)(SCOPE, caller.receive, caller.send))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert log == ["begun", "closed"] and caller.sent == []


async def test_a_handler_that_waits_for_something_else_is_left_at_once() -> None:
    app = App("shop")
    log: list[str] = []

    @app.function("f", trigger="a")
    async def f(ctx: Context) -> None:
        try:
            log.append("begun")
            await asyncio.sleep(60)
        finally:
            log.append("closed")

    caller = Caller()
    call = asyncio.create_task(serve(app, is_dev=True)(SCOPE, caller.receive, caller.send))
    while not log:
        await asyncio.sleep(0)
    caller.hung_up.set()
    await call
    assert log == ["begun", "closed"]


async def test_a_body_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.serving.asgi.MAX_REQUEST_BYTES", 10)
    caller = Caller()
    await serve(App("shop"), is_dev=True)(SCOPE, caller.receive, caller.send)
    assert caller.sent[0]["status"] == 413


async def test_the_life_of_a_server_and_a_web_socket_are_answered() -> None:
    served = serve(App("shop"), is_dev=True)
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Json] = []

    async def receive() -> Json:
        return next(messages)

    async def send(message: Json) -> None:
        sent.append(message)

    await served({"type": "lifespan"}, receive, send)
    await served({"type": "websocket"}, receive, send)
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"
    ]  # fmt: skip
