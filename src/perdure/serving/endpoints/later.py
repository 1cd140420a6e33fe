"""A later call of a run: the same request made again by the server, answered with operations.

The run's state is fetched, the handler replays it, and what comes then is one step, or what must wait, or the answer of
the endpoint, which ends the run. The host is that of served functions; what differs is where chunks go, and that the
result is an HTTP answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from perdure.model.ids import step_hash
from perdure.model.json import Json, encode
from perdure.model.limits import SECOND
from perdure.model.ops import RUN_COMPLETE
from perdure.sdk.failure import failure_of
from perdure.sdk.function import Function
from perdure.serving import outgoing
from perdure.serving.endpoints import events
from perdure.serving.endpoints.checkpoints import State
from perdure.serving.endpoints.first import EndpointTimeoutError
from perdure.serving.endpoints.requests import EndpointRequest
from perdure.serving.endpoints.responses import Captured, capture
from perdure.serving.exchange import Answer
from perdure.serving.host import CallHost
from perdure.serving.incoming import CallContext, IncomingCall
from perdure.serving.outbound import Outbound
from perdure.serving.streaming import ServerChannel
from perdure.wire import headers as names

if TYPE_CHECKING:
    from starlette.requests import Request

_log = logging.getLogger("perdure.serving")
_FUNCTION: Final = step_hash("complete")


class Returns(msgspec.Struct):
    """Where a handler leaves what it returns: HTTP answers are not JSON, so they cannot be its result."""

    value: Json = None


class LaterCall:
    """One later call. `timeout` is in ms, `most` the size of an answer in bytes."""

    def __init__(
        self, run_id: str, request: EndpointRequest, state: State, outbound: Outbound, now: Callable[[], int]
    ) -> None:
        self._request = request
        self._state = state
        self._outbound = outbound
        self._now = now
        self._channel = ServerChannel(outbound, run_id, request.header(names.REQUEST_ID) or "")
        plan = request.header(names.FORCE_STEP_PLAN) == "true"
        ctx = CallContext(run_id, disable_immediate_execution=plan)
        self._call = IncomingCall(ctx, state.events, state.steps, 2, False)

    async def answer(
        self, function: Function[Json], returns: Returns, request: Request, *, timeout: int, most: int
    ) -> Answer:
        """Carries it out. `returns` is where the handler of `function` leaves what it returns."""
        target = self._request.header(names.STEP_ID) or None
        host = CallHost(
            function, self._call, None if target == "step" else target, self._outbound, self._channel, self._now,
            checkpointing=False,
        )  # fmt: skip
        last = b""
        try:
            async with asyncio.timeout(timeout / SECOND):
                found = await host.run()
                if found.status == 200:
                    captured = await capture(returns.value, request, most)
                    found, last = _result(captured), self._last(captured)
        except TimeoutError:
            seconds = f"{timeout / SECOND:g}s"
            error = EndpointTimeoutError(f"the handler did not return within {seconds} (the option timeout)")
            found = outgoing.failed(failure_of(error, self._now()))
        except Exception as error:
            _log.warning("run %s: its answer could not be made: %s", self._call.ctx.run_id, type(error).__name__)
            found = outgoing.failed(failure_of(error, self._now()))
        await self._channel.close(last)
        return found

    def _last(self, captured: Captured) -> bytes:
        """The last event of the stream, for a server that does not make it of the result: one that keeps less of the
        request than it was told."""
        kept = self._state.events[0].data.get("body_encoding") if self._state.events else None
        return b"" if kept else events.succeeded(captured)


def _result(captured: Captured) -> Answer:
    return Answer(206, encode({"id": _FUNCTION, "op": RUN_COMPLETE, "data": captured.result()}))
