"""A host that a test scripts: it answers from tables, keeps every operation, and can play a run again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from perdure import Event, Function
from perdure.model import json
from perdure.model.json import Json
from perdure.model.ops import STEP_ERROR, STEP_RUN, Memo, Op, OpenStep, Retry
from perdure.sdk.execution import Execution
from perdure.sdk.port import FetchRequest, FetchResponse, Snapshot

T = TypeVar("T")
R = TypeVar("R")

NOW = 1_800_000_000_000


class ScriptedHost:
    """Records what a run reports. `answers` are the values of waits, by step name."""

    def __init__(self, answers: dict[str, Json] | None = None, retries: int = 4) -> None:
        self.ops: list[Op] = []
        self.memos: dict[str, Memo] = {}
        self.answers = answers or {}
        self.rejoins: dict[str, Memo | Retry] = {}
        self.rejoined: list[str] = []
        self.retries = retries
        self.running = 0
        self.peak = 0
        self.requests: list[FetchRequest] = []
        self.responses: list[FetchResponse | OSError] = []

    @property
    def log(self) -> list[tuple[str, str, int]]:
        """The operations as (op, name, attempt)."""
        return [(op.op, op.name, op.attempt) for op in self.ops]

    def now(self) -> int:
        return NOW

    def enter_step(self, op: Op) -> None:
        self.running += 1
        self.peak = max(self.peak, self.running)

    def leave_step(self) -> None:
        self.running -= 1

    async def report(self, op: Op) -> Memo | Retry:
        assert op.id not in self.memos, f"{op.name} was done again"
        self.ops.append(op)
        # As with a real commit, others get to run before the outcome is known.
        await asyncio.sleep(0)
        if op.op == STEP_ERROR:
            assert op.error is not None
            retries = (op.opts or {}).get("retries", self.retries)
            if op.attempt < retries and not op.no_retry:
                return Retry(op.attempt + 1)
            memo = Memo(json.encode(op.error), failed=True)
        elif op.op == STEP_RUN:
            assert op.data is not None
            memo = Memo(op.data)
        else:
            answer = self.answers.get(op.name)
            memo = answer if isinstance(answer, Memo) else Memo(json.encode(answer))
        self.memos[op.id] = memo
        return memo

    async def rejoin(self, step_id: str) -> Memo | Retry:
        self.rejoined.append(step_id)
        await asyncio.sleep(0)
        return self.rejoins[step_id]

    async def in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)

    async def fetch(self, request: FetchRequest) -> FetchResponse:
        self.requests.append(request)
        response = self.responses.pop(0)
        if isinstance(response, OSError):
            raise response
        return response


def execution(
    function: Function[R],
    host: ScriptedHost,
    *,
    data: dict[str, Json] | None = None,
    memos: dict[str, Memo] | None = None,
    opened: dict[str, OpenStep] | None = None,
    attempt: int = 0,
) -> Execution[R]:
    event = Event(name="test/started", data=data or {}, id="event-1", ts=NOW)
    return Execution(
        function, Snapshot(memos or {}, opened or {}), host, [event], "RUN1", attempt=attempt, max_attempts=5
    )


async def play(function: Function[R], host: ScriptedHost, **data: Json) -> Json:
    """Runs the function, and again from what was recorded: both must give the same. Gives the result."""
    first = await execution(function, host, data=data).run()
    again = ScriptedHost()
    replay = await execution(function, again, data=data, memos=dict(host.memos)).run()
    assert again.ops == [], "the replay did something again"
    assert replay == first
    return json.decode(first)
