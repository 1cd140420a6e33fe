"""Names of steps: which id each unit of a pydantic-ai agent is recorded under.

The ids are persisted: a run that waits for weeks goes on by them. They are ours, like those of agents of this package:
`llm:<n>` for a model call, `tool:<toolCallId>` for a tool call. What pydantic-ai may add later gets a name made of its
type and fields, so that an upgrade of it needs none of this package.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationId,
    DurableOperationNamer,
    EventStreamHandlerId,
    ModelCancelSuspendedResponseId,
    ModelCompactMessagesId,
    ModelRequestId,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.durable_exec._operation_names import DurableInvocationName
from pydantic_ai.tools import RunContext

MODEL: Final = "llm"
TOOL: Final = "tool"


class StepNames(DurableOperationNamer):
    """What a unit is called before it is known which one of its kind it is."""

    def operation_name(self, operation_id: DurableOperationId) -> str:
        """The part of a step's id that says what the unit does."""
        found: object = operation_id
        match found:
            case ModelRequestId():
                return MODEL
            case ModelCompactMessagesId():
                return "compact"
            case ModelCancelSuspendedResponseId():
                return "cancel"
            case EventStreamHandlerId():
                return "event"
            case CapabilityOperationId(capability_id=capability, operation=operation):
                return f"capability:{capability}.{operation}"
            case ToolsetGetToolsId(toolset_id=toolset):
                return f"tools:{toolset}"
            case ToolsetGetInstructionsId(toolset_id=toolset):
                return f"instructions:{toolset}"
            case ToolsetValidateToolArgumentsId():
                return "check"
            case ToolsetCallToolId():
                return TOOL
            case _:
                return unknown_name(operation_id)

    def invocation_name(self, operation_id: DurableOperationId, *, label: str | None) -> DurableInvocationName:
        """The same: what tells units of a kind apart is their place, or their tool call."""
        return DurableInvocationName(self.operation_name(operation_id))


def unknown_name(operation_id: object) -> str:
    """A name for a kind of unit that this version does not know: its type and its fields.

    >>> @dataclasses.dataclass
    ... class ThinkHarderId:
    ...     toolset_id: str
    >>> unknown_name(ThinkHarderId("maths"))
    'think-harder:maths'
    """
    kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", type(operation_id).__name__).lower().removesuffix("-id")
    if not dataclasses.is_dataclass(operation_id):
        return kind
    values = [getattr(operation_id, field.name) for field in dataclasses.fields(operation_id)]
    told = [str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool)]
    return ":".join([kind, *told])


def tool_call_id(operation_id: object, cache_key: tuple[object, ...]) -> str | None:
    """The tool call that a unit belongs to; None for units that belong to none."""
    if not isinstance(operation_id, ToolsetCallToolId | ToolsetValidateToolArgumentsId):
        return None
    return next((part.tool_call_id for part in cache_key if isinstance(part, RunContext)), None)
