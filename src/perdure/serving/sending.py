"""Events and signals that a served app sends: those of steps, and those of `app.send`.

The ids of a step's events are made from the run and the step, so a step that is done again (its app died before it
could report) sends the same events, and the server knows them. A signal has no id: it may come twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable

from perdure.model.errors import NonRetriableError
from perdure.model.event import EventError
from perdure.model.ids import is_ulid, ulid_millis
from perdure.model.json import Json, encode
from perdure.model.ops import SEND_EVENT, STEP_ERROR, STEP_RUN, Op
from perdure.sdk.failure import failure_of
from perdure.serving.incoming import IncomingCall
from perdure.serving.outbound import Outbound, ServerError
from perdure.serving.threads import background_loop

_ENTROPY = 10
_TRIES = 3
_PAUSE = 0.2


class Deliveries:
    """Carries out the sending steps of one call."""

    def __init__(self, outbound: Outbound, call: IncomingCall) -> None:
        self._outbound = outbound
        self._call = call

    async def deliver(self, op: Op, now: Callable[[], int]) -> Op:
        """Does what a sending step asks for; the outcome, as that of a step that was executed."""
        done = Op(STEP_RUN, op.id, op.name, attempt=op.attempt, started_at=op.started_at)
        kind = "step.sendEvent" if op.op == SEND_EVENT else "step.sendSignal"
        done.opts = {"type": kind}
        try:
            done.data = encode(await self._send(op))
        except (ServerError, NonRetriableError) as error:
            failure = failure_of(error, now())
            done.op, done.error, done.no_retry = STEP_ERROR, failure.info, failure.no_retry
        done.ended_at = now()
        return done

    async def _send(self, op: Op) -> Json:
        given = op.opts or {}
        if op.op != SEND_EVENT:
            return await self._outbound.send_signal(given["signal"], given["data"])
        run_id = self._call.ctx.run_id
        millis = ulid_millis(run_id) if is_ulid(run_id) else self._call.events[0].ts
        entropy = hashlib.sha256(f"{run_id}.{op.id}".encode()).digest()[:_ENTROPY]
        try:
            return await self._outbound.send_events(given["events"], millis, entropy)
        except EventError as error:
            raise NonRetriableError(f"step {op.name!r}: {error}") from error


class ServerSender:
    """Takes the events of `app.send` to the server. A request that was lost is repeated, and stored once."""

    def __init__(self, outbound: Outbound, now: Callable[[], int]) -> None:
        self._outbound = outbound
        self._now = now

    def loop(self) -> asyncio.AbstractEventLoop:
        return background_loop()

    async def send(self, events: list[dict[str, Json]]) -> list[str]:
        millis, entropy = self._now(), os.urandom(_ENTROPY)
        trial = 1
        while True:
            try:
                return await self._outbound.send_events(events, millis, entropy)
            except ServerError as error:
                if trial == _TRIES or 0 < error.status < 500:
                    raise
            await asyncio.sleep(_PAUSE * trial)
            trial += 1
