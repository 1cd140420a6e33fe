"""Recording steps while a call goes on (parts C.9 and E.8): one request to the server after each, instead of one call.

Invariant: a step is shown to the handler only once the server has taken it. The server fences: a call that it gave up
meanwhile is told so, and ends.
"""

from __future__ import annotations

from enum import Enum, auto

from perdure.model.json import Json
from perdure.serving.exchange import REQUEST_VERSION
from perdure.serving.incoming import IncomingCall
from perdure.serving.outbound import Outbound, ServerError

_STALE = 409


class Taken(Enum):
    """What became of a step that was to be recorded."""

    RECORDED = auto()
    STALE = auto()
    """The server has given this call up: nothing of it counts any more."""
    REFUSED = auto()
    """It was not recorded; the answer of the call must carry it. (The server takes a step twice, as one.)"""


class Checkpoints:
    """Records the steps of one call."""

    def __init__(self, outbound: Outbound, call: IncomingCall, started_at: int) -> None:
        self._outbound = outbound
        self._ctx = call.ctx
        self._started_at = started_at
        self.recorded = False

    @staticmethod
    def possible(call: IncomingCall) -> bool:
        """Whether the server lets steps of a call be recorded while it goes on.

        Not for a later attempt, whose first step decides whether attempts count anew; that is for the answer to say.
        """
        ctx = call.ctx
        classic = ctx.disable_immediate_execution or ctx.attempt > 0 or call.version not in (-1, REQUEST_VERSION)
        return not classic and bool(ctx.fn_id and ctx.qi_id)

    async def record(self, op: dict[str, Json], now: int) -> Taken:
        """Has a finished step recorded."""
        ctx = self._ctx
        report: dict[str, Json] = {
            "run_id": ctx.run_id,
            "fn_id": ctx.fn_id,
            "qi_id": ctx.qi_id,
            "request_id": ctx.request_id,
            "request_started_at": self._started_at,
            "steps": [op],
            "ts": now,
        }
        if ctx.generation_id is not None:
            report["generation_id"] = ctx.generation_id
        try:
            status = await self._outbound.checkpoint(ctx.run_id, report)
        except ServerError:
            return Taken.REFUSED
        if status == _STALE:
            return Taken.STALE
        if status // 100 != 2:
            return Taken.REFUSED
        self.recorded = True
        return Taken.RECORDED
