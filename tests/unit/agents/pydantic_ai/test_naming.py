"""Names of steps: each unit of pydantic-ai has one, those of later versions too."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest
from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationId,
    EventStreamHandlerId,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)

from perdure.agents.pydantic_ai.naming import StepNames, tool_call_id, unknown_name

# Persisted: a run that waits goes on by these. Do not change what stands here.
NAMES: dict[DurableOperationId, str] = {
    ModelRequestId(streaming=True, model_name="default"): "llm",
    ModelRequestId("openai:gpt", model_name="default"): "llm",
    ModelCompactMessagesId(model_name="default"): "compact",
    ModelCancelSuspendedResponseId(model_name="default"): "cancel",
    EventStreamHandlerId(): "event",
    CapabilityOperationId("memory", operation="recall"): "capability:memory.recall",
    ToolsetGetToolsId("mcp", toolset_id="files"): "tools:files",
    ToolsetGetInstructionsId(toolset_id="files"): "instructions:files",
    ToolsetValidateToolArgumentsId("function", toolset_id="desk"): "check",
    ToolsetCallToolId("function", toolset_id="desk"): "tool",
}


@pytest.mark.parametrize(("operation", "name"), NAMES.items(), ids=lambda value: type(value).__name__)
def test_the_names_of_units_stay(operation: DurableOperationId, name: str) -> None:
    assert StepNames().operation_name(operation) == name
    assert StepNames().invocation_name(operation, label="add").operation_name == name


def test_every_kind_of_unit_that_pydantic_ai_has_is_known() -> None:
    assert {type(operation) for operation in NAMES} == set(get_args(DurableOperationId))


def test_a_kind_that_is_not_known_has_a_name_too() -> None:
    @dataclasses.dataclass(frozen=True)
    class ModelDreamId:
        model_id: str | None
        toolset_id: str
        deep: bool

    assert unknown_name(ModelDreamId(None, "beds", True)) == "model-dream:beds"
    assert unknown_name(object()) == "object"
    assert StepNames().operation_name(ModelDreamId(None, "beds", True)) == "model-dream:beds"  # type: ignore[arg-type]
    assert tool_call_id(ModelDreamId(None, "beds", True), ()) is None
