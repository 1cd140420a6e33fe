"""What durable agents promise, on the engine of the process and on a server that calls a served app alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from perdure import App, Context, NonRetriableError
from perdure.agents.agent import Agent
from perdure.agents.chunks import Chunk
from perdure.agents.durable import AgentRuns, create_durable_agent
from perdure.agents.durable.log import ROLLBACK
from perdure.agents.durable.reading import new_ids
from perdure.agents.errors import ConflictError, InvalidOptionError, RunNotFoundError
from perdure.agents.memory import Memory
from perdure.agents.options import NonPortableOptionError, NonPortableOptionWarning
from perdure.agents.signals import Signals
from perdure.agents.tools import tool
from perdure.model.errors import PerdureError
from perdure.model.json import Json
from perdure.testing import ScriptedModel
from perdure.testing.script import Break, Delay, Fail, Piece, Text, ToolCall
from tests.support.agent_desk import Desk
from tests.support.agent_world import ENGINES, AgentWorld, agent_world, kinds, read, text_of

pytestmark = pytest.mark.timeout(60)

ONE_TOOL = [
    *("start", "step-start", "response-metadata"),
    *("tool-call-input-streaming-start", "tool-call-delta", "tool-call-input-streaming-end", "tool-call"),
    *("tool-result", "step-finish", "step-start", "response-metadata"),
    *("text-start", "text-delta", "text-end", "step-finish", "finish"),
]


@pytest.fixture(params=ENGINES)
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[tuple[Desk, AgentWorld], None]:
    made = Desk()
    async with agent_world(request.param, tmp_path, made.agent) as world:
        yield made, world


async def test_a_chat_with_one_tool_is_three_steps(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    run = await world.agent.stream('!tool add {"a": 1, "b": 2}')
    chunks = await read(run)
    assert kinds(chunks) == ONE_TOOL
    assert [said.index for said in chunks] == sorted({said.index for said in chunks})
    assert await world.steps(run) == ["llm:0", "tool:call_1", "llm:1"]
    assert made.done == [("add", [1, 2])]
    assert (await run.output.result()).finish_reason == "stop"
    assert await world.status(run) == "finished"


async def test_generate_gives_what_the_stream_adds_up_to(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    result = await world.agent.generate("Hello")
    assert (result.text, result.finish_reason, result.usage.total_tokens) == ("Echo: Hello", "stop", 15)


async def test_the_id_of_a_run_makes_it_the_same_run(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    first = await read(await world.agent.stream("Hello", run_id="r-1"))
    again = await read(await world.agent.stream("Hello", run_id="r-1"))
    assert [(said.index, said) for said in again] == [(said.index, said) for said in first]
    assert made.model.calls == 1
    with pytest.raises(ConflictError, match="another input"):
        await world.agent.stream("Good bye", run_id="r-1")


async def test_two_who_start_the_same_run_at_once_read_the_same(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    runs = await asyncio.gather(*(world.agent.stream("!slow 3 20", run_id="r-2") for _ in range(3)))
    texts = [text_of(await read(run)) for run in runs]
    assert len(set(texts)) == 1 and texts[0]
    assert made.model.calls == 1


async def test_reading_again_from_every_place_gives_the_rest(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    run = await world.agent.stream('!tools add {"a": 1, "b": 2} | refund {"cents": 1}')
    await read(run)
    await read(await world.agent.approve_tool_call(run.run_id))
    whole = await read(await world.agent.observe(run.run_id))
    assert whole[-1].type == "finish"
    for place, said in enumerate(whole[:-1], 1):
        rest = await read(await world.agent.observe(run.run_id, last_event_id=str(said.index)))
        assert [(found.index, found) for found in rest] == [(found.index, found) for found in whole[place:]]
    for past in (whole[-1].index, whole[-1].index + 50):
        assert [found.type for found in await read(await world.agent.observe(run.run_id, offset=past))] == ["finish"]


async def test_unknown_runs_and_wrong_places_are_errors_at_once(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    with pytest.raises(RunNotFoundError):
        await world.agent.observe("nothing")
    with pytest.raises(RunNotFoundError):
        await world.agent.approve_tool_call("nothing")
    run = await world.agent.stream("Hello")
    await read(run)
    for wrong in ("-1", "x", 1.5):
        with pytest.raises(InvalidOptionError, match="offset"):
            await world.agent.observe(run.run_id, last_event_id=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="view"):
        await world.agent.observe(run.run_id, view="all")
    with pytest.raises(InvalidOptionError, match="on_chnk"):
        await world.agent.observe(run.run_id, on_chnk=print)


async def test_a_reader_that_leaves_takes_nothing_along(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    run = await world.agent.stream("!slow 6 30")
    stays = await world.agent.observe(run.run_id)
    async for said in run.full_stream:
        if said.type == "text-delta":
            break
    await run.cleanup()
    assert len(text_of(await read(stays)).split()) == 6
    late = await world.agent.observe(run.run_id, offset=run.cursor)
    assert (await read(late))[-1].type == "finish"


async def test_callbacks_hear_each_event_once_and_nothing_of_earlier_segments(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    first: list[str] = []
    second: list[str] = []

    def heard(told: list[str]) -> dict[str, Json]:
        names = ("on_chunk", "on_step_finish", "on_finish", "on_error", "on_suspended")
        return {name: (lambda _, name=name: told.append(name)) for name in names}

    run = await world.agent.stream('!tool refund {"cents": 1}', **heard(first))
    chunks = await read(run)
    assert first.count("on_chunk") == len(chunks)
    assert (first.count("on_suspended"), first.count("on_finish"), first.count("on_step_finish")) == (1, 0, 0)
    before = list(first)
    rest = await world.agent.approve_tool_call(run.run_id, **heard(second))
    await rest.output.result()
    assert first == before
    assert (second.count("on_suspended"), second.count("on_finish"), second.count("on_step_finish")) == (0, 1, 2)
    assert second.count("on_chunk") == len(await read(rest))


async def test_an_aborted_run_ends_for_everybody(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    run = await world.agent.stream("!slow 200 20")
    other = await world.agent.observe(run.run_id)
    async for said in run.full_stream:
        if said.type == "text-delta":
            break
    assert await run.abort()
    for reader in (run, other, await world.agent.observe(run.run_id)):
        result = await reader.output.result()
        assert result.finish_reason == "abort"
    assert await world.status(run) == "aborted"
    assert not await world.agent.abort(run.run_id)
    assert not (await world.agent.list_active_runs()).items


async def test_what_an_aborted_run_had_said_is_kept(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    made.agent.memory = Memory(storage=world.agent.engine.storage)
    run = await world.agent.stream("!slow 200 20", memory={"thread": "t", "resource": "u"})
    heard = ""
    async for said in run.full_stream:
        heard += said.payload["text"] if said.type == "text-delta" else ""
        if len(heard.split()) == 5:
            break
    assert await run.abort()
    asked, answer = (await world.agent.engine.storage.messages("t")).items
    assert (asked.text, answer.role, answer.id) == ("!slow 200 20", "assistant", f"{run.run_id}-m0")
    # The last words may have been told before they were in the log.
    assert answer.text.startswith(heard.split()[0])


async def test_a_run_that_is_cancelled_behind_the_agents_back_ends_for_its_readers_and_is_kept(
    desk: tuple[Desk, AgentWorld],
) -> None:
    made, world = desk
    made.agent.memory = Memory(storage=world.agent.engine.storage)
    run = await world.agent.stream("!slow 200 20", memory={"thread": "t", "resource": "u"})
    engine_run = (await world.agent.get_run(run.run_id)).engine_run_id
    assert engine_run is not None
    said: list[Chunk] = []
    async for item in run.full_stream:
        said.append(item)
        if item.type == "text-delta" and len(text_of(said).split()) == 5:
            await world.node.cancel(engine_run)
    assert kinds(said)[-2:] == ["abort", "finish"]
    assert await world.status(run) == "aborted"
    asked, answer = (await world.agent.engine.storage.messages("t")).items
    assert (asked.text, answer.id) == ("!slow 200 20", f"{run.run_id}-m0")
    assert answer.text.startswith(text_of(said).split()[0])


async def test_one_message_takes_in_all_steps_until_somebody_has_his_say(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    made.agent.memory = Memory(storage=world.agent.engine.storage)
    run = await world.agent.stream('!tool refund {"cents": 1}', memory={"thread": "t", "resource": "u"})
    chunks = await read(run)
    call = next(said.payload["toolCallId"] for said in chunks if said.type == "tool-call")
    _, asked = (await world.agent.engine.storage.messages("t")).items
    assert asked.metadata["pendingToolApprovals"][call]["args"] == {"cents": 1}
    rest = await read(await world.agent.approve_tool_call(run.run_id))
    told = [said.payload["messageId"] for said in chunks + rest if "messageId" in said.payload]
    first, second = f"{run.run_id}-m0", f"{run.run_id}-m1"
    # The end of the step that had asked tells into which message the run goes on.
    assert told == [first, first, second, second, second, second]
    _, answered, after = (await world.agent.engine.storage.messages("t")).items
    assert (answered.id, answered.metadata["mastra"]) == (first, {"responseBoundary": True})
    assert "pendingToolApprovals" not in answered.metadata
    assert (after.id, after.text) == (second, after.step_texts[-1])


async def test_errors_of_tools_go_to_the_model_without_their_stacks(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    chunks = await read(await world.agent.stream("!tool broken {}"))
    errors = [said for said in chunks if said.type == "tool-error"]
    assert [found.payload["error"] for found in errors] == [{"name": "ValueError", "message": "no paper"}]
    assert chunks[-1].type == "finish"
    assert "Traceback" not in str(chunks) and __file__ not in str(chunks)


async def test_a_model_that_refuses_ends_the_run_with_an_error(desk: tuple[Desk, AgentWorld]) -> None:
    _, world = desk
    run = await world.agent.stream("!error bad request")
    chunks = await read(run)
    assert kinds(chunks)[-3:] == ["error", "step-finish", "finish"]
    assert set(next(said for said in chunks if said.type == "error").payload["error"]) <= {"name", "message", "code"}
    assert await world.status(run) == "failed"


async def test_a_prepared_run_is_data_and_starts_later(desk: tuple[Desk, AgentWorld]) -> None:
    made, world = desk
    prepared = await world.agent.prepare("Hello", run_id="r-3")
    assert made.model.calls == 0
    with pytest.raises(RunNotFoundError):
        await world.agent.observe("r-3")
    moved = type(prepared).from_json(prepared.to_json())
    assert text_of(await read(await world.agent.start(moved))) == "Echo: Hello"
    assert text_of(await read(await world.agent.stream("Hello", run_id="r-3"))) == "Echo: Hello"
    assert made.model.calls == 1


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_retried_model_call_takes_back_what_it_had_said(kind: str, tmp_path: Path) -> None:
    turns: list[list[Piece]] = [[Text("partial answer", pause=300), Break()], [Text("full answer")]]
    made = Desk(ScriptedModel(turns))
    async with agent_world(kind, tmp_path, made.agent) as world:
        run = await world.agent.stream("Hello")
        chunks = await read(run)
        taken_back = [said for said in chunks if said.type == ROLLBACK]
        assert [said.payload["stepId"] for said in taken_back] == ["llm:0"]
        assert taken_back[0].payload["fromIndex"] == chunks[0].index
        assert (await run.output.result()).text == "full answer"
        late = await read(await world.agent.observe(run.run_id))
        assert text_of(late) == "full answer" and ROLLBACK not in kinds(late)
        settled = await read(await world.agent.observe(run.run_id, view="settled"))
        assert settled == late


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_failing_model_is_asked_again_and_then_another_one(kind: str, tmp_path: Path) -> None:
    first = ScriptedModel([[Fail("busy", retry_after=0.01)]] * 2, name="test/first")
    second = ScriptedModel([[Text("here")]], name="test/second")
    agent = Agent("desk", model=[{"model": first, "max_retries": 1}, {"model": second}])
    async with agent_world(kind, tmp_path, agent) as world:
        result = await world.agent.generate("Hello")
    assert (result.text, first.calls, second.calls) == ("here", 2, 1)


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_function_is_a_tool_and_runs_as_a_child(kind: str, tmp_path: Path) -> None:
    made: list[Json] = []

    def shipper(app: App) -> Agent:
        @app.function("ship")
        async def ship(ctx: Context) -> Json:
            made.append(ctx.event.data)
            return {"shipped": ctx.event.data["order"]}

        model = ScriptedModel([[ToolCall("workflow-ship", {"inputData": {"order": "A7"}}, id="c1")], [Text("done")]])
        return Agent("desk", model=model, workflows={"ship": ship})

    async with agent_world(kind, tmp_path, shipper) as world:
        run = await world.agent.stream("Ship it")
        chunks = await read(run)
        assert "sub:c1" in await world.steps(run)
    assert len(made) == 1 and text_of(chunks) == "done"


async def test_without_an_engine_it_is_an_error_at_once() -> None:
    durable = create_durable_agent(agent=Desk().agent, app=App("nowhere"))
    with pytest.raises(PerdureError, match="nothing runs the app 'nowhere'"):
        await durable.stream("Hello")


async def test_functions_that_only_this_process_has_are_warned_of(tmp_path: Path) -> None:
    made = Desk()
    async with agent_world("local", tmp_path, made.agent) as world:
        with pytest.warns(NonPortableOptionWarning, match="stop_when"):
            await read(await world.agent.stream("Hello", stop_when=lambda steps: False))
    async with agent_world("local", tmp_path, made.agent, strict=True) as world:
        with pytest.raises(NonPortableOptionError):
            await world.agent.stream("Hello", stop_when=lambda steps: False)


async def test_an_error_outside_of_the_loop_ends_the_stream(tmp_path: Path) -> None:
    """A defect of the agent's body: the run fails, and every reader is told so."""
    made = Desk()

    async def instructions(_: Json) -> str:
        raise NonRetriableError("no instructions today")

    made.agent.instructions = instructions
    async with agent_world("local", tmp_path, made.agent) as world:
        run = await world.agent.stream("Hello")
        result = await run.output.result()
        assert result.finish_reason == "error"
        assert result.error is not None and result.error["message"].endswith("no instructions today")


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_network_is_durable_too(kind: str, tmp_path: Path) -> None:
    made = Desk()
    async with agent_world(kind, tmp_path, made.agent) as world:
        run = await world.agent.network('!net tool:add {"a": 1, "b": 2}')
        chunks = await read(run)
        assert chunks[-1].type == "network-execution-event-finish"
        assert await read(await world.agent.observe(run.run_id)) == chunks
        asking = await world.agent.network('!net tool:refund {"cents": 3}')
        asked = await read(asking)
        assert asked[-1].type == "suspended" and made.done == [("add", [1, 2])]
        rest = await read(await world.agent.approve_tool_call(asking.run_id))
        assert rest[-1].type == "network-execution-event-finish"
    assert made.done == [("add", [1, 2]), ("refund", 3)]


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_thread_remembers_what_durable_runs_said(kind: str, tmp_path: Path) -> None:
    model = ScriptedModel()
    agent = Agent("desk", model=model, memory=Memory())
    async with agent_world(kind, tmp_path, agent) as world:
        memory = {"thread": "t-1", "resource": "ada"}
        await read(await world.agent.stream("My name is Ada", memory=memory))
        await read(await world.agent.stream("Who am I?", memory=memory))
        kept = (await world.agent.engine.storage.messages("t-1")).items
    assert [message.text for message in kept] == [
        "My name is Ada",
        "Echo: My name is Ada",
        "Who am I?",
        "Echo: Who am I?",
    ]
    assert "My name is Ada" in [message.text for message in model.prompts[-1].messages]


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_is_sent_to_a_run_comes_in_between_its_steps(kind: str, tmp_path: Path) -> None:
    turns: list[list[Piece]] = [[Delay(300), ToolCall("add", {"a": 1, "b": 2}, id="c1")], [Text("seen")]]
    made = Desk(ScriptedModel(turns))
    async with agent_world(kind, tmp_path, made.agent) as world:
        run = await world.agent.stream("Go", memory={"thread": "t", "resource": "u"})
        signals = Signals(world.agent.engine.storage, AgentRuns(world.agent, ids=new_ids()))
        accepted = await signals.send_message("desk", "By the way", run_id=run.run_id)
        chunks = await read(run)
    assert accepted.run_id == run.run_id
    assert chunks[-1].type == "finish" and "data-user-message" in kinds(chunks)
    assert "By the way" in str(made.model.prompts[-1].messages)


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_a_run_did_not_take_in_begins_another_one(kind: str, tmp_path: Path) -> None:
    asking = asyncio.Event()

    @tool
    async def wait() -> str:
        """Waits until it is spoken to."""
        await asking.wait()
        return "now"

    turns: list[list[Piece]] = [[ToolCall("wait", {}, id="c1")], [Text("heard")]]
    agent = Agent("desk", model=ScriptedModel(turns), tools=[wait], max_steps=1)
    async with agent_world(kind, tmp_path, agent) as world:
        run = await world.agent.stream("Go", memory={"thread": "t", "resource": "u"})
        async for said in run.full_stream:
            if said.type == "tool-call":
                break
        runs = AgentRuns(world.agent, ids=new_ids())
        signals = Signals(world.agent.engine.storage, runs)
        accepted = await signals.send_message("desk", "Late", run_id=run.run_id)
        asking.set()
        assert (await run.output.result()).finish_reason == "max-steps"
        following = f"signal-{accepted.signal.id}"
        async with asyncio.timeout(10):
            while await world.agent.engine.storage.run(following) is None:
                await asyncio.sleep(0.01)
        assert text_of([found async for found in runs.follow(following)]) == "heard"


@pytest.mark.parametrize("kind", ENGINES)
async def test_an_agent_of_pydantic_ai_is_durable(kind: str, tmp_path: Path) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.test import TestModel

    agent = pydantic_ai.Agent(TestModel(custom_output_text="hello there"), name="guest")
    async with agent_world(kind, tmp_path, agent) as world:
        result = await world.agent.generate("Hi")
    assert (result.text, result.finish_reason) == ("hello there", "stop")
