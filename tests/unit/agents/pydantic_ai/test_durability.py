"""Agents of pydantic-ai inside of functions: what becomes steps, what is said, what fails, and what waits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext
from pydantic_ai.capabilities import RequestInput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.external_events import ExternalEventError, wait_for_external_event
from pydantic_ai.messages import AgentStreamEvent, ModelMessage, ModelResponse, TextPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from perdure import App, Context, RunFailedError, step
from perdure.agents.pydantic_ai import PerdureDurability, failed_event, is_pydantic_agent, resolved_event
from perdure.engine.reads import steps_of
from perdure.model.json import Json
from perdure.node import Node
from perdure.testing import EngineFactory, VirtualClock

Piece = str | dict[int, DeltaToolCall] | Exception


def call(index: int, name: str, args: str, id: str) -> Piece:
    return {index: DeltaToolCall(name=name, json_args=args, tool_call_id=id)}


class Scripted:
    """A model with a list of answers, one for each request; the results of tools that it saw."""

    def __init__(self, *turns: list[Piece]) -> None:
        self.turns = list(turns)
        self.seen: list[list[Json]] = []
        self.model = FunctionModel(self._whole, stream_function=self._stream)

    async def _whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        pieces = [piece async for piece in self._stream(messages, info)]
        return ModelResponse(parts=[TextPart("".join(piece for piece in pieces if isinstance(piece, str)))])

    async def _stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        self.seen.append([part.content for part in returned])
        for piece in self.turns[len(self.seen) - 1]:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def agent_of(script: Scripted, **options: Json) -> Agent[object, Json]:
    return Agent(script.model, name="clerk", capabilities=[PerdureDurability(**options)])


def app_of(handler: Callable[[Context], Json], retries: int = 0) -> App:
    app = App("t")
    app.function("f", trigger="t/go", retries=retries)(handler)
    return app


async def names(engine: Node, run_id: str) -> list[str]:
    """The steps of a run, in the order in which they were recorded."""
    found = await engine.view(lambda: steps_of(run_id))
    return [one.name for one in found]


async def said(engine: Node, run_id: str) -> list[Json]:
    """What a run said, and what became of it."""
    events = [event async for event in engine.run(run_id).stream()]
    return [event.data["type"] if event.kind == "data" else event.kind for event in events]


ADD_THEN_TELL: list[list[Piece]] = [
    ["let me ", call(1, "add", '{"a": 1, "b": 2}', "c1"), call(2, "add", '{"a": 3, "b": 4}', "c2")],
    ["sum ", "is"],
]


async def test_a_model_call_and_a_tool_call_are_a_step_each(perdure_engine: EngineFactory) -> None:
    script = Scripted(*ADD_THEN_TELL)
    agent = agent_of(script)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    async def handler(ctx: Context) -> str:
        done = await agent.run("go")
        assert done.run_id == ctx.run_id
        return str(done.output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "sum is"
    assert sorted(await names(engine, run.run_id)) == ["llm:0", "llm:1", "tool:c1", "tool:c2"]
    assert script.seen == [[], [3, 7]]
    heard = await said(engine, run.run_id)
    assert heard[:4] == ["response-metadata", "text-start", "text-delta", "text-end"]
    assert heard.count("tool-result") == 2 and heard.count("commit") == 4 and "rollback" not in heard


async def test_nothing_is_done_again_after_a_restart(perdure_engine: EngineFactory, tmp_path: Path) -> None:
    script = Scripted(*ADD_THEN_TELL)
    sums = 0

    def make() -> App:
        agent = agent_of(script)

        @agent.tool_plain
        def add(a: int, b: int) -> int:
            nonlocal sums
            sums += 1
            return a + b

        async def handler(ctx: Context) -> str:
            told = (await agent.run("go")).output
            await step.sleep("a day", "1d")
            return str(told)

        return app_of(handler)

    first = await perdure_engine(make(), db=tmp_path / "db")
    run = await first.trigger("t-f")
    await first.settle()
    await first.stop()
    second = await perdure_engine(make(), db=tmp_path / "db")
    await second.drain()
    assert await second.run(run.run_id).result() == "sum is"
    assert (len(script.seen), sums) == (2, 2)


async def test_outside_of_functions_and_inside_of_steps_an_agent_runs_as_ever(perdure_engine: EngineFactory) -> None:
    script = Scripted(["plain"], ["inner"])
    agent = agent_of(script)
    assert (await agent.run("go")).output == "plain"

    async def ask() -> str:
        return str((await agent.run("go")).output)

    async def handler(ctx: Context) -> str:
        return await step.run("ask", ask)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "inner"
    assert await names(engine, run.run_id) == ["ask"]


async def test_an_attempt_that_fails_takes_back_what_it_said(perdure_engine: EngineFactory) -> None:
    script = Scripted(["half a ", ModelHTTPError(503, "m")], ["whole"])
    agent = agent_of(script)

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "whole"
    heard = await said(engine, run.run_id)
    # Who comes late does not hear of it at all.
    assert heard.count("text-delta") == 1
    assert await names(engine, run.run_id) == ["llm:0"]


async def test_what_will_fail_again_is_not_tried_again(perdure_engine: EngineFactory) -> None:
    body = {"error": {"message": "no such key sk-abcdefghijklmnopqrst"}}
    script = Scripted([ModelHTTPError(400, "m", body)])
    agent = agent_of(script)

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    with pytest.raises(RunFailedError) as caught:
        await run.result()
    assert len(script.seen) == 1
    assert "no such key [redacted]" in str(caught.value)


async def test_several_runs_of_agents_in_one_function_are_told_apart(perdure_engine: EngineFactory) -> None:
    one, two = Scripted(["one"], ["three"]), Scripted(["two"])
    first = agent_of(one)
    second: Agent[object, str] = Agent(two.model, name="other", capabilities=[PerdureDurability()])

    async def handler(ctx: Context) -> list[str]:
        both = await asyncio.gather(first.run("a"), second.run("b"))
        last = await first.run("c", message_history=both[0].all_messages())
        return [str(done.output) for done in (*both, last)]

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == ["one", "two", "three"]
    assert sorted(await names(engine, run.run_id)) == ["clerk@2/llm:0", "llm:0", "other@1/llm:0"]


async def test_a_sub_agent_in_a_tool_is_part_of_its_step(perdure_engine: EngineFactory) -> None:
    inner = Scripted(["inner answer"])
    outer = Scripted([call(0, "ask", "{}", "c1")], ["done"])
    helper = agent_of(inner)
    agent: Agent[object, str] = Agent(outer.model, name="boss", capabilities=[PerdureDurability()])

    @agent.tool_plain
    async def ask() -> str:
        return str((await helper.run("help")).output)

    async def handler(ctx: Context) -> str:
        return (await agent.run("go")).output

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "done"
    assert sorted(await names(engine, run.run_id)) == ["llm:0", "llm:1", "tool:c1"]
    assert outer.seen[1] == ["inner answer"]


async def test_what_the_model_is_told_to_mend_is_no_failure(perdure_engine: EngineFactory) -> None:
    script = Scripted([call(0, "add", '{"a": 1}', "c1")], [call(0, "add", '{"a": 2}', "c2")], ["fine"])
    agent = agent_of(script)

    @agent.tool_plain
    def add(a: int) -> int:
        if a == 1:
            raise ModelRetry("not one")
        return a

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "fine"
    assert (await said(engine, run.run_id)).count("tool-error") == 1


async def test_options_of_units(perdure_engine: EngineFactory) -> None:
    script = Scripted([call(0, "flaky", "{}", "c1"), call(1, "inline", "{}", "c2")], ["fine"])
    agent = agent_of(script, tool={"retries": 2})
    tries = {"flaky": 0, "inline": 0}

    @agent.tool_plain(metadata={"perdure": {"timeout": "30s"}})
    def flaky() -> str:
        tries["flaky"] += 1
        if tries["flaky"] < 3:
            raise ConnectionError("not yet")
        return "at last"

    @agent.tool_plain(metadata={"perdure": False})
    async def inline() -> str:
        tries["inline"] += 1
        return "beside"

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "fine"
    assert sorted(script.seen[1]) == ["at last", "beside"]
    assert sorted(await names(engine, run.run_id)) == ["llm:0", "llm:1", "tool:c1"]


async def test_a_handler_of_events_hears_them_and_the_stream_does_too(perdure_engine: EngineFactory) -> None:
    heard: list[str] = []

    async def listen(ctx: RunContext[object], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            heard.append(event.event_kind)

    script = Scripted([call(0, "now", "{}", "c1")], ["done"])
    agent = agent_of(script, event_stream_handler=listen)

    @agent.tool_plain
    def now() -> str:
        return "noon"

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "done"
    assert {"part_start", "function_tool_call", "function_tool_result"} <= set(heard)
    assert "tool-result" in await said(engine, run.run_id)
    assert "event:0" in await names(engine, run.run_id)


async def test_silent_agents_say_nothing(perdure_engine: EngineFactory) -> None:
    agent = agent_of(Scripted(["quiet"]), stream=False)

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert await run.result() == "quiet"
    assert await said(engine, run.run_id) == ["response"]


class Asked:
    """Who is asked, and has the token."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def ask(self, ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        self.tokens.append(token)


async def test_a_question_to_somebody_parks_the_run_until_the_answer(
    perdure_engine: EngineFactory, perdure_clock: VirtualClock, tmp_path: Path
) -> None:
    script = Scripted([call(0, "pay", '{"cents": 5}', "c1")], ["paid"])
    asked, paid = Asked(), 0

    def make() -> App:
        agent: Agent[object, Json] = Agent(
            script.model, name="clerk", capabilities=[PerdureDurability(), RequestInput(asked.ask)]
        )

        @agent.tool_plain(requires_approval=True)
        def pay(cents: int) -> str:
            nonlocal paid
            paid += 1
            return "ok"

        async def handler(ctx: Context) -> str:
            return str((await agent.run("go")).output)

        return app_of(handler)

    app = make()
    first = await perdure_engine(app, db=tmp_path / "db")
    run = await first.trigger("t-f")
    await first.settle()
    assert len(asked.tokens) == 1 and paid == 0
    await first.stop()

    again = make()
    second = await perdure_engine(again, db=tmp_path / "db")
    await second.settle()
    await again.send(resolved_event("another", {"approvals": {"c1": True}}))
    await second.settle()
    assert paid == 0
    await again.send(resolved_event(asked.tokens[0], {"approvals": {"c1": True}}))
    await second.drain()
    assert await second.run(run.run_id).result() == "paid"
    assert (len(asked.tokens), len(script.seen), paid) == (1, 2, 1)


@pytest.mark.parametrize("how", ["at once", "failed", "too late"])
async def test_how_a_wait_ends(perdure_engine: EngineFactory, how: str) -> None:
    tokens: list[str] = []

    async def ask(token: str) -> Json:
        tokens.append(token)
        return {"yes": True} if how == "at once" else None

    script = Scripted(["hello"])
    agent = agent_of(script)

    @agent.output_validator
    async def wait(ctx: RunContext[object], output: str) -> str:
        try:
            return str(await wait_for_external_event("check", ask=ask, timeout=timedelta(hours=1)))
        except ExternalEventError as error:
            return f"no answer: {error}"

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go")).output)

    app = app_of(handler)
    engine = await perdure_engine(app)
    run = await engine.trigger("t-f")
    await engine.settle()
    if how == "failed":
        await app.send(failed_event(tokens[0], "nobody is here"))
    await engine.drain()
    told = {
        "at once": "{'yes': True}",
        "failed": "no answer: nobody is here",
        "too late": "no answer: No resolution arrived within 1:00:00.",
    }
    assert await run.result() == told[how]


async def test_a_run_with_a_time_limit_counts_from_its_recorded_start(perdure_engine: EngineFactory) -> None:
    script = Scripted(["hello"])
    agent = agent_of(script)

    async def handler(ctx: Context) -> str:
        return str((await agent.run("go", timeout=60)).output)

    engine = await perdure_engine(app_of(handler))
    run = await engine.trigger("t-f")
    await engine.drain()
    assert sorted(await names(engine, run.run_id)) == ["llm:0", f"started:{run.run_id}"]


def test_the_package_loads_nothing_of_pydantic_ai_by_itself() -> None:
    code = (
        "import sys; from perdure.agents.pydantic_ai import is_pydantic_agent; assert not is_pydantic_agent(1);"
        "assert not {'pydantic_ai', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert is_pydantic_agent(Agent("test"))
