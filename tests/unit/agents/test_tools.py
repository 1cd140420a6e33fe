"""Tools: declared from functions and schemas, and what is wrong with a declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import pytest
from pydantic import BaseModel, Field

from perdure.agents.carrying import MAX_OUTCOME
from perdure.agents.context import StepsUnavailableError, ToolContext, Writer
from perdure.agents.schemas import Shape, ShapeError
from perdure.agents.tools import Tool, client_tool, input_refusal, tool, tools_by_name
from perdure.model.errors import ConfigError
from perdure.model.json import Json
from perdure.testing.script import ToolCall
from tests.support.agent_runs import only, said_by, scripted


@dataclass
class Place:
    city: str
    country: str = "NO"


class Point(msgspec.Struct):
    x: int
    y: int


class Item(BaseModel):
    sku: str
    count: int = Field(ge=1)


def context(**given: Json) -> ToolContext:
    writer = Writer(lambda chunk: None, "r", "c1", "t")
    return ToolContext(run_id="r", agent_id="a", tool_call_id="c1", tool_name="t", writer=writer, **given)


def test_a_schema_from_annotations_and_docstring() -> None:
    @tool
    def forecast(place: Place, days: Annotated[int, "How many."] = 1, unit: Literal["C", "F"] = "C") -> str:
        """The weather of the next days.

        Args:
            place: Where.
            unit: Of temperature.
        """
        return ""

    assert forecast.description == "The weather of the next days."
    schema = forecast.input_schema
    assert schema["required"] == ["place"]
    assert schema["properties"]["days"] == {"type": "integer", "description": "How many."}
    assert schema["properties"]["unit"] == {"enum": ["C", "F"], "description": "Of temperature."}
    assert schema["properties"]["place"]["description"] == "Where."
    assert schema["additionalProperties"] is False


async def test_arguments_come_as_their_types() -> None:
    seen: list[Json] = []

    @tool
    def take(place: Place, points: list[Point], item: Item, ctx: ToolContext) -> int:
        """Takes all kinds."""
        seen.extend([place, points, item, ctx.tool_call_id])
        return 1

    args = {"place": {"city": "Oslo"}, "points": [{"x": 1, "y": 2}], "item": {"sku": "a", "count": 2}}
    assert await take.call(take.read_args(args), context()) == 1
    assert seen == [Place("Oslo"), [Point(1, 2)], Item(sku="a", count=2), "c1"]


def test_all_faults_are_told_with_their_places() -> None:
    @tool
    def take(place: Place, count: Annotated[int, Field(ge=1)]) -> None:
        """Takes."""

    with pytest.raises(ShapeError) as failed:
        take.read_args({"place": {"city": 7}, "count": 0, "more": 1})
    assert sorted(fault.path for fault in failed.value.faults) == ["count", "more", "place.city"]
    refusal = input_refusal("take", {}, failed.value)
    assert refusal["error"] is True
    assert "place.city" in refusal["message"]


async def test_explicit_schemas_are_checked() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    @tool(name="double", description="Doubles.", input_schema=schema)
    async def twice(args: dict[str, int]) -> int:
        return args["n"] * 2

    assert await twice.call(twice.read_args({"n": 4}), context()) == 8
    with pytest.raises(ShapeError, match="'n' is a required property"):
        twice.read_args({})
    plain = Tool("add", "Adds.", schema, lambda args, ctx: args["n"] + 1)
    assert await plain.call({"n": 1}, context()) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "not a name"}, "name: must be"),
        ({"on_crash": "panic"}, "on_crash: must be one of"),
        ({"retries": 2, "on_crash": "ask"}, "retries: a tool with on_crash"),
        ({"retries": -1}, "retries: must be"),
        ({"timeout": "soon"}, "timeout: "),
        ({"steps": True}, "steps: only a coroutine function"),
    ],
)
def test_a_wrong_declaration_names_the_field(options: dict[str, Json], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tool(**options)(lambda: None)


def test_parameters_that_no_model_can_give() -> None:
    with pytest.raises(ConfigError, match="x: has no annotation"):
        tool(lambda x: x)

    def many(*args: int) -> None:
        """Takes many."""

    with pytest.raises(ConfigError, match="args: must be a parameter that can be given by name"):
        tool(many)

    def odd(file: object) -> None:
        """Takes anything."""

    assert tool(odd).input_schema["properties"] == {"file": {}}


def test_names() -> None:
    def one() -> None:
        """One."""

    assert list(tools_by_name([one])) == ["one"]
    assert tools_by_name({"other": tool(one)})["other"].name == "other"
    with pytest.raises(ConfigError, match="one: is there twice"):
        tools_by_name([one, one])
    assert client_tool("browser", "Shows.", {}).is_client_tool


async def test_steps_must_be_declared() -> None:
    with pytest.raises(StepsUnavailableError, match="steps=True"):
        await context().step("x", lambda: 1)


def test_shapes() -> None:
    assert Shape(list[Place]).read([{"city": "Oslo"}]) == [Place("Oslo")]
    with pytest.raises(ShapeError) as failed:
        Shape({"type": "object", "required": ["a"], "properties": {"b": {"type": "string"}}}).read({"b": 1})
    assert sorted(fault.path for fault in failed.value.faults) == ["b", "root"]
    with pytest.raises(ConfigError, match="has no JSON Schema"):
        _ = Shape(type(context)).schema


def test_annotations_may_name_types_that_are_local() -> None:
    @dataclass
    class Order:
        cents: int

    def inner() -> Tool:
        @dataclass
        class Place:
            city: str

        @tool
        def ship(order: Order, place: Place) -> str:
            return f"{order.cents} to {place.city}"

        return ship

    schema = inner().input_schema
    assert schema["properties"]["order"]["properties"] == {"cents": {"type": "integer"}}
    assert schema["properties"]["place"]["properties"] == {"city": {"type": "string"}}


async def test_a_result_that_is_too_large_to_be_recorded_is_an_error_of_the_call() -> None:
    @tool
    def dump() -> str:
        return "x" * MAX_OUTCOME

    agent, _ = scripted([ToolCall("dump", {}, "c1")], "I see", tools=[dump])
    said = await said_by(agent)
    assert only(said, "tool-error")[0]["error"]["code"] == "TOOL_RESULT_TOO_LARGE"
    assert said[-1].payload["stepResult"]["reason"] == "stop"


async def test_what_looks_secret_in_an_error_is_told_to_nobody() -> None:
    @tool
    def charge() -> str:
        raise ConnectionError("https://ann:pa55word@pay.example answered 401 to Bearer abc.def.ghi")

    agent, model = scripted([ToolCall("charge", {}, "c1")], "I see", tools=[charge])
    said = await said_by(agent)
    told = "https://[redacted]@pay.example answered 401 to [redacted]"
    assert only(said, "tool-error")[0]["error"] == {"name": "ConnectionError", "message": told}
    assert "pa55word" not in str(model.prompts[1].messages)
