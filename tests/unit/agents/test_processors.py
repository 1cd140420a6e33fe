"""Processors, tripwires, policies and structured output in runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from perdure.agents import ending
from perdure.agents.agent import AgentFailedError
from perdure.agents.chunks import Chunk
from perdure.agents.messages import Message, Part, TextPart
from perdure.agents.models import Models, resolve
from perdure.agents.policies import Iteration, StepInfo, StepSummary
from perdure.agents.processors import Processor, ProcessorContext
from perdure.agents.tools import tool
from perdure.model.json import Json
from perdure.testing.script import ToolCall
from tests.support.agent_runs import kinds, only, said_by, scripted


@tool
def add(x: int) -> int:
    """Adds."""
    return x + 1


class Shouting(Processor):
    id = "shouting"

    def process_input(self, messages: list[Message], ctx: ProcessorContext) -> list[Message]:
        for message in messages:
            message.parts = [TextPart(message.text.upper())]
        return messages

    async def process_input_step(self, messages: list[Message], ctx: ProcessorContext) -> list[Message]:
        return [*messages, Message("extra", "system", [TextPart(f"step {ctx.step}")], 0)]

    def process_output_stream(self, chunk: Chunk, ctx: ProcessorContext) -> Chunk | None:
        if chunk.type == "text-delta":
            return Chunk({**chunk, "payload": {**chunk.payload, "text": chunk.payload["text"].upper()}})
        return Chunk({}) if chunk.type == "response-metadata" else None

    def process_output_step(self, parts: list[Part], ctx: ProcessorContext) -> list[Part]:
        return [TextPart(part.text.upper()) if isinstance(part, TextPart) else part for part in parts]


async def test_each_phase_may_change_what_passes() -> None:
    agent, model = scripted("hello", input_processors=[Shouting()], output_processors=[Shouting()])
    said = await said_by(agent, "hi")
    assert model.prompts[0].messages[0].text == "HI"
    assert model.prompts[0].system == ["step 0"]
    assert only(said, "text-delta")[0]["text"] == "HELLO"
    assert only(said, "response-metadata") == []
    assert only(said, "finish")[0]["output"]["text"] == "HELLO"


class Guard(Processor):
    """Stops what it is told to; no base class is needed, but it documents."""

    id = "guard"

    def __init__(self, *, input: bool = False, answers: tuple[str, ...] = (), result: bool = False) -> None:
        self._input, self._answers, self._result = input, answers, result

    def process_input(self, messages: list[Message], ctx: ProcessorContext) -> None:
        if self._input:
            ctx.abort("not allowed", metadata={"rule": 1})

    def process_output_step(self, parts: list[Part], ctx: ProcessorContext) -> None:
        if any(isinstance(part, TextPart) and part.text in self._answers for part in parts):
            ctx.abort("say it better", retry=True)

    def process_output_result(self, messages: list[Message], ctx: ProcessorContext) -> list[Message] | None:
        if self._result:
            ctx.abort("never mind")
        return [Message(item.id, item.role, [TextPart("[" + item.text + "]")], 0) for item in messages]


async def test_a_tripwire_on_the_input() -> None:
    agent, model = scripted("never", input_processors=[Guard(input=True)])
    said = await said_by(agent)
    assert kinds(said) == "start tripwire finish"
    assert only(said, "tripwire") == [{"reason": "not allowed", "processorId": "guard", "metadata": {"rule": 1}}]
    assert model.calls == 0
    agent, _ = scripted("never", input_processors=[Guard(input=True)])
    result = await agent.generate("go")
    assert (result.finish_reason, result.text) == ("tripwire", "")


async def test_a_tripwire_with_retry_asks_again() -> None:
    agent, model = scripted("bad", "worse", "good", output_processors=[Guard(answers=("bad", "worse"))])
    result = await agent.generate("go")
    assert "[good]" in result.text or result.text == "good"
    assert [step.finish_reason for step in result.steps] == ["retry", "retry", "stop"]
    assert "say it better" in model.prompts[1].messages[-1].text
    assert len(model.prompts[2].messages) == 2
    agent, model = scripted("bad", "bad", "bad", output_processors=[Guard(answers=("bad",))])
    result = await agent.generate("go", max_processor_retries=1)
    assert (result.finish_reason, model.calls) == ("tripwire", 2)


async def test_processing_the_result() -> None:
    agent, _ = scripted("done", output_processors=[Guard()])
    said = await said_by(agent)
    assert kinds(said).endswith("text-end step-finish finish")
    agent, _ = scripted("done", output_processors=[Guard(result=True)])
    said = await said_by(agent)
    assert kinds(said).endswith("tripwire step-finish finish")
    assert only(said, "finish")[0]["stepResult"]["reason"] == "tripwire"


async def test_stop_when() -> None:
    seen: list[StepSummary] = []

    def stop(steps: list[StepSummary]) -> bool:
        seen[:] = steps
        return len(steps) == 2

    agent, model = scripted(*[[ToolCall("add", {"x": n})] for n in range(5)], tools=[add], policies={"stop": stop})
    said = await said_by(agent, stop_when="stop", max_steps=9)
    assert model.calls == 2
    assert kinds(said).endswith("tool-result step-finish finish")
    assert only(said, "step-finish")[-1]["stepResult"]["isContinued"] is False
    assert [call["toolName"] for call in seen[0].tool_calls] == ["add"]
    assert seen[1].tool_results[0]["result"] == 2


async def test_prepare_step() -> None:
    def prepare(info: StepInfo) -> Json:
        return {"system": f"step {info.number}", "active_tools": [], "model_settings": {"seed": info.number}}

    agent, model = scripted([ToolCall("add", {"x": 1})], "ok", tools=[add])
    await agent.generate("go", prepare_step=prepare)
    assert [prompt.system for prompt in model.prompts] == [["step 0"], ["step 1"]]
    assert model.prompts[1].settings == {"seed": 1}
    assert model.prompts[1].tools == []
    agent, _ = scripted("ok", max_retries=0)
    with pytest.raises(AgentFailedError, match="prepare_step: may change"):
        await agent.generate("go", prepare_step=lambda info: {"temperature": 1})


async def test_on_iteration_complete_may_give_feedback_or_stop() -> None:
    seen: list[tuple[int, bool]] = []

    async def look(done: Iteration) -> Json:
        seen.append((done.iteration, done.is_final))
        return {"feedback": "more detail, please"} if done.iteration == 2 else None

    agent, model = scripted([ToolCall("add", {"x": 1})], "short", "long", tools=[add])
    result = await agent.generate("go", on_iteration_complete=look)
    assert result.text == "long"
    assert seen == [(1, False), (2, True), (3, True)]
    assert model.prompts[2].messages[-1].text == "more detail, please"
    agent, model = scripted([ToolCall("add", {"x": 1})], "never", tools=[add])
    result = await agent.generate("go", on_iteration_complete=lambda done: {"continue": False})
    assert (model.calls, result.finish_reason) == (1, "tool-calls")


@dataclass
class City:
    city: str


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


async def test_structured_output_while_it_comes() -> None:
    agent, _ = scripted('{"city": "Paris in spring"}')
    run = await agent.stream("go", structured_output={"schema": SCHEMA})
    partial = [found async for found in run.output.object_stream]
    assert partial[-1] == {"city": "Paris in spring"}
    assert all(one != next_one for one, next_one in pairwise(partial))
    assert {"city": "Paris in"} in [{**item, "city": item.get("city", "").strip()} for item in partial]
    said = [chunk.type async for chunk in run.full_stream]
    assert said.index("object") < said.index("text-delta") or said.index("object") < said.index("text-end")
    assert said[-3:] == ["object-result", "step-finish", "finish"]
    assert await run.output.object == {"city": "Paris in spring"}


async def test_an_object_of_the_type_that_was_given() -> None:
    agent, model = scripted('{"city": "Paris"}')
    assert (await agent.generate("go", structured_output=City)).object == City("Paris")
    assert model.prompts[0].output is not None


async def test_an_object_that_does_not_fit() -> None:
    agent, _ = scripted('{"town": "Paris"}')
    said = await said_by(agent, structured_output={"schema": SCHEMA})
    assert only(said, "error")[0]["error"]["code"] == "STRUCTURED_OUTPUT_SCHEMA_VALIDATION_FAILED"
    assert kinds(said).endswith("text-end error step-finish finish")
    agent, _ = scripted('{"town": "Paris"}')
    result = await agent.generate("go", structured_output={"schema": SCHEMA, "error_strategy": "warn"})
    assert (result.object, result.finish_reason) == (None, "stop")
    agent, _ = scripted("no json")
    wanted = {"schema": SCHEMA, "error_strategy": "fallback", "fallback_value": {"city": "?"}}
    result = await agent.generate("go", structured_output=wanted)
    assert (result.object, result.used_fallback, result.text) == ({"city": "?"}, True, "no json")


async def test_an_object_that_a_second_model_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Json] = []
    _, second = scripted('{"city": "Paris"}')

    def resolved(name: Json) -> Models:
        made.append(name)
        return resolve(second)

    monkeypatch.setattr(ending, "resolve", resolved)
    agent, first = scripted("It is Paris.")
    result = await agent.generate("go", structured_output={"schema": SCHEMA, "model": "test/second"})
    assert result.object == {"city": "Paris"}
    assert made == ["test/second"]
    assert first.prompts[0].output is None


class Censor(Processor):
    """Stops in the middle of what is said."""

    id = "censor"

    def process_output_stream(self, chunk: Chunk, ctx: ProcessorContext) -> Chunk | None:
        if "bad" in str(chunk.payload.get("text")):
            ctx.abort("a bad word")
        return chunk


async def test_a_tripwire_in_the_middle_of_an_answer_is_no_fault_of_the_model() -> None:
    agent, model = scripted("a bad day", "never", output_processors=[Censor()], max_retries=3)
    said = await said_by(agent)
    assert kinds(said).endswith("text-delta tripwire step-finish finish") and model.calls == 1
    assert only(said, "tripwire") == [{"reason": "a bad word", "processorId": "censor"}]
