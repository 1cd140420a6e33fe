"""Blocking steps, for handlers that are plain functions: `from perdure.sync import step`.

There is one implementation of steps, the async one. Each method here calls it on the run's event loop and
blocks the handler's worker thread until the outcome is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent import futures
from datetime import datetime
from typing import Literal, ParamSpec, TypeVar, overload

from perdure.model.config import Duration
from perdure.model.errors import PerdureError
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.sdk import step as steps
from perdure.sdk import stream as streaming
from perdure.sdk.app import App
from perdure.sdk.arguments import EventLike, check_id
from perdure.sdk.execution import current_in_thread
from perdure.sdk.function import Function
from perdure.sdk.inference import Adapter
from perdure.sdk.mcp import McpServer
from perdure.sdk.port import FetchResponse
from perdure.sdk.step import CallSteps, Pending, Signal, Steps

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _block(id: str, call: Callable[[], Pending[T]]) -> T:
    check_id(id)
    return _result(call, current_in_thread(id).loop)


def _result(call: Callable[[], Pending[T]], loop: asyncio.AbstractEventLoop) -> T:
    async def on_loop() -> T:
        # The call itself too, for a step finds its run by the loop that it is called in.
        return await call()

    try:
        return asyncio.run_coroutine_threadsafe(on_loop(), loop).result()
    except futures.CancelledError:
        # That one is an Exception, which user code would take for an error of the step.
        raise asyncio.CancelledError() from None


class SyncCallSteps:
    """The steps that call something; with the options of `step.with_`."""

    def __init__(self, steps: CallSteps) -> None:
        self._calls = steps
        self.ai = SyncAiSteps(steps)
        self.mcp = SyncMcpSteps(steps)

    @overload
    def run(self, id: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def run(self, id: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def run(self, id: str, call: Callable[..., Json], /, *args: Json, **kwargs: Json) -> Json:
        return _block(id, lambda: self._calls.run(id, call, *args, **kwargs))

    def fetch(
        self,
        id: str,
        url: str,
        /,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: Json = None,
        timeout: Duration = steps.DEFAULT_FETCH_TIMEOUT,
    ) -> FetchResponse:
        return _block(
            id,
            lambda: self._calls.fetch(id, url, method=method, headers=headers, body=body, timeout=timeout),
        )


class SyncAiSteps:
    """Steps that call models."""

    def __init__(self, steps: CallSteps) -> None:
        self._calls = steps

    @overload
    def wrap(self, id: str, call: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def wrap(self, id: str, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def wrap(self, id: str, call: Callable[..., Json], /, *args: Json, **kwargs: Json) -> Json:
        return _block(id, lambda: self._calls.ai.wrap(id, call, *args, **kwargs))

    def infer(
        self,
        id: str,
        /,
        *,
        adapter: Adapter,
        body: Mapping[str, Json],
        timeout: Duration = steps.DEFAULT_INFER_TIMEOUT,
    ) -> Json:
        return _block(id, lambda: self._calls.ai.infer(id, adapter=adapter, body=body, timeout=timeout))


class SyncMcpSteps:
    """Steps that call tools of MCP servers."""

    def __init__(self, steps: CallSteps) -> None:
        self._calls = steps

    def call(self, id: str, server: McpServer | str, tool: str, given: Mapping[str, Json] | None = None, /) -> Json:
        return _block(id, lambda: self._calls.mcp.call(id, server, tool, given))


class SyncSteps(SyncCallSteps):
    """The methods of `perdure.step`, blocking; each is documented there."""

    def __init__(self, steps: Steps) -> None:
        super().__init__(steps)
        self._steps = steps

    def with_(self, *, retries: int | None = None, timeout: Duration | None = None) -> SyncCallSteps:
        return SyncCallSteps(self._steps.with_(retries=retries, timeout=timeout))

    def sleep(self, id: str, duration: Duration, /) -> None:
        return _block(id, lambda: self._steps.sleep(id, duration))

    def sleep_until(self, id: str, when: datetime | str | int, /) -> None:
        return _block(id, lambda: self._steps.sleep_until(id, when))

    def wait_for_event(
        self, id: str, /, *, event: str, timeout: Duration, match: str | None = None, if_: str | None = None
    ) -> Event | None:
        return _block(id, lambda: self._steps.wait_for_event(id, event=event, timeout=timeout, match=match, if_=if_))

    def wait_for_signal(
        self, id: str, /, *, signal: str, timeout: Duration, on_conflict: Literal["fail", "replace"] = "fail"
    ) -> Signal | None:
        return _block(
            id,
            lambda: self._steps.wait_for_signal(id, signal=signal, timeout=timeout, on_conflict=on_conflict),
        )

    def send_signal(self, id: str, /, *, signal: str, data: Json = None) -> bool:
        return _block(id, lambda: self._steps.send_signal(id, signal=signal, data=data))

    def send_event(self, id: str, events: EventLike | Sequence[EventLike], /) -> list[str]:
        return _block(id, lambda: self._steps.send_event(id, events))

    @overload
    def invoke(
        self,
        id: str,
        function: Function[R],
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> R: ...
    @overload
    def invoke(
        self,
        id: str,
        function: str,
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> Json: ...
    def invoke(
        self,
        id: str,
        function: Function[Json] | str,
        /,
        *,
        data: Mapping[str, Json] | None = None,
        user: Mapping[str, Json] | None = None,
        v: str | None = None,
        timeout: Duration | None = None,
    ) -> Json:
        call: Callable[..., Pending[Json]] = self._steps.invoke
        return _block(id, lambda: call(id, function, data=data, user=user, v=v, timeout=timeout))


step = SyncSteps(steps.step)
"""The blocking steps: `from perdure.sync import step`."""


class SyncStream:
    """The methods of `perdure.stream`, blocking."""

    def push(self, data: object) -> None:
        streaming.stream.push(data)

    def pipe(self, source: streaming.Source) -> str:
        """Says the texts of a blocking source one by one; returns them as one text."""
        return streaming.pipe_plain(source)


stream = SyncStream()
"""What a run says while it goes on: `from perdure.sync import stream`."""


def send(app: App, events: EventLike | Sequence[EventLike]) -> list[str]:
    """`app.send` for threads: blocks until the events are accepted, and gives their ids."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _result(lambda: app.send(events), app.sender_loop)
    raise PerdureError("perdure.sync.send would block the event loop it was called in: await app.send(...)")
