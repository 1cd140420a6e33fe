"""Agents: what is declared, what may be asked of them, and the options of their runs."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest

import perdure.agents
from perdure import App, Context
from perdure.agents import Agent, tool
from perdure.agents.agent import AgentFailedError
from perdure.agents.messages import TextPart, Usage
from perdure.agents.models import Answer, Call, ModelError, Prompt
from perdure.agents.options import OptionError, RunOptions
from perdure.agents.schemas import ShapeError
from perdure.agents.scoring import Scorer
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel
from perdure.testing.script import Break, Fail, Text, ToolCall
from tests.support.agent_runs import said_by, scripted


@tool
def add(x: int) -> int:
    """Adds."""
    return x + 1


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"id": "no spaces please"}, "id: must be"),
        ({"max_steps": 0}, "max_steps: must be a whole number, at least 1"),
        ({"tools": [add, add]}, "add: is there twice"),
        ({"default_toolsets": ["files"]}, "default_toolsets: no toolset 'files'"),
        ({"tools": [tool(name="t", requires_approval="who knows")(lambda: 1)]}, "no policy 'who knows'"),
    ],
)
def test_a_wrong_declaration_names_the_field(declared: dict[str, Json], said: str) -> None:
    given: Json = {"id": "a", "model": ScriptedModel(), **declared}
    with pytest.raises(ConfigError, match=said):
        Agent(**given)


def test_a_wrong_model_is_told_at_once() -> None:
    with pytest.raises(ModelError, match="model"):
        Agent("a", model=7)


async def test_what_an_agent_has_can_be_listed() -> None:
    app = App("shop")

    @app.function("ship")
    async def ship(ctx: Context) -> None:
        """Ships."""

    helper, _ = scripted()
    agent, model = scripted(
        name="A1",
        description="Helps.",
        tools=[add],
        agents={"helper": helper},
        workflows={"ship": ship},
        scorers={"short": Scorer(str)},
        default_options={"max_steps": 2},
        instructions=["One.", "Two."],
    )
    assert sorted(await agent.list_tools()) == ["add", "agent-helper", "workflow-ship"]
    assert agent.list_agents() == {"helper": helper}
    assert agent.list_workflows() == {"ship": ship}
    assert agent.list_scorers() == {"short": Scorer(str)}
    assert (agent.name, agent.get_description(), agent.get_memory()) == ("A1", "Helps.", None)
    assert agent.get_model().name == model.name
    assert agent.get_default_options() == {"max_steps": 2}
    assert await agent.get_instructions() == ["One.", "Two."]
    assert agent.list_input_processors() == agent.list_output_processors() == []


def test_new_code_is_the_same_version_until_it_says_otherwise() -> None:
    one, _ = scripted(instructions="Be brief.")
    other, _ = scripted(instructions="Be long.")
    given, _ = scripted(version="7")
    assert (one.version, other.version, given.version) == ("1", "1", "7")


async def test_default_options_hold_where_nothing_else_is_said() -> None:
    agent, model = scripted(
        *[[ToolCall("add", {"x": n})] for n in range(9)], tools=[add], default_options={"max_steps": 2}
    )
    assert (await agent.generate("go")).finish_reason == "max-steps"
    assert model.calls == 2
    await agent.generate("go", max_steps=1)
    assert model.calls == 3


async def test_the_request_context_is_checked_and_reaches_tools() -> None:
    seen: list[Json] = []

    @tool
    def look(ctx: perdure.agents.ToolContext) -> int:
        """Looks."""
        seen.append(ctx.request_context)
        return 1

    schema = {"type": "object", "properties": {"user": {"type": "string"}}, "required": ["user"]}
    agent, _ = scripted([ToolCall("look", {})], "ok", tools=[look], request_context_schema=schema)
    with pytest.raises(ShapeError, match=r"request_context.user"):
        await agent.generate("go", request_context={"user": 7})
    await agent.generate("go", request_context={"user": "Ada"})
    assert seen == [{"user": "Ada"}]


class Priced:
    """A model that knows its price."""

    name = "test/priced"

    async def ask(self, prompt: Prompt, call: Call) -> Answer:
        assert prompt.include_raw_chunks
        return Answer([TextPart("ok")], "stop", Usage(1, 1, 2), "priced", "test", cost=0.25)

    async def close(self) -> None:
        """Nothing."""


async def test_a_run_may_be_given_another_model() -> None:
    agent, model = scripted("never")
    result = await agent.generate("go", model=Priced(), include_raw_chunks=True)
    assert model.calls == 0
    assert result.cost == 0.25


async def test_settings_reach_the_model() -> None:
    agent, model = scripted("ok")
    await agent.generate(
        "go", model_settings={"temperature": 0.5}, provider_options={"openai": {"a": 1}}, headers={"x-a": "b"}
    )
    prompt = model.prompts[0]
    assert (prompt.settings, prompt.provider_options) == ({"temperature": 0.5}, {"openai": {"a": 1}})
    assert prompt.headers == {"x-a": "b"}


async def test_errors_carry_no_secret_and_no_stack() -> None:
    agent, _ = scripted([Text("x"), Break()], max_retries=0)
    with pytest.raises(AgentFailedError) as failed:
        await agent.generate("go")
    assert set(failed.value.error) <= {"name", "message", "code"}
    assert failed.value.result.text == "x"


async def test_nothing_to_answer() -> None:
    agent, _ = scripted("ok")
    with pytest.raises(ValueError, match="messages: there is nothing to answer"):
        await said_by(agent, [])


def test_every_name_of_the_room_is_there() -> None:
    for name in perdure.agents.__all__:
        assert getattr(perdure.agents, name) is not None
    with pytest.raises(AttributeError):
        getattr(perdure.agents, "nothing")  # noqa: B009


def test_nothing_heavy_is_loaded_before_it_is_used() -> None:
    source = (
        "import sys; from perdure.agents import Agent, tool, Memory, create_durable_agent; "
        "Agent('a', model='openai/gpt-5.5'); "
        "print([name for name in ('pydantic_ai', 'pydantic', 'mcp', 'openai', 'jsonschema') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_pauses_between_attempts_are_those_that_were_asked_for() -> None:
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    agent, _ = scripted([Fail("busy", 429, retry_after=7)], "ok")
    agent.surroundings = replace(agent.surroundings, sleep=pause)
    assert (await agent.generate("go")).text == "ok"
    assert waited == [7]


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ({"instructions": 5}, "instructions: must be a text"),
        ({"agents": [5]}, "agents.0: must be an Agent"),
        ({"agents": {"bad key!": scripted()[0]}}, "agents.bad key!: a key must be"),
        ({"workflows": {"x": len}}, "workflows.x: must be a function of an app"),
        ({"memory": 5}, "memory: must be a Memory"),
        ({"input_processors": [5]}, "input_processors[0]: has none of process_input"),
        ({"policies": {"x": 5}}, "policies.x: must be a function"),
        ({"toolsets": {"x": 5}}, "toolsets.x: must be a toolset"),
        ({"tools": [5]}, "5: must be a function or a Tool"),
        ({"default_options": {"max_step": 3}}, "default_options.max_step: is no option; did you mean max_steps?"),
        ({"default_options": {"max_steps": 0}}, "default_options.max_steps: must be at least 1"),
    ],
)
def test_what_an_agent_cannot_be_made_of_is_named(declared: dict[str, Json], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        scripted(**declared)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"model": "nope"}, 'model: expected "provider/model"'),
        ({"on_chunk": 5}, "on_chunk: must be a function"),
        ({"toolsets": 5}, "toolsets: must be names"),
        ({"client_tools": 5}, "client_tools: must be tools"),
        ({"request_context": 5}, "request_context: must be an object"),
        ({"context": [5]}, "context: messages[0]"),
        ({"max_processor_retries": -1}, "max_processor_retries: must be at least 0"),
        ({"max_steps": "3"}, "maxSteps: Expected `int | null`, got `str`"),
    ],
)
async def test_options_that_cannot_be_taken_are_named_before_a_run_begins(options: Json, problem: str) -> None:
    agent, model = scripted("hi")
    with pytest.raises(OptionError, match=re.escape(problem)):
        await agent.generate("go", **options)
    assert model.calls == 0


def test_the_address_of_a_model_is_not_for_those_who_only_send_options() -> None:
    for model in ({"id": "a/b", "url": "http://x"}, [{"model": {"id": "a/b", "url": "http://x"}}]):
        with pytest.raises(OptionError, match="model: must be"):
            RunOptions.from_json({"model": model})
