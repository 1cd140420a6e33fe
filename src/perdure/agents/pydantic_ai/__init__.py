"""Agents of pydantic-ai, made durable by perdure.

`PerdureDurability` is a capability: an agent that has it records its model calls and tool calls as steps wherever it
runs inside of a perdure function. `PydanticBody` is such an agent as a durable agent, with the runs, streams and
approvals of the agents protocol.

Importing this package loads nothing of pydantic-ai; taking either of the two does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from perdure.agents.foreign import is_pydantic_agent

if TYPE_CHECKING:
    from perdure.agents.pydantic_ai.body import PydanticBody
    from perdure.agents.pydantic_ai.durability import PerdureDurability
    from perdure.agents.pydantic_ai.waiting import failed_event, resolved_event

__all__ = ["PerdureDurability", "PydanticBody", "failed_event", "is_pydantic_agent", "resolved_event"]

_LATER = {
    "PerdureDurability": "durability",
    "PydanticBody": "body",
    "failed_event": "waiting",
    "resolved_event": "waiting",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
