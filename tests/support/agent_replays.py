"""A journal that is replayed, for the tests of the loop: it keeps what steps recorded, as an engine does.

It dies on purpose before or after it records a step; what it kept (`Rows`) is what the next one begins with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from perdure.agents.chunks import Chunk
from perdure.agents.context import ToolContext
from perdure.agents.declared import DeclaredAgent
from perdure.agents.fold import Fold
from perdure.agents.journal import Decision, Delegation, Question, StepScope
from perdure.agents.loop import run_loop
from perdure.agents.ports import Services
from perdure.agents.starting import prepare_start
from perdure.agents.state import RunResult
from perdure.agents.subagents import nested
from perdure.agents.tools import tool
from perdure.model.errors import NonRetriableError, StepError, describe
from perdure.model.json import Json, decode, encode
from perdure.sdk.function import Function
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Asked, Text, ToolCall, Turn
from tests.support.agent_runs import scripted

_saying: ContextVar[list[Chunk]] = ContextVar("_saying")


class Death(BaseException):
    """The process dies."""


class Rows:
    """What survives a death."""

    def __init__(self) -> None:
        self.steps: dict[str, bytes] = {}
        self.began: dict[str, int] = {}
        self.said: dict[str, list[Chunk]] = {}
        self.order: list[str] = []


class MemoJournal:
    """Records in `rows`; dies at the `deadline`-th time that it could."""

    def __init__(self, agent: DeclaredAgent, rows: Rows, deadline: int) -> None:
        self.run_id = "run-0"
        self._agent = agent
        self._rows = rows
        self._left = deadline
        self._dead = False

    def now(self) -> int:
        return 0

    def _may_die(self) -> None:
        self._left -= 1
        self._dead = self._dead or self._left == 0
        if self._dead:
            raise Death

    async def step(
        self,
        id: str,
        call: Callable[[StepScope], Awaitable[Json]],
        *,
        retries: int | None = None,
        timeout: int | None = None,
        once: bool = False,
    ) -> Json:
        rows = self._rows
        if id in rows.steps:
            return decode(rows.steps[id])
        failures = 0
        while True:
            self._may_die()
            began = rows.began.get(id, 0)
            rows.began[id] = began + 1
            said: list[Chunk] = []
            _saying.set(said)
            try:
                found = await call(StepScope(id, began if once else failures))
            except Exception as error:
                if failures >= (retries or 0) or isinstance(error, NonRetriableError):
                    raise StepError(id, describe(error)) from error
                failures += 1
                continue
            self._may_die()
            rows.steps[id] = encode(found)
            rows.said[id] = said
            rows.order.append(id)
            self._may_die()
            return decode(rows.steps[id])

    def push(self, said: Chunk) -> None:
        _saying.get().append(said)

    async def drained(self) -> None:
        return

    async def ask(self, question: Question, announce: Callable[[], Awaitable[Chunk]]) -> Decision | None:
        async def put(_: StepScope) -> None:
            self.push(await announce())

        await self.step(f"ask:{question.place}", put)
        return Decision(True, data={"n": 1} if question.kind == "suspension" else None)

    async def open_questions(self) -> dict[str, Question]:
        return {}

    async def invoke(self, id: str, function: Function[Json], data: dict[str, Json]) -> Json:
        raise AssertionError("no workflow here")

    async def delegate(self, delegation: Delegation) -> Json:
        return await nested(self, delegation, self._agent)


done: list[str] = []


@tool
async def add(x: int) -> int:
    """Adds."""
    done.append(f"add {x}")
    return x + 1


@tool(requires_approval=True)
async def pay(x: int, ctx: ToolContext) -> Json:
    """Needs approval, then an answer."""
    if ctx.resume_data is None:
        ctx.suspend({"how": "?"})
    done.append(f"pay {x}")
    return ctx.resume_data


def noted(what: str, value: int) -> int:
    done.append(what)
    return value


@tool(steps=True)
async def long(ctx: ToolContext) -> int:
    """Has steps of its own."""
    first: int = await ctx.step("first", noted, "first", 1)
    second: int = await ctx.step("second", noted, "second", 2)
    return first + second


def by_turns(turns: list[Json]) -> ScriptedModel:
    """A model that goes by the conversation, so that another attempt does not get the next turn."""

    def turn(asked: Asked) -> Turn:
        roles = [message["role"] for message in asked.messages]
        # A sub-agent is told the conversation above it, too.
        answer: Turn = turns[roles[::-1].index("user")]
        return answer

    return ScriptedModel(turn)


def crew() -> DeclaredAgent:
    """An agent whose run has every kind of step: tools, an approval, a suspension, nested steps, a sub-agent."""
    helper, _ = scripted(model=by_turns([[ToolCall("add", {"x": 7}, "h1")], "helped"]), tools=[add])
    turns: list[Json] = [
        [Text("first"), ToolCall("add", {"x": 1}, "c1"), ToolCall("pay", {"x": 2}, "c2")],
        [ToolCall("long", {}, "c3"), ToolCall("agent-helper", {"prompt": "help"}, "c4")],
        "all done",
    ]
    return scripted(model=by_turns(turns), tools=[add, pay, long], agents={"helper": helper})[0]


async def run_to_the_end(agent: DeclaredAgent, deadlines: list[int]) -> tuple[RunResult, Rows]:
    """A run that dies at these places, one process after the other, and then is left alone."""
    rows = Rows()
    start = prepare_start(agent, "go", {}, new_id="run-0", now=0)
    for deadline in [*deadlines, 0]:
        try:
            result = await run_loop(agent, MemoJournal(agent, rows, deadline), start.request, Services())
        except Death:
            await asyncio.sleep(0)
            continue
        return result, rows
    raise AssertionError("it never ended")


def committed(rows: Rows) -> Fold:
    """What its readers are left with."""
    fold = Fold()
    for step_id in rows.order:
        for said in rows.said[step_id]:
            fold.take(said)
    return fold
