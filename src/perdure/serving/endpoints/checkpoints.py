"""The port by which an endpoint has its runs recorded, and how a server does so (`/v1/checkpoint` and its kin).

Invariant: a report that may have been taken is repeated as it was, for servers take a run and a step once; one that was
refused is not. Whatever comes of it, the caller learns what to do: go on, stop, or fail.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import quote, urlencode

import msgspec

from perdure.model.errors import PerdureError
from perdure.model.event import Event
from perdure.model.json import Json
from perdure.serving.incoming import parse_events, parse_steps
from perdure.serving.outbound import Outbound, Received, ServerError

_TRIES: Final = 5
_PAUSE: Final = 0.1
"""The pause before the second try (seconds); it doubles, and chance adds as much again at most."""
_AGAIN: Final = frozenset({0, 408, 425, 429})
_STALE: Final = frozenset({409, 410})


class RefusedReportError(PerdureError):
    """The report was refused, and will be however often it comes. `status` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_stale(self) -> bool:
        """Whether the run goes on without this request, or is over."""
        return self.status in _STALE


class NewRun(msgspec.Struct):
    """A request that becomes a run. `request` is the data of its event."""

    run_id: str
    request: dict[str, Json]
    retries: int
    ts: int


class Begun(msgspec.Struct):
    """A run that is recorded.

    `goes_on`: a step that failed for good does not end the report of the request. `silence`: for how long the server
    may hear nothing (seconds) before it makes the request again, `grace`: the same after it was restarted; 0: no word.
    """

    run_id: str
    fn_id: str
    app_id: str
    token: str
    realtime_token: str
    goes_on: bool = False
    silence: float = 0.0
    grace: float = 0.0


class State(msgspec.Struct):
    """What is recorded of a run: its events, and the memos of its steps."""

    events: list[Event]
    steps: dict[str, msgspec.Raw]


class Checkpoints(Protocol):
    """Has runs recorded. Every method raises `RefusedReportError` or `ServerError` for what did not succeed."""

    async def begin(self, run: NewRun, ops: list[dict[str, Json]]) -> Begun:
        """Records a run and what is done of it. Said twice, it is recorded once."""
        ...

    async def steps(self, begun: Begun, ops: list[dict[str, Json]], now: int) -> None:
        """Records what more is done of it."""
        ...

    async def state(self, run_id: str) -> State:
        """What is recorded of it."""
        ...


class ServerCheckpoints:
    """Checkpoints by a server, or by an engine that is asked like one."""

    def __init__(self, outbound: Outbound, chance: Callable[[], float] = random.random) -> None:
        self._outbound = outbound
        self._chance = chance

    async def begin(self, run: NewRun, ops: list[dict[str, Json]]) -> Begun:
        """See `Checkpoints`."""
        report = {
            "run_id": run.run_id,
            "event": {"name": "inngest/http.request", "data": run.request},
            "steps": ops,
            "ts": run.ts,
            "request_version": 2,
            "retries": run.retries,
            "goes_on": True,
        }
        received = await self._report("/v1/checkpoint", report)
        body = received.json()
        try:
            return msgspec.convert(body["data"], Begun)
        except (msgspec.ValidationError, KeyError, TypeError) as error:
            raise ServerError(f"the server did not say what the run is called: {error}", received.status) from error

    async def steps(self, begun: Begun, ops: list[dict[str, Json]], now: int) -> None:
        """See `Checkpoints`."""
        report = {"fn_id": begun.fn_id, "app_id": begun.app_id, "run_id": begun.run_id, "steps": ops, "ts": now}
        if begun.goes_on:
            report["goes_on"] = True
        await self._report(f"/v1/checkpoint/{begun.run_id}/steps", report)

    async def state(self, run_id: str) -> State:
        """See `Checkpoints`."""
        events, steps = await asyncio.gather(self._outbound.events_of(run_id), self._outbound.steps_of(run_id))
        return State(parse_events(events), parse_steps(steps))

    async def _report(self, path: str, report: dict[str, Json]) -> Received:
        trial = 1
        while True:
            failure: ServerError
            try:
                received = await self._outbound.ask("POST", path, report)
                if received.status // 100 == 2:
                    return received
                failure = ServerError(_said(received), received.status)
            except ServerError as error:
                failure = error
            if failure.status not in _AGAIN and failure.status < 500:
                raise RefusedReportError(failure.status, str(failure)) from failure
            if trial == _TRIES:
                raise failure
            await asyncio.sleep(_PAUSE * 2 ** (trial - 1) + self._chance() * _PAUSE)
            trial += 1


def output_path(run_id: str, token: str) -> str:
    """Where a server answers with what a run puts out."""
    return f"/v1/http/runs/{quote(run_id, safe='')}/output?{urlencode({'token': token})}"


def stream_path(realtime_token: str) -> str:
    """Where a server tells a run's stream."""
    return f"/v1/realtime/sse?{urlencode({'token': realtime_token})}"


def _said(received: Received) -> str:
    body = received.json()
    error = body.get("error") if isinstance(body, dict) else None
    text = error if isinstance(error, str) else received.body[:300].decode("utf-8", "replace")
    return f"the server answered {received.status}: {text}"
