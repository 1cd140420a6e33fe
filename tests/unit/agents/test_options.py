"""Options of runs: data, named policies, what only this process has, and callbacks, taken apart."""

from __future__ import annotations

import warnings

import pytest

from perdure.agents.options import (
    NonPortableOptionError,
    NonPortableOptionWarning,
    OptionError,
    RunKeywords,
    RunOptions,
    StructuredOutput,
)
from perdure.agents.splitting import SplitOptions, split_options
from perdure.agents.tools import client_tool
from perdure.model.json import Json
from perdure.testing.models import ScriptedModel


def enough(steps: Json) -> bool:
    return len(steps) > 2


def split(*, durable: bool = False, strict: bool = False, **given: Json) -> SplitOptions:
    keywords: RunKeywords = given  # type: ignore[assignment]
    return split_options(keywords, policies={"enough": enough}, toolsets={"files": []}, durable=durable, strict=strict)


def test_data_goes_into_the_run_and_back() -> None:
    found = split(max_steps=3, model_settings={"temperature": 0}, request_context={"a": 1}, tool_choice="required")
    assert found.data.to_json() == {
        "maxSteps": 3,
        "modelSettings": {"temperature": 0},
        "requestContext": {"a": 1},
        "toolChoice": "required",
    }
    assert RunOptions.from_json(found.data.to_json()) == found.data


def test_registered_policies_become_their_names() -> None:
    assert split(durable=True, strict=True, stop_when=enough).data.stop_when == "enough"
    assert split(stop_when="enough").data.stop_when == "enough"
    with pytest.raises(OptionError, match="no policy 'more' is registered"):
        split(stop_when="more")


def test_other_functions_are_warned_of_in_durable_runs() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = split(stop_when=lambda steps: True)
    assert list(found.closures.policies) == [found.data.stop_when]
    with pytest.warns(NonPortableOptionWarning, match="stop_when, model"):
        split(durable=True, stop_when=lambda steps: True, model=ScriptedModel())
    with pytest.raises(NonPortableOptionError, match="stop_when"):
        split(durable=True, strict=True, stop_when=lambda steps: True)


def test_callbacks_never_reach_the_run() -> None:
    found = split(durable=True, strict=True, on_chunk=print, on_finish=print)
    assert found.callbacks.on_chunk is print
    assert found.data == RunOptions()


def test_client_tools_and_toolsets() -> None:
    found = split(client_tools=[client_tool("browser", "Shows.", {"type": "object"})], toolsets=["files"])
    assert found.data.client_tools == {"browser": {"description": "Shows.", "inputSchema": {"type": "object"}}}
    assert found.data.toolsets == ["files"]
    with pytest.raises(OptionError, match="toolsets: none 'mail'"):
        split(toolsets=["mail"])


def test_structured_output_in_its_forms() -> None:
    schema = {"type": "object"}
    assert split(structured_output={"schema": schema}).data.structured_output == StructuredOutput(schema)
    found = split(structured_output={"schema": schema, "error_strategy": "fallback", "fallback_value": {}})
    assert found.data.structured_output == StructuredOutput(schema, "fallback", {})
    typed = split(structured_output=dict[str, int])
    assert typed.data.structured_output is not None
    assert typed.data.structured_output.schema["type"] == "object"
    assert typed.closures.output_shape is not None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_step": 3}, "max_step: is no option; did you mean max_steps"),
        ({"max_steps": 0}, "max_steps: must be at least 1"),
        ({"max_steps": "many"}, "maxSteps"),
        ({"tool_choice": "maybe"}, "tool_choice: must be"),
        ({"tool_call_concurrency": 0}, "tool_call_concurrency"),
        ({"run_id": ""}, "run_id: must be"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Json], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        split(**given)
